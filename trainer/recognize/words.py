"""From the best unit of each frame to words with their times and confidences."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from data.text.vocab import Vocab
from data.utterance import SAMPLE_RATE
from models.geometry import FrameGeometry
from trainer.scoring.decode import NOTHING, collapse


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

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)

    @property
    def seconds(self) -> float:
        return self.num_samples / SAMPLE_RATE


@dataclass
class _Unit:
    text: str
    first: int
    last: int
    log_prob: float


def find_words(ids: np.ndarray, log_probs: np.ndarray, vocab: Vocab, geometry: FrameGeometry) -> tuple[Word, ...]:
    """Words from each frame's best unit (T,) and its log posterior (T,), in order.

    Joined by spaces they are what trainer.scoring.evaluate would score.
    """
    words, units = [], list[_Unit]()
    for unit in [*_units(ids, log_probs, vocab), None]:
        if unit is not None and unit.text.strip():
            units.append(unit)
        elif units:
            words.append(
                Word(
                    "".join(u.text for u in units),
                    geometry.boundary(units[0].first),
                    geometry.boundary(units[-1].last + 1),
                    math.exp(sum(u.log_prob for u in units) / len(units)),
                )
            )
            units = []
    return tuple(words)


def _units(ids: np.ndarray, log_probs: np.ndarray, vocab: Vocab) -> Iterator[_Unit]:
    """Runs of the same unit, blanks left out; the word delimiter's text is a space."""
    written = collapse(torch.from_numpy(ids)[None], torch.tensor([len(ids)]), vocab.blank_id)[0].numpy()
    ends = np.append(np.flatnonzero(np.diff(ids)) + 1, len(ids))  # where another unit or the blank takes over
    for first in np.flatnonzero(written != NOTHING):
        end = ends[np.searchsorted(ends, first, side="right")]
        yield _Unit(vocab.decode([ids[first]]), int(first), int(end) - 1, min(0.0, float(log_probs[first:end].max())))
