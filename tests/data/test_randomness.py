"""data.randomness: many seeds at once are the seeds one by one."""

from __future__ import annotations

import numpy as np
import pytest

import data.randomness
from data.randomness import derive_seed, derive_seeds


def test_many_seeds_are_those_of_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reference: derive_seed; over several parts, of ids beyond ASCII, and of things that are no strings."""
    monkeypatch.setattr(data.randomness, "SEEDS_AT_ONCE", 7)
    ids = [f"sprecher-ä-{i}" for i in range(21)]
    assert derive_seeds(3, "speed", 5, over=ids).tolist() == [derive_seed(3, "speed", 5, i) for i in ids]
    assert derive_seeds(over=range(3)).tolist() == [derive_seed(i) for i in range(3)]
    assert derive_seeds(1, over=iter(ids[:10])).dtype == np.uint64
    assert derive_seeds(1, over=[]).tolist() == []
