"""A model that is spread over 1, 2 and 4 forked processes (FSDP) against the same training in one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.sharded import in_ranks, trained, whole_weights
from trainer.parallel.world import World

pytestmark = pytest.mark.distributed

CASES: dict[str, dict[str, Any]] = {
    "fp64": dict(accum=2),
    "fp32": dict(dtype=torch.float32, lr=1e-5, initializer_range=0.05),
    "wavlm, activation checkpointing": dict(family="wavlm", checkpointing=True),
    "group norm, frozen": dict(family="hubert", norm="group", frozen=True),
    "LayerDrop, summed once a step": dict(layerdrop=0.4, accum=2, reduces_once=True),
}


@pytest.mark.parametrize(
    ("case", "size"),
    [("fp64", 1), ("fp64", 2), ("fp64", 4), ("fp32", 2), ("wavlm, activation checkpointing", 2),
     ("group norm, frozen", 3), ("LayerDrop, summed once a step", 2)],
)  # fmt: skip
def test_spread_training_equals_one_process(case: str, size: int, tmp_path: Path, one_thread: None) -> None:
    """Loss, norms of all parts, and weights of 20 steps: to 1e-9 in fp64, to 1e-6 in fp32 (relative)."""
    options = CASES[case]
    bound = 1e-6 if options.get("dtype") is torch.float32 else 1e-9

    def work(world: World) -> Any:
        figures, parts = trained(world, is_sharded=True, **options)
        torch.save(whole_weights(parts), tmp_path / f"{world.rank}.pt")
        return figures

    by_ranks = in_ranks(size, work, tmp_path)
    figures, parts = trained(**options)
    assert all(of_rank == by_ranks[0] for of_rank in by_ranks)
    assert len(figures) == 20
    np.testing.assert_allclose(by_ranks[0], figures, rtol=bound)
    spread = torch.load(tmp_path / "0.pt", weights_only=True)
    for name, weight in whole_weights(parts).items():
        torch.testing.assert_close(spread[name], weight, rtol=bound, atol=bound)
