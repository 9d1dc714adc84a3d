"""Two groups of runs that differ in their seeds alone, from the summaries that `--seeds` writes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.errors import ResultsError
from trainer.report.terminal import aligned
from trainer.report.verdict import points, shown_p
from trainer.scoring.statistics import spread, welch


def compare_summaries(a: Path, b: Path) -> list[str]:
    """Lines that compare the main error rates of two summaries, split by split; ResultsError where they cannot be."""
    if a.resolve() == b.resolve():
        raise ResultsError(f"{b} is given twice. Name each summary once.")
    groups = [_read(path) for path in (a, b)]
    lines = [
        f"{letter}: {path}, {len(of['runs'])} runs, seeds {', '.join(str(run['seed']) for run in of['runs'])}"
        for letter, path, of in zip("AB", (a, b), groups, strict=True)
    ]
    mains = {of["metric"] for of in groups}
    if len(mains) > 1:
        raise ResultsError(
            f"{a} and {b} have different error rates ({', '.join(sorted(mains))}). Give two "
            "summaries of words, or two of the same units."
        )
    main = mains.pop()
    common = [split for split in groups[0]["splits"] if split in groups[1]["splits"]]
    if not common:
        names = "; ".join(", ".join(of["splits"]) for of in groups)
        raise ResultsError(f"{a} and {b} have no split in common ({names}). Give summaries of the same corpus.")
    rules = [{of["splits"][split]["scoring"] for split in common if "scoring" in of["splits"][split]} for of in groups]
    if rules[0] and rules[1] and rules[0] != rules[1]:
        told = "; ".join(f"{path}: {', '.join(sorted(of))}" for path, of in zip((a, b), rules, strict=True))
        raise ResultsError(f"the runs were scored under different rules ({told}). Give summaries of one rule.")
    lines += [f"{main.upper()} [{rule}]" for rule in sorted(set.union(*rules))]
    sizes = {split: _told_by_both(*(of["splits"][split] for of in groups)) for split in common}
    others = [split for split in common if sizes[split][0] != sizes[split][1]]
    if len(others) == len(common):
        raise ResultsError(
            f"{a} and {b} scored other test sets ({_sizes(common, sizes)}). Give summaries of the same corpus."
        )
    if others:
        lines.append(f"Not compared, since A and B scored other utterances: {_sizes(others, sizes)}")
    table = [["split", "runs", f"mean {main.upper()} A", "B", "B − A, points", "95 % interval", "p, Welch"]]
    for split in (split for split in common if split not in others):
        values = [of["splits"][split][main]["values"] for of in groups]
        difference, low, high, p = welch(*values)
        interval = "none" if math.isnan(low) else f"{points(low)} to {points(high)}"
        means = [f"{100 * spread(of).mean:.2f} %" for of in values]
        table.append([split, f"{len(values[0])}, {len(values[1])}", *means, points(difference), interval, shown_p(p)])
    return [
        *lines,
        *aligned(table),
        "Compared are the means over seeds, each run a sample: does the recipe of B beat that of A with another seed? "
        "The test speakers are taken as they are: python -m scripts.compare on two runs asks about other speakers.",
        "No p value is adjusted for the number of splits.",
    ]


def _told_by_both(*records: dict[str, Any]) -> list[dict[str, int]]:
    """{What is counted: how many} of a test set, from each summary; counts that only one of them has are left out."""
    keys = [key for key in records[0] if key.startswith("num_") and all(key in record for record in records)]
    return [{key.removeprefix("num_").replace("_", " "): record[key] for key in keys} for record in records]


def _sizes(splits: Sequence[str], sizes: dict[str, list[dict[str, int]]]) -> str:
    return "; ".join(
        f"{split}: " + " and ".join(", ".join(f"{n:,} {what}" for what, n in of.items()) for of in sizes[split])
        for split in splits
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        for record in summary["splits"].values():
            if len(record[summary["metric"]]["values"]) != len(summary["runs"]):
                raise ValueError("a run lacks a figure")
        if not summary["runs"] or not all("seed" in run for run in summary["runs"]):
            raise ValueError("no runs")
    except OSError as error:
        raise ResultsError(f"{path}: not readable ({error.strerror}).") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultsError(f"{path}: not a summary as --seeds writes it ({error}).") from None
    return summary
