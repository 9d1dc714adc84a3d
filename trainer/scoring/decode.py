"""Greedy CTC decoding: repeats of the best units are merged, blanks are dropped. It runs on the frames' device."""

from __future__ import annotations

import torch
from torch import Tensor

NOTHING = -1


def collapse(frame_ids: Tensor, frame_lengths: Tensor, blank_id: int) -> Tensor:
    """The unit that each frame writes, or NOTHING: (B, T), from the best unit of each frame (B, T).

    A frame writes its unit, unless it is the blank or the previous frame has the same unit (Graves et al. 2006).
    Frames from frame_lengths (B,) on are padding and write nothing.

    >>> collapse(torch.tensor([[0, 1, 1, 0, 1, 2, 2]]), torch.tensor([7]), blank_id=0).tolist()
    [[-1, 1, -1, -1, 1, 2, -1]]
    """
    before = torch.nn.functional.pad(frame_ids, (1, 0), value=blank_id)[:, :-1]
    is_real = torch.arange(frame_ids.shape[1], device=frame_ids.device) < frame_lengths[:, None]
    return torch.where(is_real & (frame_ids != before) & (frame_ids != blank_id), frame_ids, NOTHING)


def written_units(collapsed: Tensor) -> tuple[int, ...]:
    """The units of one utterance, in order, from its frames (T,) as `collapse` gives them.

    >>> written_units(torch.tensor([-1, 1, -1, -1, 1, 2, -1]))
    (1, 1, 2)
    """
    return tuple(collapsed[collapsed != NOTHING].tolist())
