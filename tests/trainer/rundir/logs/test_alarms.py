"""Alarms (trainer.rundir.logs.alarms) on simulated curves that go nowhere, and on curves of runs that went well.

pytest tests/trainer/rundir/logs/test_alarms.py
"""

from __future__ import annotations

import doctest
import json
import math
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import trainer.rundir.logs.alarms
from trainer.rundir.logs.alarms import alarms, unigram_entropy

ENTROPY = 2.87
GOOD_RUN = json.loads(Path(__file__).with_name("good_run.json").read_text())
"""[step, loss, gradient norm] of every log and [step, WER] of every evaluation: `demo`, its defaults, 1200 steps."""


def curve(
    loss: Callable[[int], float | None],
    norm: Callable[[int], float | None] = lambda step: 1.0,
    blank: Callable[[int], float] = lambda step: 0.5,
    steps: int = 2900,
    eval_every: int = 100,
) -> list[dict[str, Any]]:
    """What metrics.jsonl would hold: a log every 10 steps, an evaluation every 100 (0: none)."""
    records: list[dict[str, Any]] = []
    for step in range(10, steps + 1, 10):
        records.append({
            "step": step, "train/loss": loss(step), "train/grad_norm": norm(step), "train/blank_share": blank(step),
        })  # fmt: skip
        if eval_every and step % eval_every == 0:
            records.append({"step": step, "eval/wer": 1.0, "eval/blank_share": blank(step)})
    return records


def first_told(records: list[dict[str, Any]], total_steps: int = 2900) -> dict[str, tuple[int, str]]:
    """Name -> (step, advice) of each alarm when it first came, the records arriving one by one."""
    told: dict[str, tuple[int, str]] = {}
    for end in range(1, len(records) + 1):
        for name, advice in alarms(records[:end], total_steps, ENTROPY).items():
            told.setdefault(name, (records[end - 1]["step"], advice))
    return told


def learning(step: int) -> float:
    """The reference card's run, roughly: 2.9 until step 200, then down."""
    return 2.9 if step < 200 else 0.02 + 2.9 * math.exp(-(step - 200) / 150)


def test_a_model_that_writes_only_blanks_is_told_once_it_has_had_its_time() -> None:
    told = first_told(curve(learning, blank=lambda step: 1.0))
    assert list(told) == ["blank"]
    assert told["blank"][0] == 700  # the second evaluation after a fifth of 2900 steps
    assert "--optim.lr" in told["blank"][1]


def test_blanks_that_end_in_time_are_no_alarm() -> None:
    """The reference card's run has a WER of 100 % at step 200 of 2900."""
    assert first_told(curve(learning, blank=lambda step: 1.0 if step <= 400 else 0.4)) == {}


def test_without_evaluations_training_tells_of_blanks() -> None:
    told = first_told(curve(learning, blank=lambda step: 1.0, eval_every=0))
    assert list(told) == ["blank"]
    assert told["blank"][0] == 670  # the tenth log after a fifth of 2900 steps
    assert "(100.0 % of frames)" in told["blank"][1]
    assert first_told(curve(learning, blank=lambda step: 1.0 if step <= 600 else 0.4, eval_every=0)) == {}
    assert first_told(curve(learning, blank=lambda step: 0.9 if step % 90 == 0 else 1.0, eval_every=0)) == {}


def test_evaluations_overrule_training_about_blanks() -> None:
    """Masks and dropout may silence a model that writes something without them."""
    records = curve(learning, blank=lambda step: 1.0)
    for record in records:
        if "eval/wer" in record:
            record["eval/blank_share"] = 0.9
    assert first_told(records) == {}


@pytest.mark.parametrize("level", [0.9, 1.0, 1.1])
def test_a_loss_that_stays_at_the_unigram_entropy_is_told(level: float) -> None:
    rng = random.Random(0)
    told = first_told(curve(lambda step: 8 if step < 50 else level * ENTROPY + rng.gauss(0, 0.03)))
    assert list(told) == ["flat"]
    assert told["flat"][0] < 700
    assert "2.87 nats" in told["flat"][1]


def test_a_loss_that_creeps_down_through_the_entropy_is_no_alarm() -> None:
    assert first_told(curve(lambda step: 3.3 * math.exp(-step / 3000))) == {}


def test_a_low_flat_loss_is_no_alarm() -> None:
    assert first_told(curve(lambda step: 0.05)) == {}


def test_a_norm_that_explodes_is_told_and_one_wild_step_is_not() -> None:
    rng = random.Random(0)
    told = first_told(curve(learning, norm=lambda step: rng.uniform(0.5, 2) * (1000 if step >= 1500 else 1)))
    assert list(told) == ["norm"]
    assert told["norm"][0] == 1520
    assert first_told(curve(learning, norm=lambda step: 1000 if step in (1500, 1800) else 1.0)) == {}


def test_a_norm_that_is_no_number_counts_as_exploded() -> None:
    """JSON has no infinity: metrics.jsonl says null."""
    records = curve(learning, norm=lambda step: None if step >= 1500 else 1.0)
    assert "norm" in first_told(records)


def test_a_tiny_norm_may_grow() -> None:
    assert first_told(curve(learning, norm=lambda step: 0.001 if step < 2000 else 0.5)) == {}


def test_a_loss_that_is_no_number_is_left_to_the_skip_count() -> None:
    assert first_told(curve(lambda step: None)) == {}


def test_the_recorded_curve_of_a_good_run_raises_no_alarm() -> None:
    records = [{"step": s, "train/loss": loss, "train/grad_norm": norm} for s, loss, norm in GOOD_RUN["logs"]]
    evaluations = GOOD_RUN["evals"]
    records += [{"step": s, "eval/wer": w, "eval/blank_share": 1.0 if w == 1 else 0.3} for s, w in evaluations]
    records.sort(key=lambda r: r["step"])
    assert len(records) == 132
    assert first_told(records, 1200) == {}


def test_a_short_run_raises_no_alarm() -> None:
    """Nothing need be learnt in 300 steps."""
    assert first_told(curve(lambda step: ENTROPY, blank=lambda step: 1.0, steps=200), 200) == {}


@pytest.mark.parametrize("eval_every", [0, 100])
def test_alarms_look_at_no_more_than_they_need(eval_every: int) -> None:
    """Advice after 10,000 records takes no longer than after 4,000: it comes at every log."""
    records = curve(learning, steps=100_000, eval_every=eval_every)
    seen: list[int] = []

    class Counted(list):
        def __getitem__(self, key: Any) -> Any:
            found = super().__getitem__(key)
            seen.append(len(found) if isinstance(key, slice) else 1)
            return found

        def __iter__(self) -> Any:
            seen.append(len(self))
            return super().__iter__()

        def __reversed__(self) -> Any:
            seen.append(len(self))
            return super().__reversed__()

    alarms(Counted(records), 100_000, ENTROPY)
    assert sum(seen) < 4000


def test_unigram_entropy_is_that_of_the_counts() -> None:
    """Reference: -sum p log p by hand, for counts 3 and 1."""
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert unigram_entropy(Counter([5, 5, 5, 7])) == pytest.approx(expected, rel=1e-12)
    assert doctest.testmod(trainer.rundir.logs.alarms).failed == 0
