"""How much of the audio in batches is padding, and which shapes they have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data.batches.arrays import Batches
from data.batches.grid import Grid
from data.utterance import SAMPLE_RATE


def padded_shapes(
    batches: Sequence[Sequence[int]], lengths: Sequence[int] | np.ndarray, grid: Grid | None = None
) -> np.ndarray:
    """int64 (number of batches, 2): rows and samples of each batch, padding included."""
    batches = Batches.of(batches)
    rows, samples = batches.sizes, batches.longest(lengths)
    if grid is not None:
        rows, samples = -(-rows // grid.rows) * grid.rows, grid.padded_lengths(samples)
    return np.stack([rows, samples], axis=1).astype(np.int64)


def padded_seconds(
    batches: Sequence[Sequence[int]], lengths: Sequence[int] | np.ndarray, grid: Grid | None = None
) -> list[float]:
    """Seconds of audio in each batch, padding included; `lengths` are in samples."""
    return (padded_shapes(batches, lengths, grid).prod(axis=1) / SAMPLE_RATE).tolist()


def padding_shares(
    batches: Sequence[Sequence[int]], lengths: Sequence[int] | np.ndarray, grid: Grid | None = None
) -> list[float]:
    """Share of the audio in each batch that is padding."""
    batches = Batches.of(batches)
    if not batches:
        return []
    real = np.add.reduceat(np.asarray(lengths)[batches.positions], batches.cuts[:-1], dtype=np.int64)
    return (1 - real / padded_shapes(batches, lengths, grid).prod(axis=1)).tolist()


def padding_share(
    batches: Sequence[Sequence[int]], lengths: Sequence[int] | np.ndarray, grid: Grid | None = None
) -> float:
    """Share of the audio in `batches` that is padding."""
    batches = Batches.of(batches)
    padded = int(padded_shapes(batches, lengths, grid).prod(axis=1).sum())
    real = np.asarray(lengths)[batches.positions].sum(dtype=np.int64) if batches else 0
    return 1 - int(real) / padded if padded else 0.0
