"""Several ranks train as one process does: losses, gradient norms and weights of 20 steps, with accumulation, LayerDrop
and SpecAugment, and without dropout. Each epoch ends with a batch that is too short for a fourth rank.

The reference is the same loop in a process alone. In double precision what is left is the order of sums: 1e-13.

make test-distributed
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.equal import NUM_STEPS, train, worst
from tests.helpers.ranks import in_worlds
from trainer.parallel.world import ALONE

SIZES = pytest.mark.parametrize("size", [2, 3, 4])
NORMS = pytest.mark.parametrize("norm", ["layer", "group"])
pytestmark = [pytest.mark.distributed, pytest.mark.usefixtures("one_thread")]


@SIZES
@NORMS
@pytest.mark.parametrize(("double", "tolerance"), [(True, 1e-9), (False, 1e-6)], ids=["fp64", "fp32"])
def test_ranks_train_as_one_process(size: int, norm: str, double: bool, tolerance: float, tmp_path: Path) -> None:
    one = train(ALONE, norm=norm, double=double)
    ranks = in_worlds(size, lambda world: train(world, norm=norm, double=double), tmp_path)
    assert len(one["losses"]) == NUM_STEPS
    for rank in ranks[1:]:  # bit for bit: each updates its own copy of the weights
        assert rank == ranks[0]
    assert worst(ranks[0]["losses"], one["losses"]) < tolerance
    assert worst(ranks[0]["norms"], one["norms"]) < tolerance
    # in fp32, AdamW makes the rounding of a gradient near 0 as large as a step
    assert worst(ranks[0]["weights"], one["weights"]) < (1e-9 if double else 1e-2)
    assert ranks[0]["blanks"] == pytest.approx(one["blanks"], abs=1e-6 if double else 1e-2)
    assert ranks[0]["seconds"] == pytest.approx(one["seconds"], rel=1e-12)
    assert ranks[0]["padded"] <= one["padded"] * (1 + 1e-12)  # a share is padded to its own longest


def test_dropout_differs_between_ranks_and_two_runs_are_the_same_bits(tmp_path: Path) -> None:
    def run(name: str) -> list[dict]:
        return in_worlds(2, lambda world: train(world, hidden_dropout=0.2), tmp_path / name)

    first, second = run("a"), run("b")
    assert first == second
    assert first[0] == first[1]  # the gradient is the sum of both
    assert worst(first[0]["losses"], train(ALONE, hidden_dropout=0.2)["losses"]) > 1e-3
