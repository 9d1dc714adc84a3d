"""The registry of causes, and the one function that asks all of them."""

from __future__ import annotations

from collections.abc import Callable

from trainer.diagnosis.checkpoint import frozen_parts, normalisation, vocabulary
from trainer.diagnosis.data import shifted, wrong_rate
from trainer.diagnosis.evidence import Evidence
from trainer.diagnosis.finding import Finding
from trainer.diagnosis.fit import one_unit, overfitting, too_few_steps
from trainer.diagnosis.numerics import overflow
from trainer.diagnosis.rate import too_high, too_low, warm_up
from trainer.diagnosis.symptoms import stuck_without_cause

CAUSES: tuple[Callable[[Evidence], Finding | None], ...] = (
    shifted, wrong_rate, vocabulary, normalisation, frozen_parts, overflow, warm_up, too_high, too_low, one_unit,
    overfitting, too_few_steps,
)  # fmt: skip
"""In the order in which they are told: what has to be mended first stands first. To add one, write the function and
put it here; docs/why.md lists all."""
EXPLAINS = {"warm-up too short": {"learning rate too high"}, "warm-up too long": {"learning rate too low"}}
"""A cause -> those that would only say the same again."""


def diagnose(e: Evidence) -> list[Finding]:
    """What is found, in the order of CAUSES. A run that is stuck for no known cause has a finding that says so."""
    found = [finding for cause in CAUSES if (finding := cause(e)) is not None]
    said = {name for finding in found for name in EXPLAINS.get(finding.name, ())}
    found = [finding for finding in found if finding.name not in said]
    if not found and (finding := stuck_without_cause(e)) is not None:
        found.append(finding)
    return found
