"""data.batches.padding: padding and shapes of many batches at once equal those of each batch, computed by hand."""

from __future__ import annotations

import random

import numpy as np
import pytest

from data.batches.arrays import Batches
from data.batches.grid import Grid
from data.batches.padding import padded_seconds, padded_shapes, padding_share, padding_shares
from models.geometry import FrameGeometry

GEOMETRY = FrameGeometry.of((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2))
GRIDS = [
    None,
    Grid(8, 1, GEOMETRY.num_frames, GEOMETRY.num_samples),
    Grid(3, 4, GEOMETRY.num_frames, GEOMETRY.num_samples),
]


@pytest.mark.parametrize("grid", GRIDS)
def test_padding_of_many_batches_is_that_of_each_by_hand(grid: Grid | None) -> None:
    rng = random.Random(0)
    lengths = [rng.randint(1, 90_000) for _ in range(60)]
    order = rng.sample(range(60), 60)
    batches = [order[0:1], order[1:9], order[9:40], order[40:60]]
    by_hand = []
    for batch in batches:
        of_batch = [lengths[i] for i in batch]
        by_hand.append(len(batch) * max(of_batch) if grid is None else grid.padded_samples(of_batch))
    real = [sum(lengths[i] for i in batch) for batch in batches]
    for given in (batches, Batches.of(batches)):
        assert padded_seconds(given, lengths, grid) == pytest.approx([n / 16_000 for n in by_hand], rel=1e-15)
        shares = [1 - r / n for r, n in zip(real, by_hand, strict=True)]
        assert padding_shares(given, lengths, grid) == pytest.approx(shares)
        assert padding_share(given, np.array(lengths, np.int32), grid) == pytest.approx(1 - sum(real) / sum(by_hand))


def test_shapes_are_those_of_the_grid() -> None:
    lengths = [400, 16_000, 16_001, 48_000]
    (grid,) = GRIDS[2:]
    shapes = padded_shapes([[0, 1], [3], [2, 1, 0, 3, 1]], lengths, grid)
    expected = [grid.shape([lengths[i] for i in b]) for b in ([0, 1], [3], [2, 1, 0, 3, 1])]
    assert shapes.tolist() == [[rows, grid.num_samples(frames)] for rows, frames in expected]


@pytest.mark.parametrize("grid", GRIDS[1:])
def test_every_length_is_padded_to_the_grid_as_it_would_be_alone(grid: Grid) -> None:
    """Reference: Grid.shape of each length, from no frame at all to 2.5 s and at the grid's own borders."""
    lengths = np.array(
        [0, 1, 399, *range(400, 40_000, 101), *(grid.num_samples(k) + d for k in (3, 8, 9) for d in (0, 1))]
    )
    expected = [grid.num_samples(grid.shape([n])[1]) for n in lengths.tolist()]
    assert grid.padded_lengths(lengths).tolist() == expected


def test_nothing_has_no_padding() -> None:
    assert padding_share([], []) == 0
    assert padding_shares([], []) == []
    assert padded_seconds([], []) == []
