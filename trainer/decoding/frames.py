"""What a beam search reads of log posteriors: frames in which units may extend beams, and the runs of frames between.

In a run no unit but the blank is likely enough to extend a beam, so beams can only stay. All that a run does to a beam
depends on its last unit alone and is computed beforehand, for all units at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

IMPOSSIBLE = -torch.inf


@dataclass(frozen=True)
class Runs:
    """What the run before each of N frames adds, and the run behind the last one. Without a frame it adds nothing."""

    in_blank: Tensor
    """float32 (N + 1, B): to paths that are in a blank and stay there."""
    in_unit: Tensor
    """float32 (N + 1, B, V): to paths that stay in a unit."""
    to_blank: Tensor
    """float32 (N + 1, B, V): to paths that go from a unit to the blank."""
    is_there: list[bool]
    """Whether any utterance has a frame in it, of each."""


@dataclass(frozen=True)
class Frames:
    """Frame n of an utterance is here the n-th in which units may extend beams. N is that of the utterance with the
    most; behind the last one of another, a blank costs nothing."""

    frames: Tensor
    """float32 (N, B, V): log posteriors."""
    runs: Runs | None
    """None: no frame lies between them."""
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


def read_frames(
    log_probs: Tensor, lengths: Tensor, blank: int, least: float | None, most: int | None, *, takes_best: bool
) -> Frames:
    """The frames of log_probs (B, T, V), of which lengths (B,) are the utterances'. NaN is as impossible as -inf.

    Units of a log posterior of `least` and more, the `most` likeliest ones, may extend beams. `takes_best`: paths are
    joined by their maximum in place of their sum.
    """
    batch, length, num_units = log_probs.shape
    log_probs = log_probs.float().nan_to_num(IMPOSSIBLE, 0.0, IMPOSSIBLE).transpose(0, 1)
    at_end = torch.full((num_units,), IMPOSSIBLE, device=log_probs.device)
    at_end[blank] = 0.0
    is_real = (torch.arange(length)[:, None] < lengths.cpu()).to(log_probs.device)
    log_probs = torch.where(is_real[..., None], log_probs, at_end)
    kept = log_probs > IMPOSSIBLE
    if least is not None:
        kept &= log_probs >= least
    kept[..., blank] = False
    if most is not None and most < num_units - 1:
        likeliest = torch.where(kept, log_probs, IMPOSSIBLE).topk(most, -1).indices
        kept &= torch.zeros_like(kept).scatter_(-1, likeliest, True)
    is_active = kept.any(-1)
    num_frames = int(is_active.sum(0).max()) if is_active.numel() else 0
    order = (~is_active).int().argsort(dim=0, stable=True)[:num_frames]
    is_there = is_active.gather(0, order)
    wide = order[..., None].expand(-1, -1, num_units)
    frames = torch.where(is_there[..., None], log_probs.gather(0, wide), at_end)
    kept = kept.gather(0, wide) & is_there[..., None]
    counts = kept.sum(-1)
    starts = (counts.flatten().cumsum(0) - counts.flatten()).view(counts.shape)
    n, b, units = kept.nonzero().unbind(1)
    runs = None
    if bool((is_real & ~is_active).any()):
        runs = _runs(log_probs, is_active & is_real, order, is_there, blank, takes_best=takes_best)
    return Frames(frames, runs, counts, starts, units, frames[n, b, units])


def _runs(
    log_probs: Tensor, is_active: Tensor, order: Tensor, is_there: Tensor, blank: int, *, takes_best: bool
) -> Runs:
    """The runs before the frames `order` (N, B) of log_probs (T, B, V), and behind the last one."""
    length, batch, num_units = log_probs.shape
    join = torch.maximum if takes_best else torch.logaddexp
    so_far = nothing = (
        torch.zeros(batch, device=log_probs.device),
        torch.zeros(batch, num_units, device=log_probs.device),
        torch.full((batch, num_units), IMPOSSIBLE, device=log_probs.device),
    )
    before, all_active = [so_far], is_active.all(1).tolist()
    for frame, reset, is_reset in zip(log_probs, is_active, all_active, strict=True):
        if is_reset:
            so_far = nothing
        else:
            in_blank, in_unit, to_blank = so_far
            of_blank, wide = frame[:, blank], reset[:, None]
            so_far = (
                (in_blank + of_blank).masked_fill(reset, 0.0),
                (in_unit + frame).masked_fill(wide, 0.0),
                (join(to_blank, in_unit) + of_blank[:, None]).masked_fill(wide, IMPOSSIBLE),
            )
        before.append(so_far)
    # Behind an utterance's last frame with a choice comes its last run, once, and then nothing
    last = torch.full((1, batch), length, device=log_probs.device)
    places = torch.cat([torch.where(is_there, order, length), last])
    is_over = torch.cat([torch.zeros_like(last, dtype=torch.bool), ~is_there])
    everyone = torch.arange(batch, device=log_probs.device)
    values = [torch.stack(column)[places, everyone] for column in zip(*before, strict=True)]
    in_blank = values[0].masked_fill(is_over, 0.0)
    in_unit = values[1].masked_fill(is_over[..., None], 0.0)
    to_blank = values[2].masked_fill(is_over[..., None], IMPOSSIBLE)
    does_nothing = (in_blank == 0.0) & ~(to_blank > IMPOSSIBLE).any(-1)
    return Runs(in_blank, in_unit, to_blank, (~does_nothing).any(1).tolist())
