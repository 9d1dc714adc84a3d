"""From espeak-ng's phoneme events to TIMIT's labels: words, and phones of the 61 set with closures. In samples."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from data.utterance import Segment

IPA_TO_PHONES: dict[str, tuple[str, ...]] = {
    ipa: tuple(phones.split())
    for phones, ipas in {
        "aa": "ɑː ɑ ɒ aː a: aa", "aa r": "ɑːɹ", "aa ax": "ɑə", "ae": "æ a ɛə", "ah": "ʌ", "ah r": "ʌɹ",
        "ao": "ɔ ɔː", "ao r": "ɔːɹ", "ao ax": "ɔə oə", "aw": "aʊ ʌʉ æʊ", "ax": "ə ɐ", "axr": "ɚ ɜ",
        "ay": "aɪ", "ay ax": "aɪə", "ay axr": "aɪɚ", "eh": "ɛ", "eh r": "ɛɹ", "eh ax": "eə", "er": "ɜː əɹ əɪ",
        "ey": "eɪ e eː", "ih": "ɪ", "ih r": "ɪɹ", "ix": "ᵻ", "iy": "i iː ei", "iy ax": "iə", "ow": "oʊ əʊ ʌʊ oː o",
        "oy": "ɔɪ oɪ", "uh": "ʊ", "uh r": "ʊɹ", "uh ax": "ʊə", "uw": "uː əu", "ux": "ʉ ʉː", "ux r": "ʉɹ",
        "el": "əl", "en": "n̩", "m": "m", "n": "n", "ng": "ŋ", "l": "l", "r": "ɹ r", "w": "w ʍ", "y": "j",
        "b": "b", "d": "d", "g": "ɡ", "p": "p", "t": "t t̪", "k": "k", "ch": "tʃ", "jh": "dʒ", "dx": "ɾ", "q": "ʔ",
        "f": "f", "v": "v", "th": "θ", "dh": "ð", "s": "s", "z": "z", "sh": "ʃ", "zh": "ʒ", "hh": "h",
    }.items()
    for ipa in ipas.split()
}  # fmt: skip
"""What the eight English voices say, as TIMIT would label it; espeak-ng's IPA already holds the accent."""

UNWRITTEN = ("", "ʲ")
CLOSURES = {"b": "bcl", "d": "dcl", "g": "gcl", "p": "pcl", "t": "tcl", "k": "kcl", "ch": "tcl", "jh": "dcl"}
VOICED_STOPS = ("b", "d", "g", "jh")
MERGED_WORDS = {"a": 1, "the": 2, "were": 2}
"""Some pairs ("that a", "in the", "there were") are spoken as one word; so many of its phones are the second's."""

SILENCE, ECHO = 0.004, 0.15
"""Of the utterance's peak, and of the previous phone's: quieter samples are silence, and some variants' echo."""
SHORTEST_CLOSURE, SHORTEST_VOICED_STOP = 160, 640
ONSET = 16
"""Before a release's event, where resampling lets it ring already."""
CLOSURE_SHARE = 0.6
"""Of a voiced stop's interval, where espeak-ng voices the closure instead of falling silent."""


def words_of(text: str) -> list[str]:
    """The words of a sentence as `.WRD` has them: lower case, apostrophe and hyphen kept.

    >>> words_of("Didn't the well-known judge, at last, agree?")
    ["didn't", 'the', 'well-known', 'judge', 'at', 'last', 'agree']
    """
    return re.findall(r"[a-z'-]+", text.lower())


@dataclass
class Phone:
    """A stretch of audio with a TIMIT label; `word` is the index of its word, None in a pause."""

    start: int
    end: int
    label: str
    word: int | None


def align(audio: np.ndarray, events: Sequence[tuple[int, str, int]], text: str) -> tuple[list[Segment], list[Segment]]:
    """(words, phones) of one utterance of int16 `audio` from its events (start, ipa, position in `text`).

    Phones are contiguous from the first to the last one spoken, pauses inside as "pau"; words leave pauses out.
    ValueError for a phoneme without a TIMIT label and for a word without phonemes.
    """
    magnitude = np.abs(audio.astype(np.int32))
    silent = magnitude <= SILENCE * magnitude.max(initial=0)
    word_starts = [match.start() for match in re.finditer(r"\S+", text)]
    phones: list[Phone] = []
    for (start, ipa, position), (end, _, _) in pairwise([*events, (len(audio), "", len(text))]):
        if end <= start:
            continue
        if ipa not in UNWRITTEN:
            word = bisect_right(word_starts, max(position, 0)) - 1
            phones += _speech(start, end, ipa, word, text)
        elif silent[start + (end - start) // 4 : end].all():  # the last sound may ring on for a moment
            phones.append(Phone(start, end, "pau", None))
        elif phones:
            phones[-1].end = end
    phones = _with_closures(_without_outer_pauses(phones), magnitude)
    words = _words(phones, text)
    return words, [Segment(phone.start, phone.end, phone.label) for phone in phones]


def _speech(start: int, end: int, ipa: str, word: int, text: str) -> list[Phone]:
    """One phoneme's phones; the first of two, a vowel before /r/ or schwa, gets 60 %."""
    if ipa not in IPA_TO_PHONES:
        raise ValueError(f'"{text}": phoneme {ipa!r} has no TIMIT label. Add it to IPA_TO_PHONES.')
    labels = IPA_TO_PHONES[ipa]
    cuts = [start, end] if len(labels) == 1 else [start, start + round(0.6 * (end - start)), end]
    return [Phone(a, b, label, word) for (a, b), label in zip(pairwise(cuts), labels, strict=True)]


def _without_outer_pauses(phones: list[Phone]) -> list[Phone]:
    """`phones` from the first to the last spoken one, neighbouring pauses joined."""
    joined: list[Phone] = []
    for phone in phones:
        if phone.label == "pau" and (not joined or joined[-1].label == "pau"):
            if joined:
                joined[-1].end = phone.end
        else:
            joined.append(phone)
    return joined[:-1] if joined and joined[-1].label == "pau" else joined


def _with_closures(phones: list[Phone], magnitude: np.ndarray) -> list[Phone]:
    """Every stop in two, closure and release.

    espeak-ng's event marks a stop's release, and the silence before it is the closure; or, for some voiced stops, it
    marks a voiced closure, which gets CLOSURE_SHARE of the interval. After a pause there is a release only.
    """
    result: list[Phone] = []
    for phone in phones:
        closure = CLOSURES.get(phone.label)
        previous = result[-1] if result else None
        if closure and previous and previous.label != "pau":
            before = magnitude[previous.start : phone.start - ONSET]
            loud = max(SILENCE * magnitude.max(), ECHO * before.max(initial=0))
            sounding = np.flatnonzero(before > loud)
            end_of_sound = previous.start + (int(sounding[-1]) + 1 if len(sounding) else 0)
            if phone.start - end_of_sound >= SHORTEST_CLOSURE and end_of_sound > previous.start:
                previous.end = end_of_sound
                result.append(Phone(end_of_sound, phone.start, closure, phone.word))
            elif phone.label in VOICED_STOPS and phone.end - phone.start >= SHORTEST_VOICED_STOP:
                release = phone.start + round(CLOSURE_SHARE * (phone.end - phone.start))
                result.append(Phone(phone.start, release, closure, phone.word))
                phone.start = release
        result.append(phone)
    return result


def _words(phones: list[Phone], text: str) -> list[Segment]:
    labels = words_of(text)
    for index, label in enumerate(labels):
        if all(phone.word != index for phone in phones):
            if label not in MERGED_WORDS:
                raise ValueError(f'"{text}": espeak-ng speaks no phoneme of word {index + 1}, "{label}".')
            for phone in [phone for phone in phones if phone.word == index - 1][-MERGED_WORDS[label] :]:
                phone.word = index
    spans = [[phone for phone in phones if phone.word == index] for index in range(len(labels))]
    return [Segment(span[0].start, span[-1].end, label) for span, label in zip(spans, labels, strict=True)]
