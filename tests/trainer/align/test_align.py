"""Alignment of tones whose times are known (trainer.align.align): what is left out, what has no unit, long recordings.

pytest tests/trainer/align/test_align.py
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from data.text.spelling import Spelling
from data.text.vocab import Vocab
from data.utterance import Segment
from tests.helpers.spoken import recognizer, speak_words
from tests.helpers.tones import VOCAB
from trainer.align.align import align, align_many
from trainer.align.alignment import Alignment
from trainer.align.anchors import find_cuts
from trainer.align.lattice import FORCED
from trainer.align.search import AlignOptions
from trainer.align.spelled import spell_text
from trainer.errors import CorpusError
from trainer.recognize.transcribe import Windows

WORDS = "abc deaf gab face head bag cage".split()  # noqa: SIM905
FRAME = 320


def statuses(alignment: Alignment) -> list[str]:
    return [word.status for word in alignment.words]


def assert_near(alignment: Alignment, segments: list[Segment], words: list[int], within: int = 2 * FRAME) -> None:
    """Words of the transcript, by number, lie where these segments do, up to the frames that hear two tones."""
    for number, segment in zip(words, segments, strict=True):
        word = alignment.words[number]
        assert word.status == "aligned"
        assert abs(word.start - segment.start) <= within
        assert abs(word.end - segment.end) <= within


def test_every_word_is_found_where_it_is_said() -> None:
    waveform, segments = speak_words(WORDS)
    found = align(recognizer(), "x.wav", waveform, " ".join(WORDS))
    assert_near(found, segments, list(range(7)))
    assert [word.text for word in found.words] == WORDS
    assert found.unwritten == found.notes == ()
    assert all(word.score is not None and word.score > 0.9 for word in found.words)
    assert [[unit.text for unit in word.units] for word in found.words] == [list(word) for word in WORDS]
    ends = [time for word in found.words for unit in word.units for time in (unit.start, unit.end)]
    assert ends == sorted(ends)


@pytest.mark.parametrize("at", [0, 3, 7])
@pytest.mark.parametrize("extra", [["hehe"], ["feed", "dada", "bee"]])
def test_words_that_are_not_said_are_unmatched_wherever_they_stand(at: int, extra: list[str]) -> None:
    waveform, segments = speak_words(WORDS)
    found = align(recognizer(), "x.wav", waveform, " ".join([*WORDS[:at], *extra, *WORDS[at:]]))
    expected = ["aligned"] * at + ["unmatched"] * len(extra) + ["aligned"] * (7 - at)
    assert statuses(found) == expected
    assert_near(found, segments, [i for i, status in enumerate(expected) if status == "aligned"])
    assert all(word.score is None and word.start == word.end for word in found.words if word.status == "unmatched")
    assert f"{len(extra)} of {7 + len(extra)} words are not heard: {extra[0]!r}" in found.notes[0]


@pytest.mark.parametrize("at", [0, 3, 7])
@pytest.mark.parametrize("extra", [["hehe"], ["feed", "dada", "bee"]])
def test_speech_that_is_not_written_is_marked_wherever_it_stands(at: int, extra: list[str]) -> None:
    waveform, segments = speak_words([*WORDS[:at], *extra, *WORDS[at:]])
    found = align(recognizer(), "x.wav", waveform, " ".join(WORDS))
    assert statuses(found) == ["aligned"] * 7
    assert_near(found, segments[:at] + segments[at + len(extra) :], list(range(7)))
    (stretch,) = found.unwritten
    assert stretch.heard == " ".join(extra)
    assert abs(stretch.start - segments[at].start) <= 2 * FRAME
    assert abs(stretch.end - segments[at + len(extra) - 1].end) <= 2 * FRAME


def test_a_word_said_for_another_one_is_both_unmatched_and_unwritten() -> None:
    waveform, segments = speak_words([*WORDS[:3], "hehe", *WORDS[4:]])
    found = align(recognizer(), "x.wav", waveform, " ".join(WORDS))
    assert statuses(found) == ["aligned"] * 3 + ["unmatched"] + ["aligned"] * 3
    assert [stretch.heard for stretch in found.unwritten] == ["hehe"]
    assert_near(found, segments[4:], [4, 5, 6])


def test_a_word_with_one_wrong_letter_is_still_aligned() -> None:
    """What it takes to leave a word out is more than one letter that the model hears otherwise, for a frame or two."""
    waveform, segments = speak_words(["abc", "deafgab", "face"], tone=450)
    found = align(recognizer(), "x.wav", waveform, "abc deabgab face")
    assert statuses(found) == ["aligned"] * 3
    scores = [word.score for word in found.words if word.score is not None]
    assert len(scores) == 3
    assert scores[1] < min(scores[0], scores[2])
    assert_near(found, segments, [0, 1, 2])


def test_forced_every_word_gets_a_place() -> None:
    waveform, _ = speak_words(WORDS)
    options = AlignOptions(costs=FORCED)
    found = align(recognizer(), "x.wav", waveform, " ".join([*WORDS[:3], "hehe", *WORDS[3:]]), options=options)
    assert statuses(found) == ["aligned"] * 8
    assert found.unwritten == ()
    assert found.words[3].score is not None
    assert found.words[3].score < 0.01


def test_what_has_no_unit_is_told_and_its_word_gets_what_is_said_there() -> None:
    waveform, segments = speak_words(["abc", "hehe", "face", "hebagcafe"], tone=450)
    found = align(recognizer(), "x.wav", waveform, "abc 42 face hebägcafe —")
    assert statuses(found) == ["aligned", "unspelled", "aligned", "aligned", "silent"]
    number = found.words[1]
    assert abs(number.start - segments[1].start) <= 2 * FRAME
    assert abs(number.end - segments[1].end) <= 2 * FRAME
    assert "".join(unit.text for unit in found.words[3].units) == "hebgcafe"
    assert "no unit for '4' 1x, '2' 1x, 'ä' 1x" in found.notes[0]
    assert found.notes[0].endswith("words of nothing else (1) get what is said between their neighbours")
    assert found.unwritten == ()


def test_a_transcript_is_spelled_as_the_vocabulary_is() -> None:
    capitals = Vocab(("[PAD]", "|", *"ABC", "[UNK]"))
    assert [word.units for word in spell_text("Cab, ABBA", capitals).words] == [("C", "A", "B"), ("A", "B", "B", "A")]
    assert spell_text("cab", replace(capitals, spelling=Spelling("upper"))).words[0].text == "cab"
    phones = Vocab(("aa", "sh", "[UNK]", "[PAD]"), word_delimiter=None, phonemes=True)
    spelled = spell_text("sh aa q", phones)
    assert [word.units for word in spelled.words] == [("sh",), ("aa",), ()]
    assert spelled.lost == {"q": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "x.wav: the transcript is empty"), ("— !", "has no word, only '— !'"), ("caf\ufffd", r"holds U\+FFFD")],
)
def test_a_transcript_without_words_says_so(text: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        align(recognizer(), "x.wav", speak_words(["abc"])[0], text)


def test_too_few_frames_are_told_with_the_repeats() -> None:
    waveform = speak_words(["ab"])[0][:3000]
    with pytest.raises(CorpusError, match=r"x.wav: 9 frames \(0.18 s\) cannot hold the transcript's 9 units and a "
                       r"blank between 2 repeated ones \(11 frames\)"):  # fmt: skip
        align(recognizer(), "x.wav", waveform, "aabb cdef", options=AlignOptions(costs=FORCED))
    notes = align(recognizer(), "x.wav", waveform, "aabb cdef").notes
    assert any("9 frames (0.18 s) cannot hold" in note for note in notes)
    with pytest.raises(CorpusError, match=r"0.006 s of audio are too short for one frame of this model \(0.025 s\)"):
        align(recognizer(), "x.wav", waveform[:100], "a")


def test_many_at_once_are_as_each_alone_and_an_error_stands_in_its_place() -> None:
    items = []
    for seed in range(5):
        words = WORDS[: seed + 2]
        items.append((f"{seed}.wav", speak_words(words, seed, varied=True)[0], " ".join(words)))
    items.insert(2, ("bad.wav", items[0][1], ""))
    found = align_many(recognizer(), items)
    assert isinstance(found[2], CorpusError)
    for one, item in zip(found, items, strict=True):
        if one is not found[2]:
            assert one == align(recognizer(), *item)


def long_recording() -> tuple[np.ndarray, list[Segment], list[str]]:
    rng = np.random.default_rng(4)
    words = ["".join(rng.choice(list("abcdefgh"), rng.integers(2, 6))) for _ in range(45)]
    waveform, segments = speak_words(words, 4, varied=True)
    return waveform, segments, words


def test_a_recording_cut_at_anchors_is_aligned_as_in_one_piece() -> None:
    """Windows of 8 s and pieces of 3 s, little memory; reference: one search over everything. A word is missing in the
    text, and one is not said."""
    waveform, _, words = long_recording()
    text = " ".join([*words[:15], *words[16:30], "hahaha", *words[30:]])
    windows = Windows(8, 2, 4)
    cut = align(recognizer(), "x.wav", waveform, text, options=AlignOptions(windows=windows, piece_seconds=3))
    whole = align(recognizer(), "x.wav", waveform, text,
                  options=AlignOptions(windows=windows, piece_seconds=math.inf, max_bytes=2_000_000))  # fmt: skip
    assert cut == whole
    assert [word.text for word in cut.words if word.status == "unmatched"] == ["hahaha"]
    assert [stretch.heard for stretch in cut.unwritten] == [words[15]]


def test_anchors_lie_between_the_words_that_they_name() -> None:
    """Reference: the tones' times. The recording is cut, and never within a word."""
    waveform, segments, words = long_recording()
    hears = recognizer()
    heard = hears.model.read(torch.from_numpy(waveform)[None])[0].argmax(-1).numpy()
    ids = [[VOCAB.ids[letter] for letter in word] for word in words]
    cuts = find_cuts(ids, heard, (VOCAB.blank_id, VOCAB.ids["|"]), 200)
    assert len(cuts) >= 2
    for word, frame in cuts:
        at = hears.geometry.boundary(frame)
        assert segments[word - 1].end - FRAME <= at <= segments[word].start + FRAME


def test_what_stands_twice_is_no_anchor() -> None:
    """A verse of 36 units twice: what stands once is only within HALF units of where the verses meet."""
    rng = np.random.default_rng(0)
    verse = [rng.integers(2, 10, 3).tolist() for _ in range(12)]
    units = np.array([unit for word in [*verse, *verse] for unit in word])
    heard = np.stack([units, np.zeros_like(units)], 1).reshape(-1)  # a blank behind each
    cuts = find_cuts([*verse, *verse], heard, (0, 1), 1)
    assert [word for word, _ in cuts] == [9, 10, 11, 12, 13, 14, 15]
    assert [frame for _, frame in cuts] == [6 * word - 1 for word, _ in cuts]
    assert find_cuts([*verse, *verse], heard, (0, 1), 80) == []
