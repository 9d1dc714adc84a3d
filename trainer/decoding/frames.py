"""What a beam search reads of log posteriors: frames in which units may extend beams, and the runs of blanks between.

A unit or blank that is too unlikely in a frame is on no path through it. So in many frames of a CTC model the blank is
alone, and a run of such frames is one sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

IMPOSSIBLE = -torch.inf
LOWEST = torch.finfo(torch.float32).min


@dataclass(frozen=True)
class Frames:
    """Frame n of an utterance is here the n-th in which units may extend beams. N is that of the utterance with the
    most; behind the last one of another, a blank costs nothing."""

    frames: Tensor
    """float32 (N, B, V): log posteriors, IMPOSSIBLE where a unit is too unlikely."""
    runs: Tensor
    """float64 (N + 1, B): log probability of the blanks before each frame, and behind the last one."""
    is_run: Tensor
    """bool (N + 1, B): whether there are any."""
    any_run: list[bool]
    """The same of any utterance."""
    ends: list[int]
    """How many of the N frames each utterance has."""
    counts: Tensor
    """int64 (N, B): how many units may extend beams."""
    starts: Tensor
    """int64 (N, B): where these units stand in `units`."""
    units: Tensor
    """int64 (sum of counts,)."""
    scores: Tensor
    """float32 (sum of counts,): their log posteriors."""

    def __len__(self) -> int:
        return len(self.frames)


class Row(NamedTuple):
    """A frame of one utterance, or a run of frames in which the blank is alone."""

    blank: float
    """Log posterior of the blank, IMPOSSIBLE where it is too unlikely."""
    units: dict[int, float]
    """The units that may extend beams, with their log posteriors; none in a run of blanks."""


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


def read_rows(log_probs: Tensor, blank: int, least: float | None, most: int | None) -> list[Row]:
    """The frames of one utterance, log_probs (T, V)."""
    log_probs, kept = likely(log_probs, blank, least, most)
    of_blank = log_probs[:, blank].tolist()
    kept[:, blank] = False
    units: list[dict[int, float]] = [{} for _ in of_blank]
    for (n, unit), log_prob in zip(kept.nonzero().tolist(), log_probs[kept].tolist(), strict=True):
        units[n][unit] = log_prob
    rows: list[Row] = []
    for one_blank, some in zip(of_blank, units, strict=True):
        if rows and not some and not rows[-1].units:
            rows[-1] = Row(rows[-1].blank + one_blank, some)
        else:
            rows.append(Row(one_blank, some))
    return rows


def read_frames(log_probs: Tensor, lengths: Tensor, blank: int, least: float | None, most: int | None) -> Frames:
    """The frames of log_probs (B, T, V), of which lengths (B,) are the utterances'; see `likely`."""
    batch, length, num_units = log_probs.shape
    is_real = (torch.arange(length) < lengths.cpu()[:, None]).to(log_probs.device)
    log_probs, kept = likely(log_probs, blank, least, most, is_real)
    of_blank = log_probs[..., blank].T
    kept[..., blank] = False
    is_real, is_active = is_real.T, kept.any(-1).T

    num_active = is_active.sum(0)
    num_frames = int(num_active.max()) if is_active.numel() else 0
    order = (~is_active).int().argsort(dim=0, stable=True)[:num_frames]
    is_there = is_active.gather(0, order)
    at_end = torch.full((num_units,), IMPOSSIBLE, device=log_probs.device)
    at_end[blank] = 0.0
    rows = (torch.arange(batch, device=order.device) * length + order).flatten()
    frames, kept = (
        of_frames.reshape(-1, num_units).index_select(0, rows).view(num_frames, batch, num_units)
        for of_frames in (log_probs, kept)
    )
    frames = torch.where(is_there[..., None], frames, at_end)
    counts = kept.sum(-1)
    starts = (counts.flatten().cumsum(0) - counts.flatten()).view(counts.shape)
    n, b, units = kept.nonzero().unbind(1)

    in_run, run = is_real & ~is_active, is_active.cumsum(0)
    nothing = torch.zeros(num_frames + 1, len(num_active), dtype=torch.float64, device=log_probs.device)
    runs = nothing.scatter_add(0, run, of_blank.double().masked_fill(~in_run, 0.0))
    is_run = nothing.scatter_add(0, run, in_run.double()) > 0
    return Frames(
        frames, runs, is_run, is_run.any(1).tolist(), num_active.tolist(), counts, starts, units, frames[n, b, units]
    )
