"""Causes in the learning rate: too high, too low, and its warm-up."""

from __future__ import annotations

import numpy as np

from trainer.config.schema import Config
from trainer.config.validate import LEARNING_RATES
from trainer.diagnosis.evidence import Evidence
from trainer.diagnosis.finding import Finding
from trainer.diagnosis.symptoms import PLATEAU, exploding_norm, hardly_learnt, is_stuck

RISEN, RISEN_NATS = 1.5, 0.3
"""A loss that has risen for good: this many times its lowest, and by as many nats."""
LOGS_RISEN = 5
FAR = 8.0
"""A rate this many times above or below the usual one is far from it: those that people succeed with lie within."""
LONG_WARM_UP = 0.5


def usual_lr(config: Config) -> float | None:
    """The peak rate that a run of such weights has by default; None where a small part of them is trained, at rates of
    its own."""
    m = config.model
    return None if m.lora_rank is not None or m.adapter_only or m.freeze_layers else LEARNING_RATES[m.size]


def too_high(e: Evidence) -> Finding | None:
    """The loss was low at a lower rate and rose for good, or the gradient exploded, or a stuck run's rate is far up."""
    usual, peak = e.facts.usual_lr, e.config.optim.lr or 0.0
    exploded, rise = exploding_norm(e), _rise(e)
    if rise is not None:
        best, lr_at_best, now, lr_reached, since = rise
        lower = max(lr_at_best / 2, peak / 10)
        told = f"The loss was {best:.2f} at a rate of {lr_at_best:.1e} (step {since:.0f}) and rose to {now:.2f}"
        told += f" at rates up to {lr_reached:.1e}. {exploded or ''}".rstrip()
        told += "" if exploded else "."
        change = f"start again with --optim.lr {lower:.1g}."
        return Finding("learning rate too high", "certain" if exploded else "likely",
                       "Training diverged.", told, change)  # fmt: skip
    if exploded is not None:
        return Finding(
            "learning rate too high", "likely", "The gradient exploded.", exploded,
            f"start again with --optim.lr {peak / 3:.1g}, or a longer --optim.warmup-steps.",
        )  # fmt: skip
    stuck = is_stuck(e) or hardly_learnt(e)
    if stuck and usual and peak >= FAR * usual:
        return Finding(
            "learning rate too high", "likely", "The rate throws the weights about, and nothing is learnt.",
            f"{stuck} The peak rate is {peak:.1g}; presets take {usual:.1g} for such weights.",
            f"--optim.lr {usual:.1g}.",
        )  # fmt: skip
    return None


def _rise(e: Evidence) -> tuple[float, float, float, float, float] | None:
    """(Lowest loss, the rate there, the loss now, the highest rate since, the step of the lowest) of one that rose."""
    smooth, lr, step = e.train.smooth, e.train.lr, e.train.step
    known = ~np.isnan(smooth)
    smooth, lr, step = smooth[known], lr[known], step[known]
    if len(smooth) < 3 * LOGS_RISEN:
        return None
    k = int(smooth.argmin())
    latest = e.train.loss[known][-LOGS_RISEN:]
    if len(smooth) - k <= LOGS_RISEN or np.isnan(latest).any():
        return None
    best, now = float(smooth[k]), float(smooth[-1])
    if not latest.min() > max(RISEN * best, best + RISEN_NATS):
        return None
    return best, float(lr[k]), now, float(np.nanmax(lr[k:])), float(step[k])


def too_low(e: Evidence) -> Finding | None:
    """After its patience the loss is hardly below the units' entropy, and the rate is far below the usual one."""
    usual, smooth, peak = e.facts.usual_lr, e.train.smooth, e.config.optim.lr or 0.0
    numbers = hardly_learnt(e)
    if numbers is None or usual is None or np.isnan(e.train.lr).all():
        return None
    reached = float(np.nanmax(e.train.lr))
    if max(reached, peak) > usual / FAR:
        return None
    first = float(smooth[min(len(smooth) - 1, 4)])
    return Finding(
        "learning rate too low",
        "likely",
        "The weights hardly move.",
        f"The loss began at {first:.2f}. {numbers} The rate never exceeded {reached:.1e}; presets take {usual:.1g} for "
        "such weights.",
        f"--optim.lr {usual:.1g}.",
    )


def warm_up(e: Evidence) -> Finding | None:
    """No warm-up and a loss that rose at once; or one that takes most of the plan of a run that has not learnt."""
    steps, total = e.config.optim.warmup_steps, e.facts.total_steps
    if steps is None:
        return None
    usual, rise = min(1000, total // 10), _rise(e)
    early = rise is not None and rise[4] <= max(20, 0.02 * total)
    if steps < 0.01 * total and steps < usual and early:
        assert rise is not None
        return Finding(
            "warm-up too short", "likely", "The full rate met weights that were not ready for it.",
            f"The warm-up has {steps} of {total} steps. The loss was {rise[0]:.2f} at step {rise[4]:.0f} and rose to "
            f"{rise[2]:.2f}.",
            f"--optim.warmup-steps {usual}.",
        )  # fmt: skip
    smooth = e.train.smooth
    if steps <= LONG_WARM_UP * total or not len(smooth) or np.isnan(smooth[-1]):
        return None
    if e.step < max(300, usual) or not smooth[-1] >= PLATEAU[0] * e.facts.unigram_entropy:
        return None
    return Finding(
        "warm-up too long", "likely", "Most of the run goes by at small rates.",
        f"The rate reaches its peak at step {steps} of {total}. At step {e.step} it is {float(e.train.lr[-1]):.1e}, "
        f"and the loss is {smooth[-1]:.2f}; the units' frequencies alone give {e.facts.unigram_entropy:.2f}.",
        f"--optim.warmup-steps {usual}.",
    )  # fmt: skip
