"""The formats that a transcript is written in, read back by readers written here after their specifications.

pytest tests/trainer/recognize/test_formats.py
"""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from trainer.recognize.formats import (
    FORMATS,
    as_ctm,
    as_json,
    as_srt,
    as_textgrid,
    as_vtt,
)
from trainer.recognize.subtitles import MAX_CUE_SECONDS, MAX_LINE_COLUMNS, columns
from trainer.recognize.transcript import TimedTranscript, Word

WORDS = (
    Word("so", 400, 3960, 0.9),
    Word('say"', 3960, 7000, 0.5),
    Word("<s>", 9000, 12_000, 0.25),
    Word("R&D", 60_000, 70_001, 1.0),
)
SHORT = TimedTranscript("my folder/an old tape.wav", 80_000, WORDS)
EMPTY = TimedTranscript("none.wav", 16_000, ())


def long_transcript(seed: int = 0) -> TimedTranscript:
    """An hour and a half of words and pauses."""
    rng, words, at = np.random.default_rng(seed), [], 0
    for _ in range(9000):
        at += int(rng.choice([0, 320, 1600, 8000, 20_000]))
        end = at + 320 * int(rng.integers(1, 40))
        words.append(Word("x" * int(rng.integers(1, 15)), at, end, float(rng.random())))
        at = end
    return TimedTranscript("long.wav", at + 100, tuple(words))


def read_textgrid(text: str) -> tuple[float, list[tuple[float, float, str]]]:
    """(xmax, intervals) of a one-tier TextGrid, after Praat's manual: values in order, quotes doubled in strings."""
    values = re.findall(r'= ("(?:[^"]|"")*"|[-\d.]+)', text)
    assert values[:2] == ['"ooTextFile"', '"TextGrid"']
    xmin, xmax, num_tiers, kind, name, tier_min, tier_max, size = values[2:10]
    assert (xmin, num_tiers, kind, name, tier_min, tier_max) == ("0", "1", '"IntervalTier"', '"words"', "0", xmax)
    rows = [values[i : i + 3] for i in range(10, len(values), 3)]
    assert len(rows) == int(size)
    return float(xmax), [(float(a), float(b), t[1:-1].replace('""', '"')) for a, b, t in rows]


def read_cues(text: str, mark: str) -> list[tuple[float, float, str]]:
    """(start, end, text) of SRT or VTT cues; blank lines end a cue."""
    stamp = rf"(\d\d):(\d\d):(\d\d)\{mark}(\d\d\d)"
    found = []
    for block in text.strip().split("\n\n"):
        match = re.fullmatch(rf"(?:(\d+)\n)?{stamp} --> {stamp}\n((?:.+\n?)+)", block)
        assert match, block
        h, m, s, ms, h2, m2, s2, ms2 = map(int, match.groups()[1:9])
        found.append((h * 3600 + m * 60 + s + ms / 1000, h2 * 3600 + m2 * 60 + s2 + ms2 / 1000, match.group(10)))
        assert match.group(1) is None or int(match.group(1)) == len(found)
    return found


@pytest.mark.parametrize("transcript", [SHORT, EMPTY, long_transcript()], ids=["short", "empty", "long"])
def test_textgrid_covers_the_recording_without_gaps_and_holds_the_words(transcript: TimedTranscript) -> None:
    xmax, intervals = read_textgrid(as_textgrid(transcript))
    assert xmax == transcript.seconds
    assert (intervals[0][0], intervals[-1][1]) == (0.0, xmax)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(intervals))
    assert all(start < end for start, end, _ in intervals)
    words = [interval for interval in intervals if interval[2]]
    assert words == [(w.start_seconds, w.end_seconds, w.text) for w in transcript.words]


@pytest.mark.parametrize(("write", "mark"), [(as_srt, ","), (as_vtt, ".")], ids=["srt", "vtt"])
@pytest.mark.parametrize("transcript", [SHORT, long_transcript(), long_transcript(1)], ids=["short", "long", "other"])
def test_cues_hold_every_word_once_and_never_overlap(transcript: TimedTranscript, write: object, mark: str) -> None:
    text = write(transcript)  # type: ignore[operator]
    if mark == ".":
        assert text.startswith("WEBVTT\n\n")
        text = text.removeprefix("WEBVTT\n\n").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    cues = read_cues(text, mark)
    assert " ".join(t for _, _, t in cues).split() == [w.text for w in transcript.words]
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(cues))
    assert all(start < end <= transcript.seconds + 0.001 for start, end, _ in cues)
    assert all(t.count("\n") <= 1 and columns(line) <= MAX_LINE_COLUMNS for _, _, t in cues for line in t.split("\n"))
    assert all(end - start <= MAX_CUE_SECONDS + 0.01 for start, end, _ in cues)
    assert len(cues) > len(transcript.words) / 20


def test_vtt_escapes_what_would_be_markup() -> None:
    assert "&lt;s&gt;" in as_vtt(SHORT)
    assert "R&amp;D" in as_vtt(SHORT)


def test_pause_ends_a_subtitle_and_a_short_one_stays_a_second() -> None:
    """The third word ends at 0.75 s, the fourth begins at 3.75 s of 5 s."""
    assert [(a, b) for a, b, _ in read_cues(as_srt(SHORT), ",")] == [(0.025, 1.025), (3.75, 4.75)]


def test_json_is_one_line_with_everything() -> None:
    line = as_json(SHORT)
    assert line.count("\n") == 1
    record = json.loads(line)
    assert (record["file"], record["seconds"], record["text"]) == (SHORT.name, 5.0, SHORT.text)
    assert record["words"][1] == {"word": 'say"', "start": 0.2475, "end": 0.4375, "confidence": 0.5}


def test_ctm_has_six_fields_a_line_whatever_the_files_name() -> None:
    rows = [line.split() for line in as_ctm(SHORT).splitlines()]
    assert rows[0] == ["an_old_tape", "1", "0.025", "0.223", "so", "0.900"]
    assert [row[4] for row in rows] == [w.text for w in WORDS]
    assert {len(row) for row in rows} == {6}
    assert as_ctm(replace(SHORT, label="a b/old tape")).split()[0] == "a_b/old_tape"


@pytest.mark.parametrize("name", FORMATS)
def test_recording_without_words_can_be_written(name: str) -> None:
    assert isinstance(FORMATS[name][1](EMPTY), str)
