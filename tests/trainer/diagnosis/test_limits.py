"""The limits that docs/why.md names: each cause is found on one side of its limit, and not on the other.

pytest tests/trainer/diagnosis/test_limits.py
"""

from __future__ import annotations

import dataclasses
import re
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.helpers.diagnosis import ENTROPY, evidence, flat, found, options, records, written
from tests.helpers.paths import ROOT
from trainer.diagnosis.causes import CAUSES
from trainer.diagnosis.finding import Finding

Found = dict[str, Finding]


def told(logged: list[dict[str, Any]], **known: Any) -> Found:
    """What is found in a run with the demo's options."""
    return found(logged, **known)


def spoken(**known: Any) -> Found:
    """What is found where the model has written this."""
    return found(records(), written=written(**known))


def lost(own: float, other: float, *, has_own_head: bool = True) -> Found:
    """A checkpoint whose loss before training is this many times the units' entropy, in a run that learns nothing."""
    known = {"own_loss": own * ENTROPY, "other_losses": {1: other * ENTROPY, -1: 9 * ENTROPY}}
    return found(flat(), has_own_head=has_own_head, **known)


def lengths(own: float, shifted: float, logged: list[dict[str, Any]] | None = None, **known: Any) -> Found:
    """Lengths with these rank correlations, in a run that learns."""
    correlation = {0: own, 1: shifted, -1: -0.02}
    return found(records() if logged is None else logged, length_correlation=correlation, **known)


def scaled(**known: Any) -> Found:
    """A checkpoint that wants normalised waveforms and does not get them, in a run that learns nothing."""
    return found(flat(), **({"is_pretrained": True, "wants_normalized": True, "normalizes": False} | known))


def silent_part(logs: int, weights: int = 900_000, steps: int = 2900) -> Found:
    """No gradient reaches the transformer in the last `logs` logs."""
    logged = records(part__transformer=lambda step: 0.0 if step > steps - 10 * logs else 1.0, steps=steps)
    return found(logged, trained={"transformer": weights})


def trained(share: float, **model: Any) -> Found:
    """This share of a million parameters is trained, and nothing is learnt."""
    of = {"head": round(1e6 * share)} if share else {}
    return found(flat(), options(**model), trained=of, frozen={"transformer": round(1e6 * (1 - share))})


def short(blank: float = 1.0, loss: float = 1.0, total: int = 299, *, is_over: bool = True) -> Found:
    """A short run with this share of blanks and this multiple of the units' entropy at its end."""
    logged = records(lambda step: loss * ENTROPY, blank=lambda step: blank, steps=min(total, 290))
    return found(logged, options(epochs=2), total_steps=total, is_over=is_over)


def risen(
    rise: float = 1.3, *, best: float = 1.0, gain: float = 0.0, falls: float = 0.5, evaluations: int = 3
) -> Found:
    """The evaluation's loss is lowest some evaluations before the end and then lies `rise` times as high, while the
    error rate of 40 % gains `gain` of itself and training's loss comes to `falls` times what it was."""
    at = 2900 - 100 * evaluations
    logged = records(
        lambda step: 1.0 if step <= at else falls,
        evaluation=lambda step: (best, 0.4) if step == at else (best * (rise if step > at else 1.01), 0.4 * (1 - gain)),
    )
    return found(logged)


def skipped(steps: float, *, before: float = 0.0, scale: float = 1024.0, precision: str = "fp16") -> Found:
    """`before` steps were skipped until step 2700, and so many in the last 200."""
    logged = records(
        train__num_skipped=lambda step: before + steps * max(0, step - 2700) / 200, train__grad_scale=lambda step: scale
    )
    return found(logged, precision=precision)


def diverged(best: float, now: float, logs: int = 20) -> Found:
    """The loss is `best` until the last `logs` logs and then `now`."""
    return found(records(lambda step: best if step <= 2900 - 10 * logs else now, evaluation=lambda step: (1.0, 0.1)))


def exploded(times: float, usual: float = 1.0, logs: int = 3, steps: int = 2900) -> Found:
    """The gradient's norm is so many times the usual one in the last logs."""
    return found(records(norm=lambda step: times * usual if step > steps - 10 * logs else usual, steps=steps))


def rate(lr: float, *, loss: float = 1.0, reached: float | None = None, steps: int = 2900) -> Found:
    """A peak rate that was `reached`, or another one was, where presets take 0.002; the loss still falls, to this
    multiple of the units' entropy."""
    logged = records(
        lambda step: loss * ENTROPY + (2900 - step) / 1000, lr=lambda step: reached or lr, blank=lambda step: 0.4,
        steps=steps,
    )  # fmt: skip
    return found(logged, options(lr=lr))


def unready(warmup: int, at: int = 20, total: int = 2900) -> Found:
    """The loss rises for good from step `at` on, in a run with this warm-up."""
    logged = records(lambda step: 3.0 - step / 1000 if step <= at else 9.0, blank=lambda step: 0.4)
    return found(logged, options(warmup=warmup), total_steps=total)


def long_warm_up(warmup: int | None, loss: float = 1.0, steps: int = 2000) -> Found:
    """A warm-up of so many of 2900 steps, and a loss of this multiple of the units' entropy that still falls."""
    logged = records(lambda step: loss * ENTROPY + (steps - step) / 2500, steps=steps, blank=lambda step: 0.4)
    config = options()
    return found(logged, dataclasses.replace(config, optim=dataclasses.replace(config.optim, warmup_steps=warmup)))


def stays(level: float, *, falls: float = 0.0, steps: int = 2900) -> Found:
    """The loss is at this multiple of the units' entropy, and in the last 290 steps falls by a share of itself."""
    logged = records(
        lambda step: level * ENTROPY * (1 - falls * (step > steps - 290)), steps=steps, blank=lambda step: 0.4
    )
    return found(logged)


def blank(share: float, at: int = 600, number: int = 2) -> Found:
    """Evaluations from step `at` on find this share of blanks while the loss falls."""
    logged = [{"step": step, "train/loss": 3 - step / 500, "train/lr": 1e-3} for step in range(10, at + 1, 10)]
    logged += [{"step": at + k, "eval/wer": 1.0, "eval/blank_share": share} for k in range(number)]
    return found(logged)


VOCABULARY, SHIFTED = "vocabulary at odds with the checkpoint", "transcripts beside their audio"
RATE, SCALE, FROZEN = "audio at the wrong rate", "normalisation at odds with the checkpoint", "frozen parts"
HIGH, LOW, SHORT, LONG = "learning rate too high", "learning rate too low", "warm-up too short", "warm-up too long"

LIMITS: list[tuple[str, str, Callable[[Any], Found], Any, Any]] = [
    (VOCABULARY, "unknown characters", lambda v: told(records(), has_own_head=True, unknown_share=v), 0.021, 0.019),
    (VOCABULARY, "a head of its own", lambda v: told(records(), has_own_head=v, unknown_share=0.5), True, False),
    (VOCABULARY, "lost by 1.5 of the entropy", lambda v: lost(v, v), 1.55, 1.45),
    (VOCABULARY, "no better than against others", lambda v: lost(3.0, v), 3.1, 3.2),
    (VOCABULARY, "lost with its own head", lambda v: lost(3.0, 3.0, has_own_head=v), True, False),
    (SCALE, "weights of a checkpoint", lambda v: scaled(is_pretrained=v), True, False),
    (SCALE, "an encoder that wants it", lambda v: scaled(wants_normalized=v), True, None),
    (SCALE, "waveforms as they are", lambda v: scaled(normalizes=v), False, True),
    (FROZEN, "logs without a gradient", silent_part, 10, 9),
    (FROZEN, "logs there are", lambda v: silent_part(99, steps=v), 100, 90),
    (FROZEN, "weights to train", lambda v: silent_part(20, v), 1, 0),
    (FROZEN, "share that is trained", trained, 0.019, 0.021),
    (FROZEN, "something is trained", trained, 0.001, 0),
    (FROZEN, "LoRA asks for it", lambda v: trained(0.01, lora_rank=v), None, 8),
    (FROZEN, "adapters ask for it", lambda v: trained(0.01, adapter_only=v), False, True),
    (SHIFTED, "evaluated utterances", lambda v: spoken(own_rate=1.0, shifted_rate=0, shift=1, num_utterances=v), 10, 9),
    (SHIFTED, "errors to begin with", lambda v: spoken(own_rate=v, shifted_rate=0.1, shift=1), 0.51, 0.49),
    (SHIFTED, "errors a row further on", lambda v: spoken(own_rate=1.0, shifted_rate=v, shift=1), 0.59, 0.61),
    (SHIFTED, "loss a row further on",
     lambda v: told(records(), own_loss=1.0, other_losses={1: v, 2: 3.0}), 0.59, 0.61),
    (SHIFTED, "utterances", lambda v: lengths(0.0, 0.9, num_utterances=v), 30, 29),
    (SHIFTED, "spread of the lengths", lambda v: lengths(0.0, 0.9, length_spread=v), 0.151, 0.149),
    (SHIFTED, "correlation further on", lambda v: lengths(-0.1, v), 0.51, 0.49),
    (SHIFTED, "correlation gained", lambda v: lengths(0.1, v), 0.61, 0.59),
    (SHIFTED, "own correlation", lambda v: lengths(v, 0.99), 0.24, 0.26),
    (SHIFTED, "own correlation, shuffled", lambda v: lengths(v, 0.0, flat()), 0.24, 0.26),
    (RATE, "narrow", lambda v: told(records(), bands={"train": v, "dev": 7800.0}), 4290.0, 4310.0),
    (RATE, "wide", lambda v: told(records(), bands={"train": 3969.0, "dev": v}), 5510.0, 5490.0),
    (RATE, "silent recordings", lambda v: told(records(), bands={"train": v, "dev": 7800.0}), 100.0, 0.0),
    (RATE, "a checkpoint that knows more",
     lambda v: told(flat(), bands={"train": 3969.0, "dev": 4000.0}, is_pretrained=v), True, False),
    (RATE, "units a second", lambda v: told(flat(), units_per_second=v), 30.1, 29.9),
    ("too few steps", "over", lambda v: short(is_over=v), True, False),
    ("too few steps", "steps", lambda v: short(total=v), 299, 300),
    ("too few steps", "blanks", lambda v: short(blank=v), 0.996, 0.994),
    ("too few steps", "loss", lambda v: short(loss=v), 0.86, 0.84),
    ("overfitting", "later evaluations", lambda v: risen(evaluations=v), 3, 2),
    ("overfitting", "rise", risen, 1.11, 1.09),
    ("overfitting", "rise in nats", lambda v: risen(v, best=0.05), 1.42, 1.38),
    ("overfitting", "training's loss falls", lambda v: risen(falls=v), 0.79, 0.81),
    ("overfitting", "gain of the error rate", lambda v: risen(gain=v), 0.009, 0.011),
    ("overfitting", "gain at a rise by half", lambda v: risen(1.51, gain=v), 0.049, 0.051),
    ("overfitting", "rise at a little gain", lambda v: risen(v, gain=0.02), 1.51, 1.49),
    ("one unit eats all", "characters", lambda v: spoken(top_share=0.97, num_characters=v), 50, 49),
    ("one unit eats all", "step", lambda v: spoken(top_share=0.97, step=v), 580, 579),
    ("one unit eats all", "share", lambda v: spoken(top_share=v), 0.91, 0.89),
    ("one unit eats all", "share of what is said", lambda v: spoken(top_share=0.97, top_reference_share=v), 0.56, 0.58),
    ("fp16 overflow", "share of recent steps", lambda v: skipped(v, before=100), 21, 19),
    ("fp16 overflow", "search for a scale", skipped, 21, 20),
    ("fp16 overflow", "scale", lambda v: skipped(0, before=21, scale=v), 0.5, 1.0),
    ("fp16 overflow", "scale after its search", lambda v: skipped(0, before=v, scale=0.5), 21, 20),
    ("no finite loss", "precision", lambda v: skipped(40, precision=v), "bf16", "fp16"),
    ("no finite loss", "share of recent steps", lambda v: skipped(v, before=100, precision="fp32"), 21, 19),
    (HIGH, "rise", lambda v: diverged(2.0, v), 3.1, 2.9),
    (HIGH, "rise in nats", lambda v: diverged(0.1, v), 0.41, 0.39),
    (HIGH, "logs after the rise", lambda v: diverged(2.0, 6.0, v), 5, 4),
    (HIGH, "norm", exploded, 21.0, 19.0),
    (HIGH, "norm above 1", lambda v: exploded(100.0, v), 0.011, 0.009),
    (HIGH, "logs of a norm", lambda v: exploded(100.0, logs=v), 3, 2),
    (HIGH, "logs before them", lambda v: exploded(100.0, steps=v), 130, 120),
    (HIGH, "peak rate", rate, 0.0161, 0.0159),
    (HIGH, "next to nothing learnt", lambda v: rate(0.1, loss=v), 0.81, 0.79),
    (LOW, "peak rate", rate, 0.000249, 0.000251),
    (HIGH, "steps so far", lambda v: rate(0.1, steps=v), 580, 570),
    (LOW, "peak rate to come", lambda v: rate(v, reached=1e-6), 0.000249, 0.000251),
    (LOW, "next to nothing learnt", lambda v: rate(1e-6, loss=v), 0.81, 0.79),
    (SHORT, "steps", unready, 28, 29),
    (SHORT, "steps of a long plan", lambda v: unready(v, total=200_000), 999, 1000),
    (SHORT, "when it rose", lambda v: unready(0, v), 50, 60),
    (LONG, "share of the plan", long_warm_up, 1460, 1440),
    (LONG, "loss", lambda v: long_warm_up(2800, v), 0.86, 0.84),
    (LONG, "steps so far", lambda v: long_warm_up(2800, steps=v), 300, 290),
    (LONG, "a warm-up that was chosen", long_warm_up, 2800, None),
    ("flat loss", "above the entropy", stays, 1.19, 1.21),
    ("flat loss", "below the entropy", stays, 0.86, 0.84),
    ("flat loss", "gain of the later half", lambda v: stays(1.0, falls=v), 0.029, 0.031),
    ("flat loss", "steps that are logged", lambda v: stays(1.0, steps=v), 420, 410),
    ("only blanks", "share of blanks", blank, 0.996, 0.994),
    ("only blanks", "step of the first of two evaluations", lambda v: blank(1.0, at=v), 580, 570),
    ("only blanks", "evaluations in a row", lambda v: blank(1.0, number=v), 2, 1),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "of", "build", "inside", "outside"), LIMITS, ids=[f"{n}: {of}" for n, of, *_ in LIMITS]
)
def test_a_cause_is_found_up_to_its_limit_and_no_further(
    name: str, of: str, build: Callable[[Any], Found], inside: Any, outside: Any
) -> None:
    assert name in build(inside), of
    assert name not in build(outside), of


def test_every_cause_has_its_limits_here() -> None:
    page = (ROOT / "docs" / "why.md").read_text(encoding="utf-8")
    causes = re.findall(r"^\| ([a-z0-9 -]+) \| [A-Z]", page, re.MULTILINE)
    assert {name for name, *_ in LIMITS} == set(causes)
    assert len(causes) >= len(CAUSES)


@pytest.mark.parametrize(("total", "patience"), [(100, 300), (1500, 300), (2900, 580), (4000, 800), (90_000, 1000)])
def test_patience_is_a_fifth_of_the_plan_between_300_and_1000_steps(total: int, patience: int) -> None:
    assert evidence([], total_steps=total).patience == patience


def test_the_smoothed_loss_is_the_lower_median_of_the_last_five_logs_that_have_one() -> None:
    """Reference: statistics.median_low."""
    rng = np.random.default_rng(0)
    losses = [None if rng.random() < 0.3 else float(rng.normal()) for _ in range(200)]
    smooth = evidence(records(lambda step: losses[step // 10 - 1], steps=2000, eval_every=0)).train.smooth
    for k, value in enumerate(smooth):
        known = [loss for loss in losses[max(0, k - 4) : k + 1] if loss is not None]
        assert np.isnan(value) if not known else value == statistics.median_low(known)
