"""From the best unit of each frame to words with their times and confidences."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from data.text.vocab import Vocab
from models.geometry import FrameGeometry
from trainer.recognize.transcript import Word
from trainer.scoring.decode import NOTHING, collapse


@dataclass
class _Unit:
    text: str
    first: int
    last: int
    log_prob: float


def find_words(ids: np.ndarray, log_probs: np.ndarray, vocab: Vocab, geometry: FrameGeometry) -> tuple[Word, ...]:
    """The words, in order, from each frame's best unit (T,) and its log posterior (T,).

    Joined by spaces they are the text that trainer.scoring.evaluate scores.
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
                    tuple((geometry.boundary(u.first), geometry.boundary(u.last + 1)) for u in units for _ in u.text),
                )
            )
            units = []
    return tuple(words)


def _units(ids: np.ndarray, log_probs: np.ndarray, vocab: Vocab) -> Iterator[_Unit]:
    """Runs of the same unit, without blanks. The text of the word delimiter is a space."""
    written = collapse(torch.from_numpy(ids)[None], torch.tensor([len(ids)]), vocab.blank_id)[0].numpy()
    ends = np.append(np.flatnonzero(np.diff(ids)) + 1, len(ids))  # where the next unit or the blank begins
    for first in np.flatnonzero(written != NOTHING):
        end = ends[np.searchsorted(ends, first, side="right")]
        yield _Unit(vocab.decode([ids[first]]), int(first), int(end) - 1, min(0.0, float(log_probs[first:end].max())))
