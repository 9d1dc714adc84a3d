"""Causes in how long and how hard a model is fitted: too few steps, overfitting, one unit that eats all others."""

from __future__ import annotations

import math

import numpy as np

from trainer.diagnosis.evidence import Evidence
from trainer.diagnosis.finding import Finding
from trainer.diagnosis.symptoms import ALL_BLANK, PLATEAU

ENOUGH_STEPS = 1000
"""The demo and the reference run begin to write after 100 to 300 steps and are useful after 1000."""
RISE, RISE_NATS = 1.1, 0.02
"""An evaluation loss that has risen: all later ones lie above this multiple of the lowest, and by as many nats."""
LATER_EVALUATIONS = 3
MUCH = 1.5
"""A rise that counts even while the error rate still falls a little."""
GAINED, GAINED_LITTLE = 0.01, 0.05
"""Relative gains of the error rate since then: below the first none, below the second little."""
TRAINING_FALLS = 0.8
TOP_SHARE, TOP_EXCESS, ENOUGH_WRITTEN = 0.9, 0.4, 50


def too_few_steps(e: Evidence) -> Finding | None:
    """The run is over, has learnt nothing yet, and was so short that nobody could say more."""
    total = e.facts.total_steps
    if not e.is_over or total >= e.patience or not len(e.train.step):
        return None
    loss = e.train.loss[-1]
    blank = e.evals.blank[-1] if len(e.evals.blank) else e.train.blank[-1]
    if not (blank >= ALL_BLANK and loss >= PLATEAU[0] * e.facts.unigram_entropy):
        return None
    epochs = math.ceil(ENOUGH_STEPS / max(1, e.facts.steps_per_epoch))
    wanted = f"--train.max-steps {ENOUGH_STEPS}, with --train.epochs {epochs} or more"
    return Finding(
        "too few steps", "certain", "Training ended before the model could begin to write.",
        f"It took {total} steps, {total / max(1, e.facts.steps_per_epoch):.3g} epochs of {e.facts.num_utterances} "
        f"utterances. {100 * blank:.1f} % of frames are blank, and the loss is {loss:.2f}; the units' frequencies "
        f"alone give {e.facts.unigram_entropy:.2f}. CTC takes some hundred steps to leave its blanks.",
        f"{wanted}." if e.config.train.max_steps else f"--train.epochs {max(epochs, e.config.train.epochs)}.",
    )  # fmt: skip


def overfitting(e: Evidence) -> Finding | None:
    """The evaluation's loss rises since some step while training's falls, and the error rate does not fall with it."""
    evals, losses = e.evals, e.evals.loss
    if len(losses) <= LATER_EVALUATIONS or np.isnan(losses).all():
        return None
    k = int(np.nanargmin(losses))
    best, later, step = float(losses[k]), losses[k + 1 :], float(evals.step[k])
    if len(later) < LATER_EVALUATIONS or np.isnan(later).any():
        return None
    if not later[-LATER_EVALUATIONS:].min() > max(RISE * best, best + RISE_NATS):
        return None
    smooth, steps = e.train.smooth, e.train.step
    if not len(smooth):
        return None
    then = float(smooth[min(int(np.searchsorted(steps, step)), len(smooth) - 1)])
    now = float(smooth[-1])
    if not now < TRAINING_FALLS * then:
        return None
    rate_then, rate_now = float(evals.rate[k]), float(evals.rate[-1])
    gain = (rate_then - float(evals.rate[k + 1 :].min())) / rate_then if rate_then > 0 else 0.0
    much = float(later[-1]) > MUCH * best
    if gain >= GAINED_LITTLE or (gain >= GAINED and not much):
        return None  # the error rate still falls: training longer pays, though the loss of what is wrong grows
    epochs = max(1, math.ceil(float(evals.epoch[k]))) if not np.isnan(evals.epoch[k]) else None
    shorter = f"--train.epochs {epochs}" if epochs and epochs < e.config.train.epochs else "--train.patience 3"
    told = "rose" if rate_now > 1.01 * rate_then else "fell little" if gain >= GAINED else "did not fall"
    return Finding(
        "overfitting", "likely" if gain < GAINED else "possible",
        f"Since step {step:.0f} the model learns its training utterances by heart.",
        f"The evaluation's loss rose from {best:.3f} to {float(later[-1]):.3f} at step {evals.step[-1]:.0f}, while "
        f"training's fell from {then:.3f} to {now:.3f}. The {evals.label} {told}: {100 * rate_then:.1f} % then, "
        f"{100 * rate_now:.1f} % now.",
        f"{shorter}, or {_harder(e)}; --train.export best keeps the best weights.",
    )  # fmt: skip


def _harder(e: Evidence) -> str:
    """What makes training utterances harder to learn by heart, of what the run does not use yet."""
    if len(e.config.augment.speeds) < 2:
        return "--augment.speeds 0.9 1.0 1.1"
    if not e.config.model.mask_time_prob:
        return "--model.mask-time-prob 0.05"
    return f"--model.mask-time-prob {min(0.65, 2 * e.config.model.mask_time_prob):.2g}"


def one_unit(e: Evidence) -> Finding | None:
    """One character makes nearly all that is written, and not of what was said."""
    w = e.written
    if w is None or w.num_characters < ENOUGH_WRITTEN or w.step < min(e.patience, e.facts.total_steps):
        return None
    if w.top_share < TOP_SHARE or w.top_share - w.top_reference_share < TOP_EXCESS:
        return None
    lr = e.config.optim.lr or 1e-4
    unit = "the space" if w.top_unit == " " else repr(w.top_unit)
    return Finding(
        "one unit eats all", "certain", f"Whatever is said, the model writes {unit}.",
        f"At step {w.step}, {unit} makes {100 * w.top_share:.0f} % of the {w.num_characters} characters written for "
        f"{w.num_utterances} utterances, and {100 * w.top_reference_share:.0f} % of the references.",
        f"--optim.lr {lr / 3:.1g}; if that does not help, look at the transcripts with --check.",
    )  # fmt: skip
