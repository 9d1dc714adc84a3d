"""The columns of the report's table of utterances. One more is one more entry in `columns`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trainer.scoring.evaluate import Hypothesis
from trainer.scoring.metrics import EditCounts

Systems = Sequence[Hypothesis]
"""What each compared run wrote for one utterance: one hypothesis in a report, two (A, B) in a comparison."""


@dataclass(frozen=True)
class Column:
    """How a column is headed, filled, shown and filtered by."""

    key: str
    title: str
    kind: Literal["text", "number", "seconds", "rate", "change"]
    """A rate's value is (errors, reference units) and is shown in percent; a change is shown with its sign."""
    value: Callable[[str, Systems], Any]
    """From split and hypotheses; None where it is not known. The last hypothesis knows most of the utterance."""
    is_choice: bool = False
    """The page lets its reader choose one of the column's values."""


def columns(num_systems: int) -> list[Column]:
    """The columns of a report (one system) or of a comparison (two)."""
    shown = [
        Column("id", "Utterance", "text", lambda split, h: h[-1].id),
        Column("split", "Split", "text", lambda split, h: split, is_choice=True),
        Column("speaker", "Speaker", "text", lambda split, h: h[-1].speaker, is_choice=True),
        Column("dialect", "Region", "text", lambda split, h: h[-1].dialect, is_choice=True),
        Column("sex", "Sex", "text", lambda split, h: h[-1].sex, is_choice=True),
        Column("seconds", "Seconds", "seconds", lambda split, h: h[-1].seconds),
        Column("words", "Words", "number", lambda split, h: h[-1].words.num_reference),
    ]
    if num_systems == 1:
        return [
            *shown,
            Column("errors0", "Errors", "number", lambda split, h: h[0].words.num_errors),
            Column("wer", "WER %", "rate", lambda split, h: _rate(h[0].words)),
            Column("cer", "CER %", "rate", lambda split, h: _rate(h[0].characters)),
        ]
    return [
        *shown,
        Column("errors0", "Errors A", "number", lambda split, h: h[0].words.num_errors),
        Column("errors1", "Errors B", "number", lambda split, h: h[1].words.num_errors),
        Column("change", "B − A", "change", lambda split, h: h[1].words.num_errors - h[0].words.num_errors),
    ]


def _rate(counts: EditCounts) -> tuple[int, int]:
    return counts.num_errors, counts.num_reference
