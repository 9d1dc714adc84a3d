"""Subtitles of languages without spaces, of words longer than a line, and of what is held for long."""

from __future__ import annotations

import itertools
import unicodedata

import numpy as np
import pytest

from data.utterance import SAMPLE_RATE
from models.geometry import FrameGeometry
from tests.helpers.tones import KERNELS, STRIDES, VOCAB
from trainer.recognize.subtitles import MAX_CUE_SECONDS, MAX_LINE_COLUMNS, columns, cues
from trainer.recognize.transcript import TimedTranscript, Word
from trainer.recognize.words import find_words

CHINESE = "我们今天要谈的是关于自动语音识别系统在实际应用中所遇到的各种各样的问题以及如何去解决这些问题的方法和思路"
JAPANESE = "きょうはとてもよいてんきですねラーメンをたべにいきましょうかチャーハンもいいですね" * 2
THAI = "วันนี้เราจะพูดถึงปัญหาต่างๆที่เกิดขึ้นกับระบบรู้จำเสียงพูดและวิธีแก้ไขปัญหาเหล่านั้น" * 2
GERMAN = "donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"
SECONDS_A_CHARACTER = 39 / 104


def spoken(text: str, seconds_a_character: float = SECONDS_A_CHARACTER, gaps: dict[int, float] | None = None) -> Word:
    """One word, every character as long; before character i come `gaps[i]` seconds of silence."""
    times, at = [], 8000
    for i in range(len(text)):
        at += round((gaps or {}).get(i, 0.0) * SAMPLE_RATE)
        times.append((at, at + round(seconds_a_character * SAMPLE_RATE)))
        at = times[-1][1]
    return Word(text, times[0][0], at, 1.0, tuple(times))


def subtitles_of(*words: Word) -> list[tuple[int, int, str]]:
    """Held to the promise: two lines of 42 columns, six seconds, no overlap, every character once."""
    found = cues(TimedTranscript("x.wav", words[-1].end + 8000, words))
    assert "".join(t for _, _, t in found).replace("\n", "").replace(" ", "") == "".join(w.text for w in words)
    assert all(t.count("\n") <= 1 for _, _, t in found)
    assert all(columns(line) <= MAX_LINE_COLUMNS for _, _, t in found for line in t.split("\n"))
    assert all(0 < end - start <= 1000 * MAX_CUE_SECONDS for start, end, _ in found)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(found))
    return found


@pytest.mark.parametrize("rate", [SECONDS_A_CHARACTER, 0.08])
@pytest.mark.parametrize("text", [CHINESE * 2, JAPANESE, THAI, "안녕하세요여러분" * 13, GERMAN, "x" * 104])
def test_a_word_of_any_length_is_cut_into_subtitles_of_two_lines_and_six_seconds(text: str, rate: float) -> None:
    found = subtitles_of(spoken(text, rate))
    assert len(found) >= len(text) * rate / MAX_CUE_SECONDS
    assert len(found) <= 3 * max(len(text) * rate / MAX_CUE_SECONDS, columns(text) / 84) + 1  # and not into crumbs


def test_no_line_begins_with_a_mark_or_ends_before_its_letter() -> None:
    """Thai: vowels above and tones stay on their letter, a leading vowel with the consonant behind it; Japanese: no
    small kana and no sound mark begins a line; decomposed Korean is not torn."""
    for text in (THAI, JAPANESE, unicodedata.normalize("NFD", "안녕하세요여러분" * 13), "e\u0301" * 120):
        lines = [line for _, _, t in subtitles_of(spoken(text)) for line in t.split("\n")]
        assert not [line for line in lines if unicodedata.category(line[0])[0] == "M"]
        assert not [line for line in lines if line[0] in "ャュョッゃゅょっーๆ" or "\u1160" <= line[0] <= "\u11ff"]
        assert not [line for line in lines if line[-1] in "เแโใไ"]


def test_a_word_is_cut_where_nobody_speaks() -> None:
    """A pause before character 60 of 104, off the middle: nothing on both sides of it is shown together."""
    word = spoken(CHINESE[:52] * 2, 0.1, gaps={60: 2.0})
    found = subtitles_of(word)
    starts = [start for start, _, _ in found]
    assert word.times[60][0] // 16 in starts
    assert max(end for start, end, _ in found if start < word.times[60][0] // 16) <= word.times[59][1] // 16 + 1000


def test_a_character_that_is_held_is_shown_for_six_seconds() -> None:
    ((start, end, text),) = subtitles_of(spoken("a", 20.0))
    assert (start, end, text) == (500, 6500, "a")


def test_long_words_and_short_ones_share_subtitles_with_spaces_between_words_only() -> None:
    words, at = [], 0
    for text in ("die", GERMAN, "tagt", "heute"):
        words.append(Word(text, at, at + 16_000, 1.0))
        at += 16_000
    shown = " ".join(t.replace("\n", "/") for _, _, t in subtitles_of(*words))
    assert shown.endswith("gesellschaft/tagt heute")
    assert shown.startswith("die")


def test_find_words_gives_each_character_its_frames() -> None:
    """Frames: blank, a a, blank, b, delimiter; 320 samples a frame. A unit's frames are its character's."""
    geometry = FrameGeometry.of(KERNELS, STRIDES)
    ids = np.array([VOCAB.blank_id, *[VOCAB.ids["a"]] * 2, VOCAB.blank_id, VOCAB.ids["b"], VOCAB.ids["|"]])
    (word,) = find_words(ids, np.zeros(6, np.float32), VOCAB, geometry)
    b = geometry.boundary
    assert (word.text, word.times) == ("ab", ((b(1), b(3)), (b(4), b(5))))
    assert (word.start, word.end) == (word.times[0][0], word.times[-1][1])
