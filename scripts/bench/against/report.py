"""From the figures of alternating rounds to medians, ranges and ratios, and to a Markdown table. Pure functions."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.cli.clock import Phase

Figures = dict[str, float | None]
"""Name -> figure of one run; None if there is none."""

METRICS: dict[str, tuple[str, str, int]] = {
    # name: (title, which is better, decimals)
    "audio_rate": ("audio seconds per second of training", "more", 1),
    "padded_rate": ("the same, padding included", "", 1),
    "step_p50": ("step, median [ms]", "less", 1),
    "step_p95": ("step, 95th percentile [ms]", "less", 1),
    "train_seconds": ("training [s]", "less", 2),
    "eval_seconds": ("one evaluation [s]", "less", 2),
    "end_to_end": ("whole run, to the final checkpoint [s]", "less", 1),
    "peak_memory_mb": ("peak memory [MB]", "less", 0),
    "wer": ("WER", "", 4),
}

PHASES: dict[str, tuple[Phase, ...]] = {
    "start and imports": ("start", "imports"),
    "reading and decoding": ("corpus", "decoding"),
    "model": ("model",),
    "plan of batches": ("plan",),
    "estimate of time": ("estimate",),
    "table of features": ("table",),
    "training": ("training",),
    "evaluations": ("evaluations",),
    "waiting for saves": ("saves",),
    "closing evaluation": ("closing_evaluation",),
    "export and card": ("export", "card"),
    "report": ("report", "upload"),
    "other": ("other",),
}
"""Row of the second table -> the phases of trainer.cli.clock that it sums. What is left of the whole run is "exit"."""


def phase_seconds(clock: Mapping[Phase, float], whole: float) -> Figures:
    """A run's seconds for each row of the second table, of `whole` seconds from start to end.

    >>> figures = phase_seconds({"start": 0.5, "imports": 2.0, "other": 1.0}, 4.0)
    >>> {row: seconds for row, seconds in figures.items() if seconds}
    {'phase/start and imports': 2.5, 'phase/other': 1.0, 'phase/exit': 0.5}
    """
    rows = {f"phase/{row}": sum(clock.get(p, 0.0) for p in phases) for row, phases in PHASES.items()}
    return {**rows, "phase/exit": whole - sum(clock.values())}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range.

    >>> spread([3.0, 1.0, 2.0])
    {'median': 2.0, 'min': 1.0, 'max': 3.0}
    """
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def advantage(ours: Sequence[float], theirs: Sequence[float], better: str) -> dict[str, float]:
    """How many times better ours is: the ratio of each round (its sides ran one after the other), and their spread.

    >>> advantage([2.0, 4.0], [1.0, 1.0], "more")
    {'median': 3.0, 'min': 2.0, 'max': 4.0}
    >>> advantage([2.0], [6.0], "less")["median"]
    3.0
    """
    pairs = zip(ours, theirs, strict=True)
    return spread([a / b if better == "more" else b / a for a, b in pairs])


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all values do not exceed.

    >>> percentile([5.0, 1.0, 2.0, 4.0, 3.0], 0.95), percentile([1.0, 2.0], 0.5)
    (5.0, 1.0)
    """
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def step_seconds(logged: Sequence[tuple[int, float]], interrupted_every: Sequence[int]) -> list[float]:
    """Seconds per step between two logs, without intervals that contain an evaluation or a save.

    `logged` is (step, clock). An evaluation or a save follows every step that a number of `interrupted_every` divides.

    >>> step_seconds([(10, 0.0), (20, 5.0), (30, 20.0), (40, 26.0)], [20, 0])
    [0.5, 0.6]
    """
    seconds = []
    for (step, clock), (next_step, next_clock) in itertools.pairwise(logged):
        if not any(n and step % n == 0 for n in interrupted_every):
            seconds.append((next_clock - clock) / (next_step - step))
    return seconds


def summarize(rounds: Mapping[str, Sequence[Figures]]) -> dict[str, Any]:
    """Under "sides": side -> metric -> spread. Under "ratios": side -> metric -> how many times better `ours` is. Under
    "phases": side -> row of the second table -> spread of its seconds."""
    sides: dict[str, Any] = {}
    phases: dict[str, Any] = {}
    for side, runs in rounds.items():
        values = {name: _values(runs, name) for name in METRICS}
        sides[side] = {name: spread(v) for name, v in values.items() if v}
        values = {row: _values(runs, f"phase/{row}") for row in (*PHASES, "exit")}
        phases[side] = {row: spread(v) for row, v in values.items() if v}
    ratios: dict[str, Any] = {}
    for side in rounds:
        if side != "ours" and "ours" in rounds:
            ratios[side] = {
                name: advantage(_values(rounds["ours"], name), _values(rounds[side], name), better)
                for name, (_, better, _) in METRICS.items()
                if better and name in sides[side] and name in sides["ours"]
            }
    return {"sides": sides, "ratios": ratios, "phases": phases}


def _values(runs: Sequence[Figures], name: str) -> list[float]:
    values = [run.get(name) for run in runs]
    return [] if any(v is None for v in values) else [v for v in values if v is not None]


def markdown(summary: Mapping[str, Any]) -> str:
    """A table with a row for each metric, a column for each side, and a column for each ratio."""
    sides, ratios = summary["sides"], summary["ratios"]
    header = ["", *sides, *(f"ours against {side}" for side in ratios)]
    lines = [_row(header), _row(["---"] * len(header))]
    for name, (title, _, digits) in METRICS.items():
        if not any(name in figures for figures in sides.values()):
            continue
        cells = [_cell(figures.get(name), digits) for figures in sides.values()]
        cells += [_cell(of_side.get(name), 2, "x") for of_side in ratios.values()]
        lines.append(_row([title, *cells]))
    return "\n".join(lines)


def markdown_of_phases(summary: Mapping[str, Any]) -> str:
    """A table with a row for each phase that took time on some side, in seconds; the rows of a side sum to its run."""
    phases = summary["phases"]
    lines = [_row(["seconds of the whole run", *phases]), _row(["---"] * (1 + len(phases)))]
    for row in (*PHASES, "exit"):
        if any(rows.get(row, {"max": 0.0})["max"] >= 0.005 for rows in phases.values()):
            lines.append(_row([row, *(_cell(rows.get(row), 2) for rows in phases.values())]))
    return "\n".join(lines)


def _cell(figure: Mapping[str, float] | None, digits: int, unit: str = "") -> str:
    if figure is None:
        return ""
    median, low, high = (f"{figure[key]:.{digits}f}" for key in ("median", "min", "max"))
    return f"{median}{unit}" if low == high else f"{median}{unit} ({low} to {high})"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
