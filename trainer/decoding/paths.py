"""The best path of a sequence of units through the frames, which says when each unit was spoken."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def best_path(log_probs: np.ndarray, units: Sequence[int], blank: int, *, ends_in_blank: bool = False) -> np.ndarray:
    """The unit or blank of each frame, int64 (T,), on the likeliest path that writes `units` (Viterbi), or on the
    likeliest one that ends in a blank.

    log_probs (T, V). ValueError where T frames cannot hold the units and the blanks between equal ones. Memory is
    T * (2 U + 1) bytes.
    """
    num_frames, num_states = len(log_probs), 2 * len(units) + 1
    if num_frames == 0 and not units:
        return np.zeros(0, np.int64)
    states = np.full(num_states, blank, np.int64)
    states[1::2] = units
    may_skip = np.zeros(num_states, bool)  # over the blank between two different units
    may_skip[3::2] = states[3::2] != states[1:-2:2]
    score = np.full(num_states, -np.inf)
    moves = np.zeros((num_frames, num_states), np.uint8)
    for t in range(num_frames):
        if t == 0:
            reached = np.full(num_states, -np.inf)
            reached[:2] = 0.0
        else:
            one = np.append(-np.inf, score[:-1])
            two = np.where(may_skip, np.append([-np.inf, -np.inf], score[:-2])[:num_states], -np.inf)
            options = np.stack([score, one, two])
            moves[t] = options.argmax(0)
            reached = options.max(0)
        score = reached + log_probs[t, states]
    state = num_states - 1
    if num_states > 1 and not ends_in_blank and score[-2] > score[-1]:
        state -= 1
    if not score[state] > -np.inf:
        raise ValueError(f"{len(units)} units have no path through {num_frames} frames")
    path = np.empty(num_frames, np.int64)
    for t in range(num_frames - 1, -1, -1):
        path[t] = states[state]
        state -= int(moves[t, state])
    return path
