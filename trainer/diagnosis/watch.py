"""Look at a run while it goes on: the log hands over its records, and is told what is found, each finding once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainer.config.schema import Config
from trainer.diagnosis.causes import diagnose
from trainer.diagnosis.evidence import Evidence, Facts, Written
from trainer.diagnosis.finding import Finding
from trainer.diagnosis.written import SAMPLE, written_of
from trainer.scoring.scores import Scores

GROWTH = 1.01
"""Records are looked at again when there are this many times more: all looks of a run together then take time in
proportion to its records."""


class Watch:
    """What a RunLog asks."""

    def __init__(self, config: Config, facts: Facts) -> None:
        self.config, self.facts = config, facts
        self.written: Written | None = None
        self.next_look = 0.0

    def evaluated(self, step: int, scores: Scores) -> None:
        """Note what the model wrote in an evaluation."""
        self.written = _written(step, scores)

    def look(self, records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """Name of a finding -> its line, of all that the records so far show; empty between looks."""
        if len(records) < self.next_look:
            return {}
        self.next_look = len(records) * GROWTH
        return {found.name: found.line() for found in self.findings(records)}

    def findings(
        self, records: Sequence[Mapping[str, Any]], *, is_over: bool = False, closing: Scores | None = None
    ) -> list[Finding]:
        """What the records show; at the end with the `closing` scores."""
        written = self.written if closing is None else _written(int(records[-1]["step"]) if records else 0, closing)
        return diagnose(Evidence(records, self.facts, self.config, written, is_over))


def _written(step: int, scores: Scores) -> Written:
    return written_of(step, [(h.reference, h.hypothesis) for h in scores.hypotheses[:SAMPLE]])
