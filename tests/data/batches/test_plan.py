"""data.batches.plan: every utterance once an epoch, a pure function of (seed, epoch), little padding; no audio here."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import data.batches.plan
from data.audio.decode import speed_length
from data.batches.grid import Grid
from data.batches.padding import padding_share
from data.batches.plan import EPOCHS_KEPT, BatchPlan, cut_batches, evaluation_batches
from data.config import BatchingConfig
from models.geometry import FrameGeometry

RATE = 16_000


def timit_like_lengths(number: int, seed: int = 0) -> list[int]:
    """Samples of `number` utterances with TIMIT's mean of 3.1 s and standard deviation of 0.88 s."""
    rng = random.Random(seed)
    return [round(RATE * max(0.9, rng.gauss(3.1, 0.88))) for _ in range(number)]


def plan_of(lengths: Sequence[int], *, batch_size: int | None = 8, max_batch_seconds: float | None = None, **options):
    batching = BatchingConfig(batch_size=batch_size, max_batch_seconds=max_batch_seconds)
    settings = dict(seed=1, epochs=3) | options
    return BatchPlan(lengths=lengths, ids=[f"u{i}" for i in range(len(lengths))], batching=batching, **settings)


PLANS = {
    "by size": plan_of(timit_like_lengths(101)),
    "by seconds": plan_of(timit_like_lengths(101), batch_size=None, max_batch_seconds=30.0),
    "by both": plan_of(timit_like_lengths(101), batch_size=6, max_batch_seconds=15.0),
    "one at a time": plan_of(timit_like_lengths(7), batch_size=1),
    "accumulated": plan_of(timit_like_lengths(101), grad_accum_steps=3),
    "speeds": plan_of(timit_like_lengths(101), speeds=(0.9, 1.0, 1.1)),
    "speeds by seconds": plan_of(
        timit_like_lengths(101), batch_size=None, max_batch_seconds=20.0, speeds=(0.9, 1.1), grad_accum_steps=2
    ),
    "equal lengths": plan_of([RATE] * 30),
    "fewer than a batch": plan_of(timit_like_lengths(3)),
}
every_plan = pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)


@every_plan
def test_every_utterance_is_in_exactly_one_batch_of_an_epoch(plan: BatchPlan):
    for epoch in range(3):
        assert sorted(itertools.chain(*plan.batches(epoch))) == list(range(len(plan.lengths)))


@every_plan
def test_no_batch_is_over_its_limits(plan: BatchPlan):
    """Reference: the longest utterance times the batch's size, by hand; one alone may be over the seconds."""
    for epoch in range(3):
        lengths = plan.epoch_lengths(epoch)
        for batch in plan.batches(epoch):
            assert plan.batching.batch_size is None or len(batch) <= plan.batching.batch_size
            padded = max(lengths[i] for i in batch) * len(batch)
            assert plan.batching.max_batch_seconds is None or (
                padded <= plan.batching.max_batch_seconds * RATE or len(batch) == 1
            )


@every_plan
def test_epoch_is_a_function_of_seed_and_number_alone(plan: BatchPlan):
    again = replace(plan)
    assert again.batches(2) == plan.batches(2)  # without epochs 0 and 1 before it
    assert [again.batches(epoch) for epoch in range(3)] == [plan.batches(epoch) for epoch in range(3)]


def test_plan_is_the_same_in_another_process_with_another_hash_seed():
    """Reference: this process, whose salt for str hashes is another one."""
    code = """if True:
        from data.batches.plan import BatchPlan, BatchingConfig
        lengths = [16_000 + 37 * i for i in range(60)]
        ids = [f"u{i}" for i in range(60)]
        batching = BatchingConfig(batch_size=4)
        plan = BatchPlan(lengths=lengths, ids=ids, batching=batching, seed=1, epochs=2, speeds=(0.9, 1.1))
        result = repr([plan.batches(0), plan.batches(1), plan.epoch_lengths(1)])
    """
    here: dict[str, str] = {}
    exec(code, here)
    environment = {"PYTHONPATH": str(Path(__file__).parents[3]), "PYTHONHASHSEED": "12345"}
    child = [sys.executable, "-c", f"{code}\nprint(result)"]
    assert subprocess.run(child, env=environment, capture_output=True, text=True).stdout.strip() == here["result"]


@pytest.mark.parametrize("change", [dict(epoch=1), dict(seed=2)])
def test_other_epochs_and_seeds_mix_other_utterances(change: dict[str, int]):
    """Not the same batches in another order: their composition changes."""
    plan = plan_of(timit_like_lengths(1000))
    other = replace(plan, seed=change.get("seed", plan.seed))
    one = {frozenset(batch) for batch in plan.batches(0)}
    two = {frozenset(batch) for batch in other.batches(change.get("epoch", 0))}
    assert len(one & two) < len(one) / 20


@every_plan
def test_an_epoch_is_planned_once_however_often_it_is_asked_for(plan: BatchPlan, monkeypatch: pytest.MonkeyPatch):
    """As the start of a run asks: for steps, batches, lengths, and twice for what remains."""
    cuts: list[int] = []
    monkeypatch.setattr(data.batches.plan, "cut_batches", lambda *args: cuts.append(1) or cut_batches(*args))
    fresh = replace(plan)
    for _ in range(3):
        fresh.num_steps(0), fresh.batches(0), fresh.epoch_lengths(0), next(fresh.remaining(0, 0))
    assert len(cuts) == 1
    list(fresh.remaining(0, 0))
    assert len(cuts) == 3
    assert [fresh.batches(epoch) for epoch in range(3)] == [replace(plan).batches(epoch) for epoch in range(3)]
    assert len(fresh._planned) == EPOCHS_KEPT


def test_order_of_batches_does_not_follow_length():
    """Reference: Spearman's rank correlation of place and mean length; |rho| of 125 shuffled batches is below 0.3."""
    plan = plan_of(timit_like_lengths(1000))
    for epoch in range(3):
        means = [sum(plan.lengths[i] for i in batch) / len(batch) for batch in plan.batches(epoch)]
        ranks = {mean: rank for rank, mean in enumerate(sorted(means))}
        n = len(means)
        rho = 1 - 6 * sum((place - ranks[mean]) ** 2 for place, mean in enumerate(means)) / (n * (n * n - 1))
        assert abs(rho) < 0.3


@pytest.mark.parametrize(("number", "most"), [(1200, 0.04), (4620, 0.01)])
@pytest.mark.parametrize(
    "batching", [dict(batch_size=16), dict(batch_size=32), dict(batch_size=None, max_batch_seconds=100.0)]
)
def test_padding_stays_small_on_timits_lengths(number: int, most: float, batching: dict):
    """1 % at TIMIT's size; a quarter of it has four times the gap between neighbours."""
    plan = plan_of(timit_like_lengths(number), **batching)
    for epoch in range(3):
        assert padding_share(plan.batches(epoch), plan.lengths) < most


def test_padding_share_counts_what_is_no_audio():
    """Reference: by hand: lengths 10, 30, 20 fill 60 of 3 * 30, lengths 20, 20 all of 2 * 20: 30 of 130 are padding."""
    lengths = [10, 30, 20, 20, 20]
    assert padding_share([[0, 1, 2], [3, 4]], lengths) == pytest.approx(30 / 130)
    assert padding_share([[1]], lengths) == 0
    assert padding_share([], []) == 0


# Steps, and going on in their middle


@every_plan
def test_steps_are_consecutive_batches_in_groups_of_grad_accum_steps(plan: BatchPlan):
    steps = plan.steps(1)
    assert list(itertools.chain(*steps)) == plan.batches(1)
    assert {len(step) for step in steps[:-1]} <= {plan.grad_accum_steps}
    assert 1 <= len(steps[-1]) <= plan.grad_accum_steps
    assert plan.num_steps(1) == len(steps) == -(-len(plan.batches(1)) // plan.grad_accum_steps)


@every_plan
def test_total_steps_is_what_the_whole_plan_yields(plan: BatchPlan):
    assert plan.total_steps() == len(list(plan.remaining(0, 0)))


@every_plan
def test_remaining_equals_the_tail_at_every_step(plan: BatchPlan):
    """Reference: the whole plan from its start, cut by counting."""
    whole = list(plan.remaining(0, 0))
    for done_steps in range(len(whole)):
        epoch = whole[done_steps][0]
        before = [batches for e, batches, _ in whole[:done_steps] if e == epoch]
        batches_done = sum(map(len, before))
        assert list(plan.remaining(epoch, batches_done)) == whole[done_steps:]


@every_plan
def test_last_step_of_each_epoch_says_so(plan: BatchPlan):
    whole = list(plan.remaining(0, 0))
    ends = [i for i, (_, _, ends_epoch) in enumerate(whole) if ends_epoch]
    assert ends == [i for i, (epoch, _, _) in enumerate(whole) if i + 1 == len(whole) or whole[i + 1][0] != epoch]
    assert len(ends) == 3


def test_after_the_last_epoch_nothing_remains():
    assert list(PLANS["by size"].remaining(3, 0)) == []


# Speeds


def test_without_speeds_lengths_are_those_of_the_audio():
    plan = PLANS["by size"]
    assert plan.epoch_lengths(0).tolist() == plan.lengths
    assert plan.speed(0, 0) == 1.0


def test_speeds_give_each_utterance_its_length_at_its_factor():
    """Reference: speed_length at the factor that the plan names."""
    plan = PLANS["speeds"]
    for epoch in range(2):
        factors = [plan.speed(epoch, i) for i in range(101)]
        assert set(factors) == {0.9, 1.0, 1.1}
        expected = [speed_length(n, f) for n, f in zip(plan.lengths, factors, strict=True)]
        assert plan.epoch_lengths(epoch).tolist() == expected


def test_speeds_are_drawn_evenly():
    """Reference: a third each of 3000 draws, within 4 standard deviations (103) of the binomial."""
    plan = plan_of([RATE] * 3000, speeds=(0.9, 1.0, 1.1))
    counts = Counter(plan.speed(0, i) for i in range(3000))
    assert all(abs(count - 1000) < 103 for count in counts.values())


def test_speed_depends_on_seed_epoch_and_id_not_on_the_place_in_the_corpus():
    plan = PLANS["speeds"]
    turned = replace(plan, lengths=plan.lengths[::-1], ids=plan.ids[::-1])
    factors = [plan.speed(0, i) for i in range(101)]
    assert [turned.speed(0, 100 - i) for i in range(101)] == factors
    assert [plan.speed(1, i) for i in range(101)] != factors
    assert [replace(plan, seed=2).speed(0, i) for i in range(101)] != factors


# Cutting and evaluation


def test_cutting_keeps_the_order_and_fills_batches_as_far_as_they_go():
    """Reference: a batch could not have taken the utterance that opens the next one."""
    rng = random.Random(3)
    for _ in range(200):
        lengths = [rng.randint(1, 50) for _ in range(rng.randint(1, 30))]
        order = rng.sample(range(len(lengths)), len(lengths))
        size, limit = rng.choice([None, 1, 3, 8]), rng.choice([None, 60, 150])
        batches = cut_batches(order, lengths, size, limit)
        assert list(itertools.chain(*batches)) == order
        for batch, following in itertools.pairwise(batches):
            larger = [*batch, following[0]]
            too_many = size is not None and len(larger) > size
            too_long = limit is not None and max(lengths[i] for i in larger) * len(larger) > limit
            assert too_many or too_long


@pytest.mark.parametrize("equal_lengths", [False, True])
def test_evaluation_batches_hold_every_utterance_once_longest_first(equal_lengths: bool):
    lengths = [RATE * (1 + i % 7) for i in range(50)]
    batches = evaluation_batches(lengths, batch_size=4, max_batch_seconds=12.0, equal_lengths=equal_lengths)
    assert sorted(itertools.chain(*batches)) == list(range(50))
    flat = [lengths[i] for i in itertools.chain(*batches)]
    assert flat == sorted(lengths, reverse=True)
    assert all(len(batch) <= 4 for batch in batches)
    assert all(len(batch) * max(lengths[i] for i in batch) <= 12 * RATE or len(batch) == 1 for batch in batches)


def test_equal_length_batches_hold_one_length_each():
    lengths = [100, 101, 100, 100, 102, 101, 100]
    batches = evaluation_batches(lengths, batch_size=3, max_batch_seconds=1.0, equal_lengths=True)
    assert [[lengths[i] for i in batch] for batch in batches] == [[102], [101, 101], [100, 100, 100], [100]]


def test_nothing_to_evaluate_is_no_batch():
    assert evaluation_batches([], batch_size=4, max_batch_seconds=1.0, equal_lengths=False) == []


GEOMETRY = FrameGeometry.of((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2))


def grid(frames: int, rows: int) -> Grid:
    return Grid(frames, rows, GEOMETRY.num_frames, GEOMETRY.num_samples)


@pytest.mark.parametrize("frames", [2, 8, 16])
def test_every_shape_on_a_grid_holds_its_batch_and_is_on_the_grid(frames: int) -> None:
    """Reference: frames and padded samples, by hand, of every batch."""
    lengths = timit_like_lengths(101)
    plan = plan_of(lengths, grid=grid(frames, 8))
    assert plan.grid is not None
    for epoch in range(3):
        for batch in plan.batches(epoch):
            of_batch = [lengths[i] for i in batch]
            rows, width = plan.grid.shape(of_batch)
            longest = max(map(GEOMETRY.num_frames, of_batch))
            assert (rows, width % frames) == (8, 0)
            assert longest <= width < longest + frames
            assert GEOMETRY.num_frames(plan.grid.padded_samples(of_batch) // rows) == width
            assert max(of_batch) <= plan.grid.padded_samples(of_batch) // rows


def test_a_grid_of_8_frames_adds_less_than_3_percent_of_padding_to_timits_lengths() -> None:
    """Reference: the same lengths in the batches of a plan without a grid."""
    lengths = timit_like_lengths(4620)
    plain, on_grid = plan_of(lengths, batch_size=32), plan_of(lengths, batch_size=32, grid=grid(8, 32))
    for epoch in range(3):
        before = padding_share(plain.batches(epoch), lengths)
        after = padding_share(on_grid.batches(epoch), lengths, on_grid.grid)
        assert after - before < 0.03
    shapes = {on_grid.grid.shape([lengths[i] for i in b]) for b in on_grid.batches(0)}
    assert len(shapes) < 40


def test_who_meets_whom_on_a_grid_differs_from_epoch_to_epoch() -> None:
    lengths = timit_like_lengths(1000)
    plan = plan_of(lengths, grid=grid(8, 8))
    pairs = [{frozenset(p) for b in plan.batches(e) for p in itertools.combinations(b, 2)} for e in (0, 1)]
    assert len(pairs[0] & pairs[1]) < 0.3 * len(pairs[0])


def test_a_budget_of_seconds_counts_the_padding_of_the_grid() -> None:
    lengths = timit_like_lengths(300)
    plan = plan_of(lengths, batch_size=None, max_batch_seconds=30.0, grid=grid(16, 1))
    for batch in plan.batches(0):
        assert len(batch) == 1 or plan.grid.padded_samples([lengths[i] for i in batch]) <= 30 * RATE
