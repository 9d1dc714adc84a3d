"""Many batches as two arrays, and the cutting of an order of utterances into batches.

Lists of lists would take 36 bytes an utterance and a pass of Python over each; a plan of ten million utterances has to
do without.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np


class Batches(Sequence[list[int]]):
    """Batches of positions, each a list of ints when it is asked for. They are not to be changed."""

    def __init__(self, positions: np.ndarray, cuts: np.ndarray) -> None:
        """positions: integers (N,), batch after batch. cuts: integers (number of batches + 1,), from 0 to N."""
        self.positions, self.cuts = positions, cuts

    @classmethod
    def of(cls, batches: Sequence[Sequence[int]]) -> Batches:
        """The same batches as arrays."""
        if isinstance(batches, Batches):
            return batches
        cuts = _sums(np.fromiter(map(len, batches), np.int64, len(batches)))
        return cls(np.fromiter(itertools.chain.from_iterable(batches), np.int64, int(cuts[-1])), cuts)

    @property
    def sizes(self) -> np.ndarray:
        """Utterances of each batch."""
        return np.diff(self.cuts)

    def taken(self, order: np.ndarray) -> Batches:
        """The batches with these numbers, in this order."""
        starts, sizes = self.cuts[:-1][order], self.sizes[order]
        cuts = _sums(sizes)
        gathered = np.repeat(starts - cuts[:-1], sizes)
        gathered += np.arange(cuts[-1])
        return Batches(self.positions[gathered], cuts)

    def longest(self, lengths: Sequence[int] | np.ndarray) -> np.ndarray:
        """The length of each batch's longest utterance."""
        if not len(self):
            return np.zeros(0, np.int64)
        return np.maximum.reduceat(np.asarray(lengths)[self.positions], self.cuts[:-1])

    def __len__(self) -> int:
        return len(self.cuts) - 1

    @overload
    def __getitem__(self, index: int) -> list[int]: ...
    @overload
    def __getitem__(self, index: slice) -> Batches: ...
    def __getitem__(self, index: int | slice) -> list[int] | Batches:
        """One batch, or some."""
        if isinstance(index, slice):
            return self.taken(np.arange(len(self))[index])
        index = range(len(self))[index]  # an IndexError where there is none, as of a list
        return self.positions[self.cuts[index] : self.cuts[index + 1]].tolist()

    def __iter__(self) -> Iterator[list[int]]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Whether the batches are the same, in the same order; `other` may be a list of lists."""
        if isinstance(other, Batches):
            return np.array_equal(self.cuts, other.cuts) and np.array_equal(self.positions, other.positions)
        return list(self) == other if isinstance(other, list) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))


def cut_batches(
    order: Sequence[int] | np.ndarray,
    lengths: Sequence[int] | np.ndarray,
    batch_size: int | None,
    max_samples: float | None,
) -> Batches:
    """`order` cut into batches of at most `batch_size` utterances and `max_samples` padded samples.

    An utterance that is longer than `max_samples` becomes a batch alone.
    """
    order = _as_positions(order)
    if max_samples is None:
        size = batch_size or max(1, len(order))
        return Batches(order, np.minimum(np.arange(0, len(order) + size, size), len(order)))
    return Batches(order, _cut_by_samples(np.asarray(lengths)[order], batch_size or len(order), _whole(max_samples)))


def cut_equals(
    order: Sequence[int] | np.ndarray, lengths: Sequence[int] | np.ndarray, batch_size: int, max_samples: float
) -> Batches:
    """`order`, in which equal lengths stand together, cut so that no batch holds two lengths. Limits: cut_batches."""
    order = _as_positions(order)
    ordered = np.asarray(lengths)[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(order)])
    places = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    fitting = np.where(ordered > 0, _whole(max_samples) // np.maximum(ordered, 1), batch_size)
    most = np.clip(fitting, 1, batch_size)
    return Batches(order, np.append(np.flatnonzero(places % most == 0), len(order)))


def _cut_by_samples(ordered: np.ndarray, batch_size: int, max_samples: int) -> np.ndarray:
    """Where batches of utterances with these lengths begin, and where the last one ends."""
    cuts = [np.zeros(1, np.int64)]
    start, size, expected = 0, 1, 1
    while start < len(ordered):
        # In sorted lengths many batches of one size follow each other. They are found together
        found = _batches_of_size(ordered[start : start + size * expected + 1], size, batch_size, max_samples)
        if found:
            cuts.append(start + size * np.arange(1, found + 1))
            expected = 2 * expected if found == expected else 1
        else:
            size = _first_size(ordered[start:], batch_size, max_samples, about=size)
            cuts.append(np.array([start + size]))
            expected = 1
        start = int(cuts[-1][-1])
    return np.concatenate(cuts)


def _batches_of_size(ordered: np.ndarray, size: int, batch_size: int, max_samples: int) -> int:
    """How many of the first batches have `size` utterances each, as far as `ordered` shows."""
    number = (len(ordered) - 1) // size  # the utterance behind a batch tells whether it could have been larger
    longest = ordered[: number * size].reshape(number, size).max(axis=1)
    is_right = longest * size <= max_samples
    if size < batch_size:
        longest_with_next = np.maximum(longest, ordered[size : number * size + 1 : size])
        is_right &= longest_with_next * (size + 1) > max_samples
    return number if is_right.all() else int(is_right.argmin())


def _first_size(ordered: np.ndarray, batch_size: int, max_samples: int, about: int) -> int:
    """Utterances of the first batch, looked for among little more than `about` at first."""
    window = about + 1
    while True:
        within = ordered[:window]
        padded = np.maximum.accumulate(within) * np.arange(1, len(within) + 1)
        size = min(batch_size, max(1, int(padded.searchsorted(max_samples, side="right"))))
        if size < window or window >= min(batch_size, len(ordered)):
            return size
        window *= 2  # the batch may go on behind what was looked at


def _as_positions(order: Sequence[int] | np.ndarray) -> np.ndarray:
    return order if isinstance(order, np.ndarray) else np.array(order, dtype=np.int64)


def _whole(max_samples: float) -> int:
    """The most whole samples. A limit that no batch reaches is as good as a larger one."""
    return int(min(max_samples, 2**62))


def _sums(sizes: np.ndarray) -> np.ndarray:
    """0 and the sums of the first 1, 2, ... sizes."""
    return np.concatenate(([0], np.cumsum(sizes)))
