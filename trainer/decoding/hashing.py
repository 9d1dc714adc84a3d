"""64-bit hashes of sequences of units, extended one unit at a time, and sets of them as sorted tensors.

Two different sequences have one hash with probability 2**-64; beams and words are told apart by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

EMPTY = 0
"""The hash of no unit."""
_FACTOR = -7046029254386353131  # 2**64 over the golden ratio, as int64


def unit_hashes(num_units: int) -> Tensor:
    """A random number for each unit, int64 (V,), always the same ones."""
    generator = torch.Generator().manual_seed(num_units)
    return torch.randint(-(2**63), 2**63 - 1, (num_units,), generator=generator)


def extend(hashes: Tensor, of_units: Tensor) -> Tensor:
    """The hashes of sequences with one more unit, whose own numbers are `of_units`; shapes broadcast."""
    return (hashes ^ (hashes >> 29)) * _FACTOR + of_units


def extend_one(hashed: int, of_unit: int) -> int:
    """`extend` for one sequence."""
    longer = ((hashed ^ (hashed >> 29)) * _FACTOR + of_unit) & 0xFFFF_FFFF_FFFF_FFFF
    return longer - (1 << 64) if longer >> 63 else longer


def hash_all(sequences: Sequence[Sequence[int]], num_units: int) -> Tensor:
    """int64 (N, longest + 1): the hashes of the first 0, 1, ... units of each; a shorter one repeats its last."""
    longest = max(map(len, sequences), default=0)
    padded = torch.full((len(sequences), longest), -1)
    if sequences:
        lengths = torch.tensor([len(s) for s in sequences])
        padded[torch.arange(longest) < lengths[:, None]] = torch.tensor(
            [u for s in sequences for u in s], dtype=torch.int64
        )
    of_units, columns = unit_hashes(num_units), [torch.zeros(len(sequences), dtype=torch.int64)]
    for column in padded.T:
        columns.append(torch.where(column < 0, columns[-1], extend(columns[-1], of_units[column.clamp(min=0)])))
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
