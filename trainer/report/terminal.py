"""A comparison as plain text for the terminal: tables with aligned columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainer.errors import ConfigError
from trainer.report.columns import letter
from trainer.report.differences import options_that_differ
from trainer.report.verdict import Row
from trainer.scoring.breakdown import drawn_units, wer_interval
from trainer.scoring.metrics import pool


def rates_lines(title: str, rows: Sequence[Row]) -> list[str]:
    """A table of one split: a line for each system with its error rates and the interval of the main one."""
    units, (_, over) = rows[0][0].units, drawn_units([row[-1] for row in rows])
    others = [metric for metric in units.metrics if metric != units.main]
    table = [["", units.label, "95 % interval", "errors", f"of {units.name}", *(metric.upper() for metric in others)]]
    for i, system in enumerate(zip(*rows, strict=True)):
        counts, (interval, _) = pool(h.words for h in system), wer_interval(system)
        shown = f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f} %" if interval else "none"
        rates = [pool(h.counts(metric) for h in system).rate for metric in others]
        table.append([
            letter(i), _percent(counts.rate), shown, f"{counts.num_errors:,}", f"{counts.num_reference:,}",
            *map(_percent, rates),
        ])  # fmt: skip
    drawn = over if "utterance" in over else f"{len(rows):,} utterances of {over}"
    return [f"{title}: {drawn}", *aligned(table, indent="  ")]


def options_lines(folders: Sequence[Path]) -> list[str]:
    """The options in which the runs differ."""
    try:
        rows = options_that_differ(folders)
    except ConfigError as error:
        return [f"options are not known: {error}"]
    if not rows:
        return ["all options are the same"]
    head = ["", *(letter(i) for i in range(len(folders)))]
    return ["options that differ:", *aligned([head, *([name, *values] for name, values in rows)], indent="  ", left=9)]


def aligned(table: Sequence[Sequence[str]], *, indent: str = "", left: int = 1) -> list[str]:
    """Rows whose columns stand below one another, two spaces apart: the first `left` ones to the left, others to the
    right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(indent + "  ".join(cells).rstrip())
    return lines


def _percent(rate: float) -> str:
    return "∞" if rate == float("inf") else f"{100 * rate:.2f} %"
