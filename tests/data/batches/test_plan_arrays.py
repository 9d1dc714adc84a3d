"""data.batches.plan on arrays: the batches that lists gave, in little memory, from any kind of lengths and ids."""

from __future__ import annotations

import hashlib
import json
import random
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

import data.batches.plan
from data.audio.decode import speed_length
from data.batches.grid import Grid
from data.batches.plan import BatchPlan, by_length, cut_batches, speed_lengths, uniform_draws
from data.config import BatchingConfig
from models.geometry import FrameGeometry

GEOMETRY = FrameGeometry.of((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2))
LENGTHS = [8000 + 7919 * i % 60_000 for i in range(500)]
IDS = [f"u{i}" for i in range(500)]
KINDS: dict[str, dict] = {
    "by size": dict(batching=BatchingConfig(batch_size=32)),
    "by seconds": dict(
        batching=BatchingConfig(batch_size=None, max_batch_seconds=60.0), speeds=(0.9, 1.0, 1.1)
    ),
    "on a grid": dict(
        batching=BatchingConfig(batch_size=16), grid=Grid(8, 16, GEOMETRY.num_frames, GEOMETRY.num_samples)
    ),
}  # fmt: skip
WRITTEN_BEFORE = {
    "by size": "dbae4fa207322ef0", "by seconds": "67b7a77e8e8e3c61", "on a grid": "978f189a1f87272a"
}  # fmt: skip
"""Digests of these plans when they were made of lists. A run that was begun then goes on with the same batches."""

every_kind = pytest.mark.parametrize("kind", KINDS)


def plan_of(kind: str, lengths: Sequence[int] | np.ndarray = LENGTHS, ids: Sequence[str] = IDS) -> BatchPlan:
    return BatchPlan(lengths, ids, seed=42, epochs=3, grad_accum_steps=2, **KINDS[kind])


@every_kind
def test_plans_are_those_of_earlier_versions(kind: str) -> None:
    text = json.dumps(list(plan_of(kind).remaining(0, 0)))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == WRITTEN_BEFORE[kind]


class Column(Sequence[str]):
    """Ids that lie elsewhere: no list holds them."""

    def __len__(self) -> int:
        return len(IDS)

    def __getitem__(self, i):
        return f"u{i}"

    def __iter__(self) -> Iterator[str]:
        return (f"u{i}" for i in range(len(self)))


@every_kind
def test_lengths_on_the_disk_and_ids_from_elsewhere_give_the_same_plan(kind: str, tmp_path: Path) -> None:
    expected = list(plan_of(kind).remaining(0, 0))
    for dtype in (np.int32, np.int64, np.uint32):
        np.save(tmp_path / "lengths.npy", np.array(LENGTHS, dtype))
        mapped = np.load(tmp_path / "lengths.npy", mmap_mode="r")
        plan = plan_of(kind, mapped, Column())
        assert list(plan.remaining(0, 0)) == expected
        assert plan.epoch_lengths(0).dtype == np.int64
        assert np.shares_memory(plan.epoch_lengths(0), mapped) == (dtype == np.int64 and not plan.speeds)


def test_ids_are_not_read_without_speeds() -> None:
    next(plan_of("by size", ids=None).remaining(0, 0))  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "most"), [("by size", 40), ("by seconds", 90), ("on a grid", 70)])
def test_planning_takes_less_than_a_hundred_bytes_an_utterance(kind: str, most: int) -> None:
    """Reference: what tracemalloc counts. Lists took 72, 113 and 137 bytes an utterance, and kept 42, 86 and 44."""
    number = 30_000
    lengths = np.random.default_rng(0).integers(8000, 80_000, number)
    plan = plan_of(kind, lengths, [""] * number)
    tracemalloc.start()
    try:
        plan.batches(0)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < most * number
    assert kept < 20 * number


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16])
def test_utterances_are_sorted_by_length_and_then_by_place(dtype: type) -> None:
    """Reference: Python's sort, which is stable; also for lengths that leave no room beside them in 64 bits."""
    rng = random.Random(0)
    lengths = [rng.randint(0, 40) * rng.choice([1, 1000]) for _ in range(500)]
    expected = sorted(range(500), key=lengths.__getitem__)
    assert by_length(np.array(lengths, dtype)).tolist() == expected
    huge = np.array(lengths, np.int64) + 2**40
    assert by_length(huge).tolist() == expected
    assert by_length(np.zeros(0, dtype)).tolist() == []


def test_draws_in_parts_are_those_of_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reference: one call of randbytes; what the generator gives afterwards is the same, too."""
    monkeypatch.setattr(data.batches.plan, "DRAWS_AT_ONCE", 7)
    at_once, in_parts = random.Random(5), random.Random(5)
    expected = np.frombuffer(at_once.randbytes(8 * 30), "<u8") / 2.0**64
    assert np.array_equal(uniform_draws(in_parts, 30), expected)
    assert in_parts.random() == at_once.random()


def test_lengths_at_a_speed_are_those_of_each_utterance() -> None:
    """Reference: speed_length; halves are among them."""
    rng = random.Random(0)
    lengths = [0, 1, 2, 9, *(rng.randint(1, 10**6) for _ in range(200))]
    factors = [rng.choice([0.5, 0.9, 1.0, 1.1, 2.0, 2.5, 3.7]) for _ in lengths]
    expected = [speed_length(n, f) for n, f in zip(lengths, factors, strict=True)]
    assert speed_lengths(np.array(lengths), np.array(factors)).tolist() == expected


@every_kind
def test_steps_left_are_those_that_remain(kind: str) -> None:
    """Reference: the plan itself, counted, from every step on."""
    plan = plan_of(kind)
    for epoch in range(3):
        for done in range(0, len(plan.batches(epoch)), 2):
            left = sum(1 for _ in plan.remaining(epoch, done))
            assert plan.steps_left(epoch, done) == left
            assert plan.steps_left(epoch, done, at_most=left - 1) == left - 1
            assert plan.steps_left(epoch, done, at_most=left + 1) == left
    assert plan.steps_left(3, 0) == 0


@every_kind
def test_going_on_in_an_epoch_plans_no_other(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, cuts = list(plan_of(kind).remaining(0, 0))[2 - plan_of(kind).num_steps(2)], []
    monkeypatch.setattr(data.batches.plan, "cut_batches", lambda *args: cuts.append(1) or cut_batches(*args))
    assert next(plan_of(kind).remaining(2, 4)) == expected
    assert len(cuts) == 1
