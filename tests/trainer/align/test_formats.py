"""Files of an alignment (trainer.align.formats), read back by parsers written here.

pytest tests/trainer/align/test_formats.py
"""

from __future__ import annotations

import itertools
import json
import re

import pytest

from trainer.align.alignment import AlignedUnit, AlignedWord, Alignment, Unwritten
from trainer.align.formats import FORMATS, as_ctm, as_json, as_srt, as_textgrid, as_unit_ctm

SO = AlignedWord(
    "So", "aligned", 1600, 4800, 0.9, (AlignedUnit("s", 1600, 2500, 0.95), AlignedUnit("o", 2500, 4800, 0.86))
)
IT = AlignedWord('"it"', "unmatched", 4800, 4800, None)
NOW = AlignedWord("now", "unmatched", 4800, 4800, None)
DASH = AlignedWord("—", "silent", 4800, 4800, None)
NUMBER = AlignedWord("42", "unspelled", 6400, 9600, None)
GOES = AlignedWord('"goes".', "aligned", 9600, 14_401, 0.5, (AlignedUnit('"', 9600, 14_401, 0.5),))
ALIGNMENT = Alignment(
    "in/my file.wav", 32_000, (SO, IT, NOW, DASH, NUMBER, GOES), (Unwritten(20_000, 24_000, "um"),), ("n",)
)
EMPTY = Alignment("x.wav", 16_000, (AlignedWord("a", "unmatched", 0, 0, None),), ())


def read_textgrid(text: str) -> dict[str, list[tuple[float, float, str]]]:
    """{tier: intervals or points}, by Praat's description of the long format; checks what Praat requires."""
    values = re.findall(
        r"^ *(?:xmin|xmax|number|text|mark|name|class|size|intervals: size|points: size) = (.*)$", text, re.M
    )
    rest = iter(values)
    assert float(next(rest)) == 0
    xmax, tiers = float(next(rest)), dict[str, list[tuple[float, float, str]]]()
    for _ in range(int(next(rest))):
        kind, name = next(rest), next(rest).strip('"')
        assert (float(next(rest)), float(next(rest))) == (0, xmax)
        rows = []
        for _ in range(int(next(rest))):
            start = float(next(rest))
            end = float(next(rest)) if kind == '"IntervalTier"' else start
            label = next(rest)
            assert label[0] == label[-1] == '"'
            assert '"' not in label[1:-1].replace('""', "")
            rows.append((start, end, label[1:-1].replace('""', '"')))
        if kind == '"IntervalTier"':
            assert rows[0][0] == 0
            assert rows[-1][1] == xmax
            assert all(left[1] == right[0] for left, right in itertools.pairwise(rows))
            assert all(start < end for start, end, _ in rows)
        tiers[name] = rows
    assert next(rest, None) is None
    return tiers


def test_a_textgrid_tiles_the_recording_with_words_and_units() -> None:
    tiers = read_textgrid(as_textgrid(ALIGNMENT))
    assert [row for row in tiers["words"] if row[2]] == [
        (0.1, 0.3, "So"),
        (0.4, 0.6, "42"),
        (0.6, 0.9000625, '"goes".'),
    ]
    assert [row[2] for row in tiers["units"]] == ["", "s", "o", "", '"', ""]
    assert [row for row in tiers["unwritten"] if row[2]] == [(1.25, 1.5, "um")]
    assert tiers["unmatched"] == [(0.3, 0.3, '"it" now')]
    assert read_textgrid(as_textgrid(EMPTY)) == {
        "words": [(0, 1, "")],
        "units": [(0, 1, "")],
        "unmatched": [(0, 0, "a")],
    }


def test_an_independent_reader_finds_the_same_words(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Reference: praatio, where it is installed."""
    textgrid = pytest.importorskip("praatio.textgrid")
    (tmp_path / "x.TextGrid").write_text(as_textgrid(ALIGNMENT), encoding="utf-8")
    read = textgrid.openTextgrid(str(tmp_path / "x.TextGrid"), includeEmptyIntervals=True)
    assert [tuple(entry) for entry in read.getTier("words").entries if entry.label] == [
        (0.1, 0.3, "So"), (0.4, 0.6, "42"), (0.6, 0.9000625, '"goes".')
    ]  # fmt: skip
    (point,) = read.getTier("unmatched").entries
    assert (point.time, point.label.replace('""', '"')) == (0.3, '"it" now')  # praatio leaves a point's quotes doubled


def test_ctm_has_a_line_a_word_and_comments_for_the_rest() -> None:
    assert as_ctm(ALIGNMENT).splitlines() == [
        "my_file 1 0.1000 0.2000 So 0.900",
        ';; unmatched at 0.300: "it"',
        ";; unmatched at 0.300: now",
        ";; silent at 0.300: —",
        "my_file 1 0.4000 0.2000 42",
        'my_file 1 0.6000 0.3001 "goes". 0.500',
        ";; unwritten at 1.250 for 0.250: um",
    ]
    assert as_unit_ctm(ALIGNMENT).splitlines()[:2] == [
        "my_file 1 0.1000 0.0563 s 0.950",
        "my_file 1 0.1562 0.1437 o 0.860",
    ]


def test_json_says_everything() -> None:
    found = json.loads(as_json(ALIGNMENT))
    assert found["text"] == 'So "it" now — 42 "goes".'
    assert found["seconds"] == 2.0
    assert found["notes"] == ["n"]
    assert found["score"] == 0.7
    assert [word["status"] for word in found["words"]] == [
        "aligned", "unmatched", "unmatched", "silent", "unspelled", "aligned"
    ]  # fmt: skip
    assert found["words"][0]["units"][1] == {"unit": "o", "start": 0.1562, "end": 0.3, "score": 0.86}
    assert found["unwritten"] == [{"start": 1.25, "end": 1.5, "heard": "um"}]
    assert json.loads(as_json(EMPTY))["score"] is None


def test_subtitles_leave_out_only_what_is_not_heard() -> None:
    assert as_srt(ALIGNMENT) == '1\n00:00:00,100 --> 00:00:01,100\nSo — 42 "goes".\n\n'
    first = Alignment("x", 16_000, (DASH, SO), ())
    assert as_srt(first).splitlines()[2] == "— So"
    assert as_srt(EMPTY) == ""
    vtt = FORMATS["vtt"][1]
    assert vtt(ALIGNMENT) == 'WEBVTT\n\n00:00:00.100 --> 00:00:01.100\nSo — 42 "goes".\n\n'


def test_every_format_has_a_suffix_of_its_own() -> None:
    suffixes = [suffix for suffix, _ in FORMATS.values()]
    assert len(set(suffixes)) == len(suffixes)
    assert not {".txt", ".wav"} & set(suffixes), "an output would replace an input"
