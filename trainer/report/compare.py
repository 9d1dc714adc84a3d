"""Compare two runs on the same utterances: is the difference real, and which utterances does it come from?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from trainer.errors import ResultsError
from trainer.report.html import figure, percent
from trainer.report.media_choice import MediaSource
from trainer.report.page import MOST_BYTES, Page, describe_page, utterance_row, write_page
from trainer.report.run import complete
from trainer.rundir.results import read_hypotheses
from trainer.scoring.breakdown import drawn_units
from trainer.scoring.evaluate import Hypothesis
from trainer.scoring.metrics import pool
from trainer.scoring.statistics import Comparison, compare

Pair = tuple[str, Hypothesis, Hypothesis]
"""(Split, what A wrote, what B wrote)."""


def write_comparison(
    run_a: Path,
    run_b: Path,
    path: Path,
    source: MediaSource | None,
    *,
    why_none: str = "",
    most_bytes: int | None = MOST_BYTES,
) -> list[str]:
    """Write a page that compares two finished runs. The lines returned say what was found, the last one where it is.

    `source` has B's corpus and model. An utterance is left out unless both runs have it with the same reference.
    """
    before, after = (read_hypotheses(run / "hypotheses.jsonl") for run in (run_a, run_b))
    if source is not None:
        after = complete(after, source)
    pairs, lost = pair(before, after)
    if not pairs:
        raise ResultsError(f"{run_a} and {run_b} have no utterance with the same reference in common.")
    sections: list[tuple[str, str, str]] = []
    lines = []
    for split in dict.fromkeys(split for split, _, _ in pairs):
        of_split = [(a, b) for s, a, b in pairs if s == split]
        found, over = compare_systems(of_split)
        sections.append((f"split-{len(sections)}", split, _figures(of_split, found, over)))
        lines.append(f"{split}: {describe(of_split, found, over)}")
    if lost:
        lines.append(f"left out: {lost} utterances that not both runs have with the same reference")
        sections.append(("lost", "", f'<p class="note">{escape(lines[-1].capitalize())}.</p>'))
    names = [run_a.name, run_b.name] if run_a.name != run_b.name else [str(run_a), str(run_b)]
    legend = f'<p class="note">A is {escape(names[0])}, B is {escape(names[1])}.</p>'
    page = Page(
        title=f"{names[0]} and {names[1]}",
        kind="Comparison of two speech recognisers",
        heading=f"{names[0]} (A) and {names[1]} (B)",
        body=[("systems", "", legend), *sections],
    )
    rows = [utterance_row(split, [a, b]) for split, a, b in pairs]
    scored = [(split, b) for split, _, b in pairs]
    media = write_page(path, page, rows, scored, names, "change", source, why_none, most_bytes)
    return [*lines, describe_page(path, len(rows), media, most_bytes)]


def pair(before: dict[str, list[Hypothesis]], after: dict[str, list[Hypothesis]]) -> tuple[list[Pair], int]:
    """The utterances that both runs scored, in B's order, and how many utterances of either run are left out."""
    theirs = {(split, h.id): h for split, hypotheses in before.items() for h in hypotheses}
    pairs = []
    for split, hypotheses in after.items():
        for b in hypotheses:
            a = theirs.get((split, b.id))
            if a is not None and a.reference == b.reference:
                pairs.append((split, a, b))
    num_after = sum(map(len, after.values()))
    return pairs, len(theirs) + num_after - 2 * len(pairs)


def compare_systems(pairs: Sequence[tuple[Hypothesis, Hypothesis]]) -> tuple[Comparison, str]:
    """The statistics of one split, and what the bootstrap draws: "24 speakers" or "200 utterances"."""
    units, over = drawn_units([b for _, b in pairs])
    return compare([
        (unit, a.words.num_errors, b.words.num_errors, b.words.num_reference)
        for unit, (a, b) in zip(units, pairs, strict=True)
    ]), over  # fmt: skip


def describe(pairs: Sequence[tuple[Hypothesis, Hypothesis]], c: Comparison, over: str) -> str:
    """`WER 9.2 % -> 8.1 % (-1.1 points, 95 % interval -2.0 to -0.3 over 24 speakers; p 0.012, ...)`."""
    before, after = (pool(h.words for h in system).rate for system in zip(*pairs, strict=True))
    return (
        f"WER {percent(before)} -> {percent(after)} ({_points(c.difference)} points, 95 % interval {_points(c.low)} to "
        f"{_points(c.high)} over {over}; paired bootstrap p {_p(c.bootstrap_p)}, matched pairs p "
        f"{_p(c.matched_pairs_p)}); {c.num_better} utterances better, {c.num_worse} worse, {c.num_equal} as good"
    )


def _figures(pairs: Sequence[tuple[Hypothesis, Hypothesis]], c: Comparison, over: str) -> str:
    a, b = (pool(h.words for h in system) for system in zip(*pairs, strict=True))
    interval = f"{_points(c.low)} to {_points(c.high)}, 95 % over {over}"
    low, high = c.low, c.high
    verdict = "the interval holds 0: no difference shown" if low <= 0 <= high else "the interval excludes 0"
    if math.isnan(low):
        interval, verdict = "too few units for an interval", "nothing is shown"
    lines = [
        figure("A: word error rate", percent(a.rate), f"{a.num_errors:,} of {a.num_reference:,} words"),
        figure("B: word error rate", percent(b.rate), f"{b.num_errors:,} of {b.num_reference:,} words"),
        figure("B − A, points", _points(c.difference), interval, verdict),
        figure("p, paired bootstrap", _p(c.bootstrap_p), f"{over} drawn, both systems together"),
        figure("p, matched pairs", _p(c.matched_pairs_p), "normal test on the utterances' differences"),
        figure("Better with B", str(c.num_better), f"{c.num_worse} worse, {c.num_equal} as good"),
    ]
    return f'<dl class="figures">{"".join(lines)}</dl>'


def _points(rate: float) -> str:
    """A difference of rates in percentage points, with its sign."""
    return "none" if not math.isfinite(rate) else f"{100 * rate:+.2f}".replace("-", "−")


def _p(value: float) -> str:
    return "none" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"
