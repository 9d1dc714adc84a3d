"""Greedy CTC decoding: the best unit of each frame, repeats merged, blanks dropped."""

from __future__ import annotations

import numpy as np


def collapse(frame_ids: np.ndarray, blank_id: int) -> np.ndarray:
    """Unit ids from one utterance's best ids per frame (T,): merge repeats, then drop blanks (Graves et al. 2006).

    >>> collapse(np.array([0, 1, 1, 0, 1, 2, 2]), blank_id=0).tolist()
    [1, 1, 2]
    """
    is_new = np.ones(len(frame_ids), dtype=bool)
    is_new[1:] = frame_ids[1:] != frame_ids[:-1]
    return frame_ids[is_new & (frame_ids != blank_id)]
