"""That training makes no progress, seen from its figures. The causes say why; without one of them these are findings.

Each symptom is a function that returns None, or the numbers that show it in a sentence.
"""

from __future__ import annotations

import numpy as np

from trainer.diagnosis.evidence import Evidence
from trainer.diagnosis.finding import Finding

ALL_BLANK = 0.995
"""A model with at least this share of blank frames writes nothing."""
LOGS_OF_BLANKS = 10
"""This many logged training steps in a row must write nothing, where there are no evaluations."""
PLATEAU = (0.85, 1.2)
"""A loss within these multiples of the unigram entropy shows that only the units' frequencies were learnt."""
STILL_FALLING = 0.03
"""Relative gain from the first half of the window to its second that counts as progress."""
HARDLY = 0.8
"""Of the unigram entropy: a loss above it shows that next to nothing is heard."""
EXPLODING = 20.0
"""A gradient norm of this many times the usual one has exploded."""


def only_blanks(e: Evidence) -> str | None:
    """Two evaluations in a row found only blanks, after the steps in which this is normal.

    Without evaluations LOGS_OF_BLANKS logged training steps are needed, since masks and dropout disturb these.
    """
    steps, shares, needed = e.evals.step, e.evals.blank, 2
    if not len(steps):
        steps, shares, needed = e.train.step, e.train.blank, LOGS_OF_BLANKS
    if len(steps) < needed or not np.nanmin(np.nan_to_num(shares[-needed:], nan=0.0)) >= ALL_BLANK:
        return None
    if steps[-needed] < e.patience:
        return None
    return f"At step {steps[-1]:.0f}, {100 * shares[-1]:.1f} % of frames are blank."


def flat_loss(e: Evidence) -> str | None:
    """The loss stays where the units' frequencies alone bring it: nothing is learnt from the audio."""
    steps, losses = e.train.step, e.train.loss
    if not len(steps):
        return None
    recent = (steps > steps[-1] - e.patience) & ~np.isnan(losses)
    steps, losses = steps[recent], losses[recent]
    if len(steps) < 4 or steps[-1] - steps[0] < 0.7 * e.patience:
        return None
    half = len(losses) // 2
    first, second = float(losses[:half].mean()), float(losses[half:].mean())
    low, high = (level * e.facts.unigram_entropy for level in PLATEAU)
    if not (low <= first <= high and low <= second <= high) or first - second > STILL_FALLING * first:
        return None
    return (
        f"From step {steps[0]:.0f} to {steps[-1]:.0f} the loss stays at {second:.2f}; the units' frequencies alone "
        f"give {e.facts.unigram_entropy:.2f} nats."
    )


def exploding_norm(e: Evidence) -> str | None:
    """The last three gradient norms are far above those before them."""
    norms = e.train.norm[-200:]
    norms = norms[~np.isnan(norms)]
    before, latest = norms[-33:-3], norms[-3:]
    if len(before) < 10:
        return None
    usual, least = float(np.median(before)), float(latest.min())
    if not least > EXPLODING * usual or not least > 1:  # a tiny norm may grow and still be small
        return None
    return f"The gradient norm has been above {least:.3g} for three logs up to step {e.step}; {usual:.3g} was usual."


def hardly_learnt(e: Evidence) -> str | None:
    """After its patience the loss is hardly below what the units' frequencies give. It may still fall, so this is a
    symptom only together with something that is far from usual."""
    smooth = e.train.smooth
    if not len(smooth) or e.step < e.patience or not smooth[-1] > HARDLY * e.facts.unigram_entropy:
        return None
    return (
        f"At step {e.step} the loss is {smooth[-1]:.2f}; the units' frequencies alone give "
        f"{e.facts.unigram_entropy:.2f} nats."
    )


def is_stuck(e: Evidence) -> str | None:
    """Either of the two: only blanks, or a flat loss."""
    return flat_loss(e) or only_blanks(e)


def stuck_without_cause(e: Evidence) -> Finding | None:
    """The finding where a run is stuck and no cause explains it."""
    numbers = is_stuck(e)
    if numbers is None:
        return None
    name = "flat loss" if flat_loss(e) else "only blanks"
    what = "Nothing is learnt from the audio." if name == "flat loss" else "The model still writes only blanks."
    lr = e.config.optim.lr or 1e-4
    return Finding(
        name, "certain", what, numbers,
        "--overfit 8 shows whether the model can learn eight utterances at all, and --lr-finder which rate to take; "
        f"then --optim.lr {lr / 3:.1g} or {lr * 3:.1g}.",
    )  # fmt: skip
