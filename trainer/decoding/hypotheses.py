"""From the beams of a search to hypotheses: the best ones of each utterance, and the units that they wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

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
    """Which of the beams that its search began with it goes on from."""


@dataclass(frozen=True)
class Step:
    """What a step of the search did, for each beam after it."""

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


def trace(steps: list[Step], places: Tensor, times: Tensor, written: Tensor) -> list[tuple[int, ...]]:
    """The units of the beams at `places` (N,) after all `steps`, which were at `times` (N, steps). Between them they
    wrote `written`, int32 (N, T + 1), -1 for nothing."""
    units = []
    for step in reversed(steps):
        units.append(step.unit.index_select(0, places))
        places = step.before.index_select(0, places)
    table = written.scatter(1, times, torch.stack(units[::-1], 1)) if units else written
    counts, flat = (table >= 0).sum(1).tolist(), table[table >= 0].tolist()
    found, begin = [], 0
    for count in counts:
        found.append(tuple(flat[begin : begin + count]))
        begin += count
    return found


def beams_at_end(num_best: int) -> int:
    """How many beams are looked at for the `num_best` hypotheses: some differ only in their delimiters."""
    return max(8, 4 * num_best)


def merged(beams: Sequence[Found], reading: Callable[[Sequence[int]], tuple[int, ...]], num_best: int) -> list[Found]:
    """The `num_best` hypotheses, the best first, of the beams of an utterance, the best first; at least one.

    Those with the same `reading` are one, spelled as the first, with the sum of their paths.
    """
    texts: dict[tuple[int, tuple[int, ...]], list[Found]] = {}
    for beam in beams:
        texts.setdefault((beam.origin, reading(beam.units)), []).append(beam)
    found = [same[0] if len(same) == 1 else _sum(same) for same in texts.values()]
    found.sort(key=lambda f: -f.score)
    return found[:num_best] or [Found((), IMPOSSIBLE, IMPOSSIBLE)]


def _sum(same: list[Found]) -> Found:
    first, values = same[0], torch.tensor([one.acoustic for one in same], dtype=torch.float64)
    acoustic = float(values.logsumexp(0))
    return replace(first, score=acoustic + first.score - first.acoustic, acoustic=acoustic)
