"""From the best unit of each frame to words with their times and confidences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from data.text.normalise import collapse_spaces
from data.text.vocab import Vocab, clean_up_spaces
from models.geometry import FrameGeometry
from trainer.recognize.transcript import Word
from trainer.scoring.decode import NOTHING, collapse


@dataclass
class _Unit:
    id: int
    first: int
    last: int
    log_prob: float


def find_words(ids: np.ndarray, log_probs: np.ndarray, vocab: Vocab, geometry: FrameGeometry) -> tuple[Word, ...]:
    """The words, in order, from each frame's best unit (T,) and its log posterior (T,). Of phonemes each is a word.

    Joined by spaces they are the text that trainer.scoring.evaluate scores.
    """
    return tuple(
        Word(
            text,
            geometry.boundary(units[0].first),
            geometry.boundary(units[-1].last + 1),
            math.exp(sum(u.log_prob for u in units) / len(units)),
            _character_times(text, units, vocab, geometry),
        )
        for text, units in _words(list(_units(ids, log_probs, vocab)), vocab)
    )


def _character_times(
    text: str, units: Sequence[_Unit], vocab: Vocab, geometry: FrameGeometry
) -> tuple[tuple[int, int], ...]:
    """(Start, end) of each character of `text` in samples: those of the unit that wrote it.

    Empty where the units' own texts have another number of characters: nobody knows then which wrote which.
    """
    times = tuple(
        (geometry.boundary(unit.first), geometry.boundary(unit.last + 1))
        for unit in units
        for _ in vocab.decode([unit.id])
    )
    return times if len(times) == len(text) else ()


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
    """Runs of the same unit, without blanks."""
    written = collapse(torch.from_numpy(ids)[None], torch.tensor([len(ids)]), vocab.blank_id)[0].numpy()
    ends = np.append(np.flatnonzero(np.diff(ids)) + 1, len(ids))  # where the next unit or the blank begins
    for first in np.flatnonzero(written != NOTHING):
        end = ends[np.searchsorted(ends, first, side="right")]
        yield _Unit(int(ids[first]), int(first), int(end) - 1, min(0.0, float(log_probs[first:end].max())))
