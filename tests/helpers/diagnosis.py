"""Records, facts and options of runs that go well or badly, for the tests of the diagnosis."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from trainer.config.presets import PRESETS
from trainer.config.schema import Config
from trainer.config.validate import resolve
from trainer.diagnosis.causes import diagnose
from trainer.diagnosis.evidence import Evidence, Facts, Written
from trainer.diagnosis.finding import Finding

ENTROPY = 2.87


def options(lr: float = 2e-3, warmup: int = 290, epochs: int = 20, **model: Any) -> Config:
    """Those of the demo."""
    config = resolve(PRESETS["demo"]())
    return dataclasses.replace(
        config,
        optim=dataclasses.replace(config.optim, lr=lr, warmup_steps=warmup),
        train=dataclasses.replace(config.train, epochs=epochs),
        model=dataclasses.replace(config.model, **model),
    )


def facts(**known: Any) -> Facts:
    """Those of a sound run, but for what is `known`."""
    sound: dict[str, Any] = dict(
        total_steps=2900, steps_per_epoch=145, unigram_entropy=ENTROPY, usual_lr=2e-3, num_utterances=2320,
        units_per_second=15.0, length_correlation={0: 0.8, 1: 0.05, -1: -0.02}, length_spread=0.4,
        bands={"train": 7800.0, "dev": 7700.0}, trained={"transformer": 900_000, "head": 4000},
    )  # fmt: skip
    return Facts(**(sound | known))


def learning(step: int) -> float:
    """The reference card's run, roughly: 2.9 until step 200, then down."""
    return 2.9 if step < 200 else 0.02 + 2.9 * math.exp(-(step - 200) / 150)


def records(
    loss: Callable[[int], float | None] = learning,
    *,
    norm: Callable[[int], float | None] = lambda step: 1.0,
    blank: Callable[[int], float] = lambda step: 0.5,
    lr: Callable[[int], float] = lambda step: 2e-3 * min(step / 290, (2900 - step) / 2610),
    evaluation: Callable[[int], tuple[float, float]] | None = None,
    steps: int = 2900,
    eval_every: int = 100,
    **more: Callable[[int], float],
) -> list[dict[str, Any]]:
    """What metrics.jsonl would hold: a log every 10 steps, an evaluation every 100 (0: none).

    `evaluation(step)` is (loss, WER); `more` are further figures of training, `part__head` being grad_norm/head.
    """
    found: list[dict[str, Any]] = []
    for step in range(10, steps + 1, 10):
        record = {
            "step": step, "epoch": step / 145, "train/loss": loss(step), "train/grad_norm": norm(step),
            "train/blank_share": blank(step), "train/lr": lr(step), "train/num_skipped": 0, "train/grad_scale": 1.0,
        }  # fmt: skip
        record |= {name.replace("part__", "grad_norm/").replace("train__", "train/"): f(step)
                   for name, f in more.items()}  # fmt: skip
        found.append(record)
        if eval_every and step % eval_every == 0:
            now = loss(step)
            scored, rate = evaluation(step) if evaluation else (now, min(1.0, (now or 0) / 2))
            found.append({"step": step, "epoch": step / 145, "eval/loss": scored, "eval/wer": rate,
                          "eval/blank_share": blank(step)})  # fmt: skip
    return found


def flat(steps: int = 2900, **figures: Any) -> list[dict[str, Any]]:
    """Records of a run in which nothing is learnt."""
    rng = random.Random(1)
    return records(lambda step: ENTROPY + rng.gauss(0, 0.02), blank=lambda step: 1.0, steps=steps, **figures)


def written(**known: Any) -> Written:
    """What a model writes that is healthy but for what is `known`."""
    good: dict[str, Any] = dict(step=2900, num_characters=900, top_unit="e", top_share=0.12, top_reference_share=0.11,
                                own_rate=0.05, shifted_rate=0.05, shift=0, num_utterances=48)  # fmt: skip
    return Written(**(good | known))


def evidence(
    logged: Sequence[dict[str, Any]], config: Config | None = None, *, written: Written | None = None,
    is_over: bool = False, **known: Any,
) -> Evidence:  # fmt: skip
    """Of a run with these records, the demo's options and sound facts but for what is `known`."""
    return Evidence(logged, facts(**known), config or options(), written, is_over)


def found(logged: Sequence[dict[str, Any]], config: Config | None = None, **known: Any) -> dict[str, Finding]:
    """Name -> finding, from all records at once."""
    return {finding.name: finding for finding in diagnose(evidence(logged, config, **known))}


def first_found(logged: list[dict[str, Any]], config: Config | None = None, **known: Any) -> dict[str, int]:
    """Name of a finding -> the step at which it first came, the records arriving one by one.

    Looks at every eighth record, and at those before it where something is new.
    """
    told: dict[str, int] = {}
    ends = [*range(8, len(logged), 8), len(logged)]
    for before, end in zip([0, *ends], ends, strict=False):
        if set(found(logged[:end], config, **known)) - set(told):
            for k in range(before + 1, end + 1):
                for name in found(logged[:k], config, **known):
                    told.setdefault(name, logged[k - 1]["step"])
    return told
