"""What a beam search reads of log posteriors: frames that take a step of the search, and the runs of others between.

A unit or blank that is too unlikely in a frame is on no path through it, so in most frames of a CTC model one symbol,
a unit or the blank, is alone. Behind such a frame every path of an utterance ends in the same symbol. What the next
frames do is then the same for every beam, and they are a run, as long as

- one symbol is alone in each: it extends all beams by the same unit, or none;
- or only the last unit and the blank are left, once: a beam stays, with some of its paths in either.

Its beams do not branch, none becomes another, and the distances between their scores stay. So a run appends one string
to every beam and adds one sum. Only a unit that may add something else to a score (`may_add`) takes a step where it is
written.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from trainer.decoding.hashing import inverse

IMPOSSIBLE = -torch.inf
LOWEST = torch.finfo(torch.float32).min


@dataclass(frozen=True)
class Frames:
    """Frame n of an utterance is here the n-th that takes a step. N is that of the utterance with the most; behind the
    last one of another, a blank costs nothing."""

    frames: Tensor
    """float32 (N, B, V): log posteriors, IMPOSSIBLE where a unit is too unlikely."""
    entries: Tensor
    """int64 (N, 2, B): how many units may extend beams, and where they stand in `units`."""
    units: Tensor
    """int64 (sum of counts,)."""
    scores: Tensor
    """float32 (sum of counts,): their log posteriors."""
    ends: list[int]
    """How many of the N frames each utterance has."""
    times: Tensor
    """int64 (N, B): which frames of the log posteriors these are; T for those that an utterance has not."""
    runs: Runs

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True)
class Runs:
    """The run before each of the N frames, and the one behind the last."""

    is_run: Tensor
    """bool (N + 1, B): whether there is one."""
    sums: Tensor
    """float64 (N + 1, 3, B): log probability of the paths that end in a blank behind it, of those that end in a unit,
    and of both, above that of all paths before it."""
    strings: Tensor
    """int64 (N + 1, 3, B): factor and addend (trainer.decoding.hashing) of the units that it writes, and the last one
    of them, -1 for none."""
    any_run: list[bool]
    """Whether there is a run in any utterance."""
    any_string: list[bool]
    """Whether any of them writes a unit."""
    written: Tensor
    """int32 (B, T + 1): the unit that is written in a frame of a run, -1 for none."""


NO_RUN = IMPOSSIBLE, IMPOSSIBLE, 0.0
"""What Run has as blank, unit and both before its first frame."""


class Row(NamedTuple):
    """A frame of one utterance that takes a step."""

    blank: float
    """Log posterior of the blank, IMPOSSIBLE where it is too unlikely."""
    units: dict[int, float]
    """The units that may extend beams, with their log posteriors."""


class Run(NamedTuple):
    """Frames of one utterance between these. All paths pass through the same ones of its units."""

    written: tuple[int, ...]
    """The units that it appends to every beam."""
    blank: float
    """Log probability, above that of all paths before it, of those that end in a blank behind it."""
    unit: float
    """Of those that end in a unit."""
    both: float


def likely(
    log_probs: Tensor, blank: int, least: float | None, most: int | None, is_real: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(log_probs (..., V) in float32, IMPOSSIBLE where nothing is on a path; bool (..., V), what is on one).

    In a frame paths go through the likeliest unit or blank and through those whose log posterior is `least` or more,
    but through no more than the `most` likeliest units. NaN is as impossible as -inf, and so is all of a frame that
    is not `is_real` (...).
    """
    log_probs = log_probs.float().nan_to_num(IMPOSSIBLE, 0.0, IMPOSSIBLE)
    needed = log_probs.amax(-1, keepdim=True).clamp(LOWEST, least) if least is not None else LOWEST
    kept = log_probs >= needed
    if most is not None and most < log_probs.shape[-1] - 1:
        units = log_probs.clone()
        units[..., blank] = IMPOSSIBLE
        is_likely = torch.zeros_like(kept).scatter_(-1, units.topk(most, -1).indices, True)
        is_likely[..., blank] = True
        kept &= is_likely
    if is_real is not None:
        kept &= is_real[..., None]
    return torch.where(kept, log_probs, IMPOSSIBLE), kept


def read_rows(
    log_probs: Tensor, blank: int, least: float | None, most: int | None, may_add: Container[int],
    join: Callable[[float, float], float], *, is_blank: bool,
) -> list[Row | Run]:  # fmt: skip
    """The frames of one utterance, log_probs (T, V); see `likely`. If `is_blank`, all paths end in a blank before them.

    `join` gives the log probability of two sets of paths from those of each.
    """
    log_probs, kept = likely(log_probs, blank, least, most)
    symbols, scores = kept.nonzero()[:, 1].tolist(), log_probs[kept].tolist()
    rows: list[Row | Run] = []
    begin, run, written = 0, NO_RUN, list[int]()
    last = blank if is_blank else -1  # what all paths end in; -1 where they differ
    for count in kept.sum(-1).tolist():
        symbol, score = (symbols[begin], scores[begin]) if count else (blank, IMPOSSIBLE)
        if count <= 1 and (symbol in (last, blank) or (last >= 0 and symbol not in may_add)):
            if symbol not in (last, blank):
                written.append(symbol)
            both = run[2] + score
            run = (both, IMPOSSIBLE, both) if symbol == blank else (IMPOSSIBLE, both, both)
            last = symbol
        elif count == 2 and last in (found := symbols[begin : begin + 2]) and last != blank and blank in found:
            of_two = {one: run[2] + scores[begin + k] for k, one in enumerate(found)}
            run = of_two[blank], of_two[last], join(of_two[blank], of_two[last])
            last = -1
        else:
            if run is not NO_RUN:
                rows.append(Run(tuple(written), *run))
                run, written = NO_RUN, []
            units = dict(zip(symbols[begin : begin + count], scores[begin : begin + count], strict=True))
            rows.append(Row(units.pop(blank, IMPOSSIBLE), units))
            last = symbol if count == 1 else -1
        begin += count
    if run is not NO_RUN:
        rows.append(Run(tuple(written), *run))
    return rows


def read_frames(
    log_probs: Tensor, lengths: Tensor, blank: int, least: float | None, most: int | None, may_add: Tensor,
    maps: Tensor, join: Callable[[Tensor, Tensor], Tensor],
) -> Frames:  # fmt: skip
    """The frames of log_probs (B, T, V), of which lengths (B,) are the utterances'; see `likely`.

    may_add bool (V,); maps int64 (2, V), see trainer.decoding.hashing; `join` as in `read_rows`.
    """
    batch, length, num_units = log_probs.shape
    lengths = lengths.to(log_probs.device)
    is_real = torch.arange(length, device=log_probs.device) < lengths[:, None]
    log_probs, kept = likely(log_probs, blank, least, most, is_real)
    num_kept, (scores, symbols) = kept.sum(-1), log_probs.max(-1)
    symbols.masked_fill_(num_kept == 0, blank)
    before = pad(torch.where(num_kept > 1, -1, symbols)[:, :-1], (1, 0), value=blank)
    is_known = before >= 0
    of_blank, of_unit = log_probs[..., blank], log_probs.gather(2, before.clamp(min=0)[..., None])[..., 0]
    fades = (num_kept == 2) & is_known & (before != blank) & (of_blank > IMPOSSIBLE) & (of_unit > IMPOSSIBLE)
    is_new = (symbols != blank) & (symbols != before)
    is_alone = (num_kept <= 1) & ~(is_new & (~is_known | may_add[symbols]))
    is_step = is_real & ~fades & ~is_alone
    of_blank, of_unit = of_blank.double(), of_unit.double()
    passed = torch.where(fades, join(of_blank, of_unit), scores.double())
    shares = torch.zeros(2, batch, length, dtype=torch.float64, device=log_probs.device)  # of the blank, of the unit
    shares.masked_fill_(torch.stack([symbols != blank, symbols == blank]), IMPOSSIBLE)
    shares = torch.where(fades, torch.stack([of_blank, of_unit]) - passed, shares)

    num_steps = is_step.sum(1)
    num_frames = int(num_steps.max()) if is_step.numel() else 0
    order = (~is_step).int().argsort(dim=1, stable=True)[:, :num_frames].T
    is_there = torch.arange(num_frames, device=order.device)[:, None] < num_steps
    at_end = torch.full((num_units,), IMPOSSIBLE, device=log_probs.device)
    at_end[blank] = 0.0
    rows = (torch.arange(batch, device=order.device) * length + order).flatten()
    frames, kept = (
        of_frames.reshape(-1, num_units).index_select(0, rows).view(num_frames, batch, num_units)
        for of_frames in (log_probs, kept)
    )
    frames = torch.where(is_there[..., None], frames, at_end)
    kept[..., blank] = False
    kept &= is_there[..., None]
    counts = kept.sum(-1)
    starts = (counts.flatten().cumsum(0) - counts.flatten()).view(counts.shape)
    n, b, units = kept.nonzero().unbind(1)
    times = torch.where(is_there, order, length)
    runs = _runs(times, lengths, passed, shares, is_step, torch.where(is_alone & is_new, symbols, -1), maps)
    return Frames(frames, torch.stack([counts, starts], 1), units, frames[n, b, units], num_steps.tolist(), times, runs)


def _runs(
    times: Tensor, lengths: Tensor, passed: Tensor, shares: Tensor, is_step: Tensor, written: Tensor, maps: Tensor
) -> Runs:
    """The runs before, between and behind the frames at `times` (N, B).

    passed float64 (B, T): log probability of what passes through a frame of a run; shares (2, B, T): of that, what is
    in the blank and what is in a unit; written (B, T): the unit that such a frame writes, -1 for none.
    """
    now = torch.arange(passed.shape[1], device=passed.device)
    ends = torch.cat([times, lengths[None]]).minimum(lengths)
    begins = pad(ends[:-1] + 1, (0, 0, 1, 0)).minimum(lengths)
    is_there = ends > begins

    in_run = ~is_step & (now < lengths[:, None])
    both = torch.zeros(ends.shape, dtype=torch.float64, device=ends.device)
    both.scatter_add_(0, is_step.cumsum(1).T, passed.masked_fill(~in_run, 0.0).T)
    of_blank, of_unit = (both + pad(share, (1, 0)).T.gather(0, ends) for share in shares)

    # What the frames before `ends` do to a hash, and of that, what those before `begins` do is undone
    tables = torch.stack([*maps, inverse(maps[0])])
    nothing = torch.tensor([1, 0, 1], device=maps.device)[:, None]
    factors, addends, inverses = torch.cat([tables, nothing], 1)[:, written]
    done, undone = (pad(one.cumprod(1), (1, 0), value=1).T for one in (factors, inverses))
    sums = pad((addends * undone.T[:, 1:]).cumsum(1), (1, 0)).T
    factor = done.gather(0, ends) * undone.gather(0, begins)
    addend = done.gather(0, ends) * (sums.gather(0, ends) - sums.gather(0, begins))

    place = pad(torch.where(written < 0, 0, now + 1), (1, 0)).cummax(1).values.T.gather(0, ends)  # behind the last unit
    last = pad(written, (1, 0), value=-1).T.gather(0, place).masked_fill(place <= begins, -1)
    return Runs(
        is_there, torch.stack([of_blank, of_unit, both], 1), torch.stack([factor, addend, last], 1),
        is_there.any(1).tolist(), (last >= 0).any(1).tolist(), pad(written, (0, 1), value=-1).int(),
    )  # fmt: skip
