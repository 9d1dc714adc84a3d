"""From the beams of a search to hypotheses: the best ones of each utterance, and the units that they wrote."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.decoding.frames import IMPOSSIBLE


@dataclass(frozen=True)
class Found:
    """A hypothesis of an utterance."""

    units: tuple[int, ...]
    score: float
    """Natural log; what hypotheses are ranked by."""
    acoustic: float
    """log p(units | audio), summed over the paths that the beam has kept; of width 1, the best path's."""
    origin: int = 0
    """Which of the beams that the search began with it goes on from."""


@dataclass(frozen=True)
class Step:
    """What a frame did, for each beam after it."""

    before: Tensor
    """int32 (R,): the place of the beam before."""
    unit: Tensor
    """int32 (R,): what was written, -1 for nothing."""


def best_of_each(values: Tensor, owners: Tensor, num_utterances: int) -> Tensor:
    """float64 (B,): the highest of each utterance's `values` (R,); -inf where it has none."""
    nothing = torch.full((num_utterances,), IMPOSSIBLE, dtype=values.dtype, device=values.device)
    return nothing.scatter_reduce_(0, owners, values, "amax")


def rank(values: Tensor, owners: Tensor, best: Tensor) -> tuple[Tensor, Tensor]:
    """(rank, place) of R beams, utterance by utterance, of each the best one, whose rank is 0, first.

    One sort does it: by the utterance, then by how far a beam lies behind the `best` of its utterance. The bits of a
    float32 that is not negative are ordered as the number is.
    """
    behind = (best[owners] - values).nan_to_num(torch.inf).float().view(torch.int32)
    order = (owners * 2**32 + behind).sort().indices
    counts = torch.bincount(owners, minlength=len(best))
    first = (counts.cumsum(0) - counts)[owners[order]]
    return torch.arange(len(order), device=order.device) - first, order


def trace(steps: list[Step], places: Tensor) -> list[tuple[int, ...]]:
    """The units of the beams at `places` (N,) after all `steps`."""
    written = []
    for step in reversed(steps):
        written.append(step.unit.index_select(0, places))
        places = step.before.index_select(0, places)
    if not written:
        return [()] * len(places)
    table = torch.stack(written[::-1], 1)
    counts, units = (table >= 0).sum(1).tolist(), table[table >= 0].tolist()
    found, begin = [], 0
    for count in counts:
        found.append(tuple(units[begin : begin + count]))
        begin += count
    return found


def origin(steps: list[Step], places: Tensor) -> Tensor:
    """int64 (N,): where the beams at `places` stood before all `steps`."""
    for step in reversed(steps):
        places = step.before.index_select(0, places)
    return places.long()
