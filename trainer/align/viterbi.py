"""The best path through a lattice: exact, many stretches at once on the device, in memory that does not grow with both
frames and states.

Only scores are computed on the way forward. The way back compares them again, along the path alone. Where the scores of
all frames do not fit into `max_bytes`, those of some frames are kept, and the frames between two of them are computed
once more when the way back reaches them. If the kept ones would be too many, they are kept in levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainer.align.lattice import Costs, Lattice, Words

MAX_BYTES = 2**28
"""Scores that are kept at a time, 256 MiB."""


@dataclass(frozen=True)
class Path:
    """The best path of one stretch."""

    states: np.ndarray
    """int64 (T,): each frame's state, as trainer.align.lattice numbers them."""
    score: float
    """Its emissions less its costs, in nats."""


def best_paths(
    emissions: Sequence[Tensor],
    stretches: Sequence[Words],
    costs: Costs,
    max_bytes: int = MAX_BYTES,
) -> tuple[Lattice, list[Path]]:
    """The best path of each stretch, in order, and the lattice in whose states it is told.

    emissions[b] is float32 (T_b, K_b + 1): log posteriors of K_b units, and of speech that is not written; all lie on
    one device. The score is -inf where no path is possible.
    """
    lengths, width = [len(rows) for rows in emissions], max(rows.shape[1] for rows in emissions)
    device = emissions[0].device
    lattice = Lattice(stretches, width - 1, costs, device)
    padded = torch.full((len(lengths), max(lengths), width + 1), -torch.inf, device=device)
    for row, rows in enumerate(emissions):
        padded[row, : len(rows), : rows.shape[1] - 1] = rows[:, :-1]
        padded[row, : len(rows), width - 1] = rows[:, -1]
    search = _Search(lattice, padded, lengths, max_bytes)
    return lattice, search.paths()


class _Search:
    def __init__(self, lattice: Lattice, emissions: Tensor, lengths: Sequence[int], max_bytes: int) -> None:
        self.lattice, self.emissions, self.lengths = lattice, emissions, lengths
        bytes_a_frame = 4 * lattice.num_states * len(lengths)
        self.block = max(2, max_bytes // bytes_a_frame)
        """Frames whose scores are kept at a time."""
        self.states = [np.zeros(length, np.int64) for length in lengths]
        self.scores = [-np.inf] * len(lengths)

    def paths(self) -> list[Path]:
        at: list[int | None] = [None] * len(self.lengths)
        """The state of each stretch at the frame that the way back has reached; None before its last frame."""
        self._go_back(0, max(self.lengths), None, at)
        return [Path(states, score) for states, score in zip(self.states, self.scores, strict=True)]

    def _go_back(self, begin: int, end: int, before: Tensor | None, at: list[int | None]) -> None:
        """Write the states of frames [begin, end), from the last one on; `before` are the scores at begin - 1."""
        if end - begin <= self.block:
            self._trace(begin, self._scores(begin, end, before), before, at)
            return
        size = max(self.block, -(-(end - begin) // self.block))
        marks, scores = [], before
        for first in range(begin, end, size):
            marks.append((first, scores))
            if first + size < end:
                scores = self._advance(first, first + size, scores)
        while marks:
            first, scores = marks.pop()
            self._go_back(first, min(first + size, end), scores, at)

    def _step(self, frame: int, before: Tensor | None) -> Tensor:
        emissions = self.emissions[:, frame]
        if before is None:
            return self.lattice.begin() + emissions.gather(1, self.lattice.columns)
        return self.lattice.advance(before, emissions)

    def _advance(self, begin: int, end: int, scores: Tensor | None) -> Tensor:
        for frame in range(begin, end):
            scores = self._step(frame, scores)
        assert scores is not None, "there is a frame"
        return scores

    def _scores(self, begin: int, end: int, scores: Tensor | None) -> np.ndarray:
        """Scores at frames [begin, end), float32 (end - begin, B, states), on the host."""
        kept = torch.empty(end - begin, len(self.lengths), self.lattice.num_states, device=self.emissions.device)
        for frame in range(begin, end):
            scores = kept[frame - begin] = self._step(frame, scores)
        return kept.cpu().numpy()

    def _trace(self, begin: int, kept: np.ndarray, before: Tensor | None, at: list[int | None]) -> None:
        earlier = None if before is None else before.cpu().numpy()
        for row, length in enumerate(self.lengths):
            state = at[row]
            for frame in range(min(begin + len(kept), length) - 1, begin - 1, -1):
                if frame == length - 1:
                    self.scores[row], state = self.lattice.ending(row, kept[frame - begin, row])
                assert state is not None, "a way back begins at the last frame"
                self.states[row][frame] = state
                if frame:
                    scores = kept[frame - begin - 1, row] if frame > begin else earlier[row]  # type: ignore[index]
                    state = self.lattice.before(row, scores, state)
            at[row] = state
