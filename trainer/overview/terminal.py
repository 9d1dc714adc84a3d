"""All runs as a table for the terminal, and as JSON for another program."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.plural import counted
from trainer.cli.console import folded
from trainer.cli.streams import one_line
from trainer.overview.figures import (
    ago,
    audio_text,
    duration_text,
    notes_on_rates,
    rate_text,
    speed_text,
    step_text,
    units_of,
)
from trainer.overview.find import options_that_differ, short_names
from trainer.overview.run import MEANING, Run

LONGEST_NAME, LONGEST_VALUE, MOST_OTHERS = 40, 32, 8


def table(runs: list[Run], others: Sequence[Path], width: int | None) -> list[str]:
    """The lines of the table and what there is to say below it. `width` cuts lines; None leaves them whole."""
    if not runs:
        return ["no runs", *_others(others)]
    differing = options_that_differ(runs)
    short = short_names(differing)
    rate = f"{units_of(runs)} % (95 %)"
    heads = ["run", "status", "step", rate, "training", "audio", "s/s", "last sign", "differs in"]
    rows = [
        [
            _cut(one_line(run.name), LONGEST_NAME if width else None),
            run.status,
            step_text(run),
            rate_text(run),
            duration_text(run),
            audio_text(run),
            speed_text(run),
            ago(run.changed),
            "  ".join(_differences(run, short)),
        ]
        for run in runs
    ]
    widths = [max(map(cells, column)) for column in zip(heads, *rows, strict=True)]
    lines = [_line(row, widths, width) for row in (heads, *rows)]
    notes = [f"{one_line(run.name)}: {one_line(run.note)}" for run in runs if run.note]
    below = [summary(runs), *notes, *notes_on_rates(runs), *_others(others)]
    if width:
        below = [part for line in below for part in folded(line, width).splitlines()]
    return [*lines, "", *below]


def summary(runs: Sequence[Run]) -> str:
    """`5 runs: 1 running, 4 finished`."""
    counts = Counter(run.status for run in runs)
    told = ", ".join(f"{counts[status]} {status}" for status in MEANING if counts[status])
    return f"{counted(len(runs), 'run')}: {told}"


def _others(others: Sequence[Path]) -> list[str]:
    if not others:
        return []
    shown = ", ".join(one_line(str(path)) for path in others[:MOST_OTHERS])
    more = f" and {len(others) - MOST_OTHERS} more" if len(others) > MOST_OTHERS else ""
    return [f"no run in {shown}{more}"]


def _differences(run: Run, short: dict[str, str]) -> list[str]:
    if run.options is None:
        return ["options not known"]
    values = {name: run.options[name] for name in short if run.options.get(name, "None") != "None"}
    return [f"{short[name]}={one_line(_cut(value, LONGEST_VALUE))}" for name, value in values.items()]


def _line(row: Sequence[str], widths: Sequence[int], width: int | None) -> str:
    padded = [cell + " " * (wide - cells(cell)) for cell, wide in zip(row, widths, strict=True)]
    line = "  ".join(padded).rstrip()
    return line if width is None else _end(line, width)


def cells(text: str) -> int:
    """How many columns of a terminal `text` takes."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _cut(text: str, most: int | None) -> str:
    """`text` with its middle left out: long names differ at their ends."""
    return text if most is None or len(text) <= most else f"{text[: most // 3]}…{text[-(most - most // 3 - 1) :]}"


def _end(line: str, width: int) -> str:
    if cells(line) <= width:
        return line
    while cells(line) > width - 1:
        line = line[:-1]
    return f"{line}…"


def as_json(run: Run) -> str:
    """One run as one line of JSON; docs/howto-runs.md explains the keys."""
    rate, best = run.rate, run.best
    record: dict[str, Any] = {
        "name": run.name,
        "path": str(run.path),
        "status": run.status,
        "note": run.note,
        "step": run.step,
        "total_steps": run.total_steps,
        "saved_step": run.saved_step,
        "rate": rate and {"name": rate.name.lower(), "value": rate.value, "split": rate.split or None,
                          "interval": rate.interval, "step": rate.step},
        "best": best and {"value": best.value, "step": best.step},
        "train_seconds": run.train_seconds,
        "audio_seconds": run.audio_seconds,
        "is_estimated": run.is_estimated,
        "audio_seconds_per_second": run.audio_seconds_per_second,
        "begun": run.begun,
        "changed": run.changed,
        "options": run.options,
    }  # fmt: skip
    return json.dumps(record, ensure_ascii=True, allow_nan=False)
