"""A grid of shapes: batches are padded to a few numbers of frames and of rows, so that a device meets few shapes.

A GPU's libraries prepare something for every new shape: cuDNN builds a plan of its attention (100 ms on an H100), and a
CUDA graph holds for one shape alone. A row that is added is an utterance of one silent frame without a transcript.
Nobody reads its output, so it has no loss, no gradient and no share in any figure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Grid:
    """Which shapes a batch may have."""

    frames: int
    """Frames are a multiple of this."""
    rows: int
    """Rows are a multiple of this."""
    num_frames: Callable[[int], int]
    """Frames of an utterance of so many samples."""
    num_samples: Callable[[int], int]
    """The most samples that give so many frames."""

    def shape(self, lengths: Sequence[int]) -> tuple[int, int]:
        """(Rows, frames) of the batch of utterances with these lengths in samples."""
        frames = max(1, self.num_frames(max(lengths)))
        return round_up(len(lengths), self.rows), round_up(frames, self.frames)

    def padded_samples(self, lengths: Sequence[int]) -> int:
        """Samples of that batch, padding and added rows included."""
        rows, frames = self.shape(lengths)
        return rows * self.num_samples(frames)

    def padded_lengths(self, lengths: np.ndarray) -> np.ndarray:
        """The samples that an utterance of each length is padded to in a batch in which it is the longest."""
        widest = self.shape([int(lengths.max(initial=0))])[1]
        limits = np.array([self.num_samples(frames) for frames in range(self.frames, widest + 1, self.frames)])
        return limits[np.searchsorted(limits, lengths)]


def round_up(number: int, multiple: int) -> int:
    """The smallest multiple that is not below `number`.

    >>> round_up(17, 8), round_up(16, 8)
    (24, 16)
    """
    return -(-number // multiple) * multiple
