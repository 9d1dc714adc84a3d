"""Causes in the arithmetic: fp16 that overflows, losses that are no numbers."""

from __future__ import annotations

import numpy as np

from trainer.diagnosis.evidence import Evidence
from trainer.diagnosis.finding import Finding

SEARCHING = 20
"""Steps that fp16's scale may skip while it looks for its place, from 65536 down."""
MANY = 0.1
"""Share of recent steps that were skipped: a healthy scale skips one in 2000."""
RECENT = 200
"""Steps."""
LEAST_SCALE = 1.0


def overflow(e: Evidence) -> Finding | None:
    """fp16 whose scale fell to nothing or which skips many steps; or steps that are no numbers in another precision."""
    c = e.train
    if len(c.step) < 5 or not c.skipped[-1] > SEARCHING:  # it is NaN where skipped steps were not logged
        return None
    begin = int(np.searchsorted(c.step, c.step[-1] - RECENT))
    steps, skipped = c.step[-1] - c.step[begin], c.skipped[-1] - c.skipped[begin]
    many = steps and skipped / steps >= MANY
    if e.facts.precision == "fp16":
        scale = float(c.scale[-1])
        if not many and not scale < LEAST_SCALE:
            return None
        return Finding(
            "fp16 overflow", "certain", "Numbers outgrow fp16, and their steps are thrown away.",
            f"{skipped:.0f} of the last {steps:.0f} steps were skipped, {c.skipped[-1]:.0f} since the beginning; the "
            f"loss scale is {scale:g}, and 65536 at first.",
            "--precision bf16, which has the range of fp32; on a card without it --precision fp32.",
        )  # fmt: skip
    if not many:
        return None
    return Finding(
        "no finite loss", "certain", "The losses or gradients of many steps are no numbers.",
        f"{skipped:.0f} of the last {steps:.0f} steps were skipped, {c.skipped[-1]:.0f} since the beginning, in "
        f"{e.facts.precision}.",
        f"--optim.lr {(e.config.optim.lr or 1e-4) / 3:.1g}, and look at the utterances that the warnings name.",
    )  # fmt: skip
