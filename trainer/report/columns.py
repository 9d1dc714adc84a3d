"""The columns of the report's table of utterances. To add a column, add an entry to `columns`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trainer.scoring.evaluate import Hypothesis
from trainer.scoring.metrics import EditCounts

Systems = Sequence[Hypothesis]
"""The hypotheses for one utterance: one in a report, two (A, B) in a comparison."""


@dataclass(frozen=True)
class Column:
    """A column: its title, its values, how they are shown, and whether the reader can filter by them."""

    key: str
    title: str
    kind: Literal["text", "number", "seconds", "rate", "change"]
    """How values are shown. A rate is (errors, reference units), shown in percent; a change has a sign."""
    value: Callable[[str, Systems], Any]
    """From split and hypotheses to the value; None if unknown. The last hypothesis supplies speaker, length, ..."""
    is_choice: bool = False
    """Whether the reader can choose one of the column's values as a filter."""


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
