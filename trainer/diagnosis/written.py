"""What a model writes, compared with the references of its own utterances and with those of their neighbours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from trainer.diagnosis.evidence import Written
from trainer.scoring.metrics import count_character_errors

SAMPLE = 48
"""Utterances that are looked at, from the first on: neighbours in the corpus' order."""
SHIFTS = (1, -1, 2, -2, 3, -3)
WRONG = 0.5
"""Character errors, over the references' length, from which on the neighbours' references are tried."""


def written_of(step: int, pairs: Sequence[tuple[str, str]]) -> Written:
    """Of (reference, hypothesis) pairs in the corpus' order, after `step` steps."""
    some = pairs[:SAMPLE]
    references, hypotheses = [r for r, _ in some], [h for _, h in some]
    counts, said = Counter("".join(hypotheses)), Counter("".join(references))
    top, number = counts.most_common(1)[0] if counts else ("", 0)
    own = _rate(references, hypotheses)
    shift, best = 0, own
    if counts and own >= WRONG:
        rates = {}
        for k in (k for k in SHIFTS if abs(k) < len(some)):
            there = [(references[i + k], h) for i, h in enumerate(hypotheses) if 0 <= i + k < len(some)]
            rates[k] = _rate([r for r, _ in there], [h for _, h in there])
        if rates and min(rates.values()) < own:
            shift = min(rates, key=rates.__getitem__)
            best = rates[shift]
    return Written(
        step=step, num_characters=counts.total(), top_unit=top, top_share=number / max(1, counts.total()),
        top_reference_share=said[top] / max(1, said.total()), own_rate=own, shifted_rate=best, shift=shift,
        num_utterances=len(some),
    )  # fmt: skip


def _rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Character errors over the references' length."""
    errors = sum(count_character_errors(r, h).num_errors for r, h in zip(references, hypotheses, strict=True))
    return errors / max(1, sum(map(len, references)))
