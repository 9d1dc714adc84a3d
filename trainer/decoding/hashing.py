"""64-bit hashes of sequences of units, and sets of them as sorted tensors. Beams and words are told apart by them.

Each unit has a random odd factor and a random addend, and a hash is extended to `hash * factor + addend` modulo 2**64.
So what a string does to a hash is a factor and an addend again, computed once for all beams that it extends.

Two sequences have one hash with a probability of some 2**-60: a little above 2**-64, since the lowest bits agree where
two differ only in the order of their parts. Each level of order within order costs some bits more. So strings of Thue
and Morse, ABBABAAB and on with A and B exchanged, have one hash for certain from some 512 units on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

EMPTY = 0
"""The hash of no unit."""
BITS = 0xFFFF_FFFF_FFFF_FFFF
"""Those of a hash. int64 tensors drop the others of a sum or product by themselves; Python's numbers need `& BITS`."""


def random_hashes(num: int, seed: int) -> Tensor:
    """int64 (num,), always the same ones."""
    return torch.randint(-(2**63), 2**63 - 1, (num,), generator=torch.Generator().manual_seed(seed))


def unit_maps(num_units: int) -> Tensor:
    """int64 (2, V): the factor and the addend of each unit."""
    factors, addends = random_hashes(2 * num_units, num_units).view(2, num_units)
    return torch.stack([factors | 1, addends])


def inverse(factors: Tensor) -> Tensor:
    """The numbers that give 1 modulo 2**64 when multiplied with these odd ones (Newton's method: each turn doubles the
    bits that are right, of which an odd number has three at first)."""
    found = factors
    for _ in range(5):
        found = found * (2 - factors * found)
    return found


def hash_all(sequences: Sequence[Sequence[int]], num_units: int) -> Tensor:
    """int64 (N, longest + 1): the hashes of the first 0, 1, ... units of each; a shorter one repeats its last."""
    longest = max(map(len, sequences), default=0)
    padded = torch.full((len(sequences), longest), -1)
    if sequences:
        lengths = torch.tensor([len(s) for s in sequences])
        padded[torch.arange(longest) < lengths[:, None]] = torch.tensor(
            [u for s in sequences for u in s], dtype=torch.int64
        )
    (factors, addends), columns = unit_maps(num_units), [torch.full((len(sequences),), EMPTY, dtype=torch.int64)]
    for column in padded.T:
        units, before = column.clamp(min=0), columns[-1]
        columns.append(torch.where(column < 0, before, before * factors[units] + addends[units]))
    return torch.stack(columns, 1)


@dataclass(frozen=True)
class HashTable:
    """From hashes to numbers."""

    hashes: Tensor
    """int64 (N,), ascending."""
    values: Tensor
    """int64 (N,)."""

    @classmethod
    def of(cls, hashes: Tensor, values: Tensor | None = None) -> HashTable:
        """Equal hashes keep the first value; without values, each has 0."""
        values = torch.zeros_like(hashes) if values is None else values
        ordered, order = torch.sort(hashes, stable=True)
        first = torch.ones(len(ordered), dtype=torch.bool)
        first[1:] = ordered[1:] != ordered[:-1]
        return cls(ordered[first], values[order][first])

    def to(self, device: torch.device) -> HashTable:
        return HashTable(self.hashes.to(device), self.values.to(device))

    def find(self, hashes: Tensor, missing: int) -> Tensor:
        """The number of each of `hashes`, `missing` for those that are not there."""
        if not len(self.hashes):
            return torch.full_like(hashes, missing)
        place = torch.searchsorted(self.hashes, hashes.contiguous()).clamp_(max=len(self.hashes) - 1)
        return torch.where(self.hashes.take(place) == hashes, self.values.take(place), missing)
