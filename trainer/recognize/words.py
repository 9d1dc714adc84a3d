"""From the best unit of each frame to words with their times and confidences. No torch here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from data.text.normalise import collapse_spaces
from data.text.vocab import Vocab, clean_up_spaces
from data.utterance import SAMPLE_RATE
from models.geometry import FrameGeometry


@dataclass(frozen=True)
class Word:
    """A word where the model wrote it, in samples at SAMPLE_RATE.

    CTC writes a unit when it is sure of it: a word's times run from its first unit's first frame to its last unit's
    last frame, which may lie within the spoken word.
    """

    text: str
    start: int
    end: int
    confidence: float
    """Geometric mean over its units of the unit's highest posterior; not calibrated."""

    @property
    def start_seconds(self) -> float:
        return self.start / SAMPLE_RATE

    @property
    def end_seconds(self) -> float:
        return self.end / SAMPLE_RATE


@dataclass(frozen=True)
class TimedTranscript:
    """What the model wrote for one recording."""

    name: str
    """The file, as it was given."""
    num_samples: int
    """At SAMPLE_RATE."""
    words: tuple[Word, ...]
    label: str = ""
    """What tells it from other recordings, without a suffix; empty: the file's stem."""
    written: str | None = None
    """The text as the checkpoint's tokenizer writes it; None: the words with spaces between them."""

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words) if self.written is None else self.written

    @property
    def seconds(self) -> float:
        return self.num_samples / SAMPLE_RATE


@dataclass
class _Unit:
    id: int
    first: int
    last: int
    log_prob: float


def find_words(ids: np.ndarray, log_probs: np.ndarray, vocab: Vocab, geometry: FrameGeometry) -> tuple[Word, ...]:
    """Words from each frame's best unit (T,) and its log posterior (T,), in order; of phonemes each is a word.

    Joined by spaces they are what trainer.scoring.evaluate would score.
    """
    return tuple(
        Word(
            text,
            geometry.boundary(units[0].first),
            geometry.boundary(units[-1].last + 1),
            math.exp(sum(u.log_prob for u in units) / len(units)),
        )
        for text, units in _words(list(_units(ids, log_probs, vocab)), vocab)
    )


def text_of(ids: np.ndarray, vocab: Vocab) -> str:
    """What transformers' tokenizer writes for each frame's best unit (T,), white space collapsed."""
    return collapse_spaces(vocab.decode(unit.id for unit in _units(ids, np.zeros(len(ids)), vocab)))


def _words(units: list[_Unit], vocab: Vocab) -> Iterator[tuple[str, list[_Unit]]]:
    words: list[list[_Unit]] = [[]]
    for unit in units:
        if vocab.is_boundary(unit.id) or vocab.phonemes:
            words.append([])
        if not vocab.is_boundary(unit.id):
            words[-1].append(unit)
    found = [(vocab.decode(unit.id for unit in word), word) for word in words if word]
    if vocab.clean_up and vocab.delimiter_text.isspace():
        return _joined(found, clean_up_spaces(" ".join(text for text, _ in found)).split())
    return iter(found)


def _joined(words: Sequence[tuple[str, list[_Unit]]], texts: Sequence[str]) -> Iterator[tuple[str, list[_Unit]]]:
    """`words` put together to `texts`, which are the same characters with fewer spaces between them."""
    rest = iter(words)
    for text in texts:
        length, units = 0, list[_Unit]()
        while length < len(text):
            part, more = next(rest)
            length, units = length + len(part), units + more
        yield text, units


def _units(ids: np.ndarray, log_probs: np.ndarray, vocab: Vocab) -> Iterator[_Unit]:
    """Runs of the same unit, blanks left out."""
    for first, end in pairwise([*np.flatnonzero(np.diff(ids, prepend=-1)), len(ids)]):
        if ids[first] != vocab.blank_id:
            yield _Unit(int(ids[first]), int(first), int(end) - 1, min(0.0, float(log_probs[first:end].max())))
