"""trainer.prepare.steps: a count that took long is kept, and serves only the plan that was counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import trainer.prepare.steps
from data.batches.grid import Grid
from data.batches.plan import BatchPlan
from data.config import BatchingConfig
from models.geometry import FrameGeometry
from trainer.prepare.steps import planned_steps

GEOMETRY = FrameGeometry.of((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2))
LENGTHS = [8000 + 7919 * i % 60_000 for i in range(100)]
PLAN = BatchPlan(
    LENGTHS, [f"u{i}" for i in range(100)], BatchingConfig(batch_size=None, max_batch_seconds=20.0), seed=1, epochs=3,
    speeds=(0.9, 1.1),
)  # fmt: skip
OTHERS = {
    "lengths": dict(lengths=[*LENGTHS[:-1], 9000]),
    "ids": dict(ids=[f"v{i}" for i in range(100)]),
    "budget": dict(batching=BatchingConfig(batch_size=None, max_batch_seconds=21.0)),
    "batch size": dict(batching=BatchingConfig(batch_size=3, max_batch_seconds=20.0)),
    "seed": dict(seed=2),
    "epochs": dict(epochs=4),
    "accumulation": dict(grad_accum_steps=2),
    "speeds": dict(speeds=(0.9, 1.0)),
    "grid": dict(grid=Grid(8, 1, GEOMETRY.num_frames, GEOMETRY.num_samples)),
}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[BatchPlan]:
    """The plans that were counted. Every count is worth keeping."""
    counted: list[BatchPlan] = []
    count = BatchPlan.total_steps
    monkeypatch.setattr(trainer.prepare.steps, "WORTH_KEEPING", -1.0)
    monkeypatch.setattr(BatchPlan, "total_steps", lambda plan, *args: counted.append(plan) or count(plan, *args))
    return counted


def test_a_plan_is_counted_once(counted: list[BatchPlan], tmp_path: Path) -> None:
    for at_most in (None, 7):
        del counted[:]
        steps = [planned_steps(replace(PLAN), at_most, tmp_path) for _ in range(3)]
        assert steps == [len(list(PLAN.remaining(0, 0)))] * 3 if at_most is None else [7] * 3
        assert len(counted) == 1


@pytest.mark.parametrize("change", OTHERS)
def test_another_plan_is_counted_anew(counted: list[BatchPlan], tmp_path: Path, change: str) -> None:
    planned_steps(PLAN, None, tmp_path)
    other = replace(PLAN, **OTHERS[change])
    assert planned_steps(other, None, tmp_path) == len(list(other.remaining(0, 0)))
    assert counted == [PLAN, other]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"total_steps": "6"}', '{"total_steps": -6}', "\udcff"])
def test_what_is_no_count_is_counted_anew(counted: list[BatchPlan], tmp_path: Path, content: str) -> None:
    steps = planned_steps(PLAN, None, tmp_path)
    (path,) = (tmp_path / "plans").iterdir()
    path.write_bytes(content.encode(errors="surrogateescape"))
    assert planned_steps(PLAN, None, tmp_path) == steps
    assert planned_steps(PLAN, None, tmp_path) == steps
    assert len(counted) == 2


def test_a_quick_count_and_a_plan_without_a_budget_leave_nothing(tmp_path: Path) -> None:
    planned_steps(PLAN, None, tmp_path)
    planned_steps(replace(PLAN, batching=BatchingConfig(batch_size=4)), None, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_costs_only_the_time(counted: list[BatchPlan], tmp_path: Path) -> None:
    (tmp_path / "plans").touch()
    assert planned_steps(PLAN, None, tmp_path) == planned_steps(PLAN, None, tmp_path)
    assert len(counted) == 2
