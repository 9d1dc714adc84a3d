"""The best path's units with the frames that wrote them, and the words that they make up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from data.text.vocab import Vocab, clean_up_spaces


@dataclass(frozen=True, eq=False)
class Unit:
    """A unit that the best path writes, with its frames [first, last]."""

    id: int
    first: int
    last: int
    evidence: np.ndarray
    """(K,), each figure that of the frame that is highest in it: see `find_units`."""


def find_units(ids: np.ndarray, evidence: np.ndarray, vocab: Vocab) -> list[Unit]:
    """Runs of the same best unit, without blanks, from each frame's best unit (T,) and K figures of each frame (T, K).

    A figure is higher where the model is surer.
    """
    if len(ids) == 0:
        return []
    firsts = np.append(0, np.flatnonzero(np.diff(ids)) + 1)
    lasts = np.append(firsts[1:], len(ids)) - 1
    highest = np.maximum.reduceat(evidence, firsts, axis=0)
    blank = vocab.blank_id
    runs = zip(ids[firsts].tolist(), firsts.tolist(), lasts.tolist(), highest, strict=True)
    return [Unit(*run) for run in runs if run[0] != blank]


def group_words(units: Sequence[Unit], vocab: Vocab) -> Iterator[tuple[str, list[Unit]]]:
    """(Text, its units) of each word, in order. Of phonemes each is a word; what stands between words is left out."""
    words: list[list[Unit]] = [[]]
    for unit in units:
        if vocab.is_boundary(unit.id) or vocab.phonemes:
            words.append([])
        if not vocab.is_boundary(unit.id):
            words[-1].append(unit)
    found = [(vocab.decode(unit.id for unit in word), word) for word in words if word]
    if vocab.clean_up and vocab.delimiter_text.isspace():
        return _joined(found, clean_up_spaces(" ".join(text for text, _ in found)).split())
    return iter(found)


def _joined(words: Sequence[tuple[str, list[Unit]]], texts: Sequence[str]) -> Iterator[tuple[str, list[Unit]]]:
    """`words` put together to `texts`, which are the same characters with fewer spaces between them."""
    rest = iter(words)
    for text in texts:
        length, units = 0, list[Unit]()
        while length < len(text):
            part, more = next(rest)
            length, units = length + len(part), units + more
        yield text, units
