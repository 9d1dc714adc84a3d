"""A run that makes no progress (trainer.diagnosis.symptoms), on simulated curves, and on curves of runs that went well.

pytest tests/trainer/diagnosis/test_symptoms.py
"""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from tests.helpers.diagnosis import ENTROPY, evidence, first_found, found, learning, options, records
from trainer.diagnosis.symptoms import exploding_norm, flat_loss, only_blanks

GOOD_RUN = json.loads(Path(__file__).with_name("good_run.json").read_text())
"""[step, loss, gradient norm] of every log and [step, WER] of every evaluation: `demo`, its defaults, 1200 steps."""


def test_a_model_that_writes_only_blanks_is_told_once_it_has_had_its_time() -> None:
    told = first_found(records(blank=lambda step: 1.0))
    assert told == {"only blanks": 700}  # the second evaluation after a fifth of 2900 steps


def test_blanks_that_end_in_time_are_healthy() -> None:
    """The reference card's run has a WER of 100 % at step 200 of 2900."""
    assert first_found(records(blank=lambda step: 1.0 if step <= 400 else 0.4)) == {}


def test_without_evaluations_training_tells_of_blanks() -> None:
    assert first_found(records(blank=lambda step: 1.0, eval_every=0)) == {"only blanks": 670}  # ten logs after it
    assert first_found(records(blank=lambda step: 1.0 if step <= 600 else 0.4, eval_every=0)) == {}
    assert first_found(records(blank=lambda step: 0.9 if step % 90 == 0 else 1.0, eval_every=0)) == {}


def test_evaluations_overrule_training_about_blanks() -> None:
    """Masks and dropout may silence a model that writes something without them."""
    logged = records(blank=lambda step: 1.0)
    for record in logged:
        if "eval/wer" in record:
            record["eval/blank_share"] = 0.9
    assert first_found(logged) == {}


@pytest.mark.parametrize("level", [0.9, 1.0, 1.1])
def test_a_loss_that_stays_at_the_unigram_entropy_is_told(level: float) -> None:
    rng = random.Random(0)
    logged = records(lambda step: 8 if step < 50 else level * ENTROPY + rng.gauss(0, 0.03))
    told = first_found(logged)
    assert list(told) == ["flat loss"]
    assert told["flat loss"] < 700
    finding = found(logged)["flat loss"]
    assert "2.87 nats" in finding.evidence
    assert "--overfit 8" in finding.change
    assert "--optim.lr 0.0007" in finding.change


def test_a_loss_that_creeps_down_through_the_entropy_is_healthy() -> None:
    assert first_found(records(lambda step: 3.3 * math.exp(-step / 3000))) == {}


def test_a_low_flat_loss_is_healthy() -> None:
    assert first_found(records(lambda step: 0.05)) == {}


def test_a_norm_that_explodes_is_told_and_one_wild_step_is_not() -> None:
    rng = random.Random(0)
    told = first_found(records(norm=lambda step: rng.uniform(0.5, 2) * (1000 if step >= 1500 else 1)))
    assert told == {"learning rate too high": 1520}
    assert first_found(records(norm=lambda step: 1000 if step in (1500, 1800) else 1.0)) == {}


def test_a_norm_that_is_no_number_counts_as_exploded() -> None:
    """JSON has no infinity: metrics.jsonl says null."""
    assert exploding_norm(evidence(records(norm=lambda step: None if step >= 2880 else 1.0)))


def test_a_tiny_norm_may_grow() -> None:
    assert first_found(records(norm=lambda step: 0.001 if step < 2000 else 0.5)) == {}


def test_a_loss_that_is_no_number_is_no_symptom() -> None:
    e = evidence(records(lambda step: None))
    assert flat_loss(e) is None
    assert only_blanks(e) is None
    assert found(records(lambda step: None)) == {}


@pytest.mark.parametrize("total", [300, 600, 1200])
def test_the_recorded_curve_of_a_good_run_has_no_finding_at_any_step(total: int) -> None:
    """Also where its plan ends in the middle."""
    logged = [{"step": s, "train/loss": loss, "train/grad_norm": norm} for s, loss, norm in GOOD_RUN["logs"]]
    logged += [{"step": s, "eval/wer": w, "eval/blank_share": 1.0 if w == 1 else 0.3} for s, w in GOOD_RUN["evals"]]
    logged = sorted((r for r in logged if r["step"] <= total), key=lambda r: r["step"])
    assert len(logged) >= 32
    assert first_found(logged, options(warmup=120), total_steps=total) == {}
    assert found(logged, options(warmup=120), total_steps=total, is_over=True) == {}


def test_a_short_run_without_progress_is_healthy_until_it_ends() -> None:
    """Nothing need be learnt in 300 steps."""
    assert first_found(records(lambda step: ENTROPY, blank=lambda step: 1.0, steps=200), total_steps=200) == {}


@pytest.mark.parametrize("steps", [0, 10, 20, 50, 100, 500, 1000, 2900])
def test_a_run_that_learns_has_no_finding_at_any_length(steps: int) -> None:
    logged = records(blank=lambda step: 1.0 if step <= 200 else 0.4, steps=steps)
    assert found(logged) == {}
    assert found(logged, is_over=True) == {}
    assert learning(2900) < 0.1
