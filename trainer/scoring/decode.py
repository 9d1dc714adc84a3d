"""Greedy CTC decoding: the best unit of each frame, repeats merged, blanks dropped; on the device of the frames."""

from __future__ import annotations

import torch
from torch import Tensor

NOTHING = -1


def collapse(frame_ids: Tensor, frame_lengths: Tensor, blank_id: int) -> Tensor:
    """The unit that each frame writes, NOTHING for most: (B, T), from the best ids of each frame (B, T).

    A frame writes its unit unless that is the blank or the frame before has it too (Graves et al. 2006); frames
    from frame_lengths (B,) on write nothing.

    >>> collapse(torch.tensor([[0, 1, 1, 0, 1, 2, 2]]), torch.tensor([7]), blank_id=0).tolist()
    [[-1, 1, -1, -1, 1, 2, -1]]
    """
    before = torch.nn.functional.pad(frame_ids, (1, 0), value=blank_id)[:, :-1]
    is_real = torch.arange(frame_ids.shape[1], device=frame_ids.device) < frame_lengths[:, None]
    return torch.where(is_real & (frame_ids != before) & (frame_ids != blank_id), frame_ids, NOTHING)


def written_units(collapsed: Tensor) -> tuple[int, ...]:
    """The units that one utterance's frames (T,) of `collapse` write, in order.

    >>> written_units(torch.tensor([-1, 1, -1, -1, 1, 2, -1]))
    (1, 1, 2)
    """
    return tuple(collapsed[collapsed != NOTHING].tolist())
