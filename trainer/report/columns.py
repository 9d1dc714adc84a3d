"""The columns of the report's table of utterances. To add a column, add an entry to `columns`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trainer.scoring.metrics import WORDS, EditCounts, Units
from trainer.scoring.scores import Hypothesis

Systems = Sequence[Hypothesis]
"""The hypotheses for one utterance: one in a report, two or more (A, B, ...) in a comparison."""


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
    is_range: bool = False
    """Whether the page shows a histogram of the column, and the reader can choose a range of its values."""


def columns(num_systems: int, units: Units = WORDS) -> list[Column]:
    """The columns of a report (one system) or of a comparison (two or more) whose transcripts consist of `units`."""
    shown = [
        Column("id", "Utterance", "text", lambda split, h: h[-1].id),
        Column("split", "Split", "text", lambda split, h: split, is_choice=True),
        Column("speaker", "Speaker", "text", lambda split, h: h[-1].speaker, is_choice=True),
        Column("dialect", "Region", "text", lambda split, h: h[-1].dialect, is_choice=True),
        Column("sex", "Sex", "text", lambda split, h: h[-1].sex, is_choice=True),
        Column("seconds", "Seconds", "seconds", lambda split, h: h[-1].seconds, is_range=True),
        Column("words", units.name.capitalize(), "number", lambda split, h: h[-1].words.num_reference),
    ]
    if num_systems == 1:
        of_characters = [Column("cer", "CER %", "rate", lambda split, h: _rate(h[0].characters))]
        return [
            *shown,
            Column("errors0", "Errors", "number", lambda split, h: h[0].words.num_errors),
            Column(units.main, f"{units.label} %", "rate", lambda split, h: _rate(h[0].words), is_range=True),
            *(of_characters if "cer" in units.metrics else []),
        ]
    errors = [
        Column(f"errors{i}", f"Errors {letter(i)}", "number", functools.partial(_errors_of, i))
        for i in range(num_systems)
    ]
    if num_systems == 2:
        change = Column(
            "change", "B − A", "change", lambda split, h: h[1].words.num_errors - h[0].words.num_errors, is_range=True
        )
        return [*shown, *errors, change]
    return [*shown, *errors, Column("spread", "Spread", "number", _spread, is_range=True)]


def letter(system: int) -> str:
    """The name of a compared system: A, B, ..."""
    return chr(ord("A") + system)


def _errors_of(system: int, split: str, systems: Systems) -> int:
    return systems[system].words.num_errors


def _spread(split: str, systems: Systems) -> int:
    """How far the worst and the best system are apart, in errors."""
    errors = [h.words.num_errors for h in systems]
    return max(errors) - min(errors)


def _rate(counts: EditCounts) -> tuple[int, int]:
    return counts.num_errors, counts.num_reference
