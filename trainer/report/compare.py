"""Compare runs on the same utterances: is the difference real, and where does it come from?

The verdict comes first (trainer.report.verdict), then where the runs differ (trainer.report.differences), then the
utterances. Two runs are A and B; with more there is a table of all and a test of every pair.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path

from trainer.errors import ResultsError
from trainer.report.columns import letter
from trainer.report.curves import compare_curves, to_svg
from trainer.report.differences import gained_and_lost, groups_table, options_table
from trainer.report.media_choice import MediaSource
from trainer.report.page import MOST_BYTES, Page, describe_page, utterance_row, write_page
from trainer.report.run import complete
from trainer.report.verdict import Row, compare_systems, describe, many_systems, two_systems, verdict
from trainer.rundir.log import read_records
from trainer.rundir.results import read_hypotheses, read_results
from trainer.scoring.scores import Hypothesis

Section = tuple[str, str, str]
"""(Anchor, title, HTML)."""


def write_comparison(
    runs: Sequence[Path],
    path: Path,
    source: MediaSource | None,
    *,
    why_none: str = "",
    most_bytes: int | None = MOST_BYTES,
) -> list[str]:
    """Write a page that compares finished runs. The lines returned say what was found, the last one where it is.

    `source` has the last run's corpus and model. An utterance is left out unless all runs have it with the same
    reference.
    """
    read = [read_hypotheses(run / "hypotheses.jsonl") for run in runs]
    if source is not None:
        read[-1] = complete(read[-1], source)
    scored, lost = match(read)
    if not scored:
        raise ResultsError(f"{' and '.join(map(str, runs))} have no utterance with the same reference in common.")
    names = [run.resolve().name for run in runs]
    if len(set(names)) < len(names):
        names = [str(run) for run in runs]
    splits = {s: [row for split, row in scored if split == s] for s in dict.fromkeys(split for split, _ in scored)}
    verdicts, lines, sections = _findings(splits, names)
    if lost:
        lines.append(f"left out: {lost} utterances that not all runs have with the same reference")
        verdicts.append(f'<p class="note">{escape(lines[-1].capitalize())}.</p>')
    verdicts += [f'<p class="note">{escape(told)}</p>' for told in _notes(runs, splits)]
    legend = ", ".join(f"{letter(i)} is {escape(name)}" for i, name in enumerate(names))
    first: Section = ("verdict", "", f'<p class="note">{legend}.</p>{"".join(verdicts)}')
    page = Page(
        title=" and ".join(names),
        kind=f"Comparison of {'two' if len(runs) == 2 else len(runs)} speech recognisers",
        heading=", ".join(f"{name} ({letter(i)})" for i, name in enumerate(names)),
        body=[first, ("options", "Options that differ", options_table(runs)), *_curves(runs), *sections],
    )
    rows = [utterance_row(split, row) for split, row in scored]
    of_last = [(split, row[-1]) for split, row in scored]
    sort = "-change" if len(runs) == 2 else "-spread"
    media = write_page(path, page, rows, of_last, names, sort, source, why_none, most_bytes)
    return [*lines, describe_page(path, len(rows), media, most_bytes)]


def _notes(runs: Sequence[Path], splits: Iterable[str]) -> Iterator[str]:
    """What results.json notes of a split's figures, as that a run's weights were selected on it."""
    for i, run in enumerate(runs):
        with contextlib.suppress(ResultsError):  # hypotheses alone are enough to compare
            records = read_results(run).get("splits", {})
            for split in splits:
                if note := records.get(split, {}).get("note"):
                    yield f"{letter(i)} on {split}: {note}."


def match(read: Sequence[dict[str, list[Hypothesis]]]) -> tuple[list[tuple[str, Row]], int]:
    """The utterances that all runs scored, as (split, hypotheses of all runs), in the last run's order.

    The number besides is of utterances, of any run, that are left out.
    """
    known = [{(split, h.id): h for split, some in splits.items() for h in some} for splits in read]
    rows = []
    for split, hypotheses in read[-1].items():
        for h in hypotheses:
            row = tuple(of_run.get((split, h.id)) for of_run in known[:-1])
            found = tuple(other for other in row if other is not None and other.reference == h.reference)
            if len(found) == len(row):
                rows.append((split, (*found, h)))
    num_all = sum(len(some) for splits in read for some in splits.values())
    return rows, num_all - len(read) * len(rows)


def _findings(splits: dict[str, list[Row]], names: Sequence[str]) -> tuple[list[str], list[str], list[Section]]:
    """Verdicts as HTML, lines for the terminal, and the sections of every split."""
    verdicts, lines, sections = list[str](), list[str](), list[Section]()
    for i, (split, rows) in enumerate(splits.items()):
        if len(names) == 2:
            c, over = compare_systems(rows)
            said, line, figures = verdict(split, rows, c, over), describe(rows, c, over), two_systems(rows, c, over)
            lines.append(f"{split}: {line}")
        else:
            said, line, figures = many_systems(split, names, rows)
            lines.append(line)
        verdicts.append(f'<p class="verdict">{escape(said)}</p>{figures}')
        note = f'<p class="note">Of {escape(split)}. A click leads to the utterances.</p>'
        if groups := groups_table(split, rows):
            sections.append((f"groups-{i}", f"Who and what: {split}", note + groups))
        if len(names) == 2 and (words := gained_and_lost(split, rows)):
            sections.append((f"words-{i}", f"Words gained and lost: {split}", note + words))
    return verdicts, lines, sections


def _curves(runs: Sequence[Path]) -> list[Section]:
    """The curves of all runs in the same charts; none where no run was trained."""
    records = {
        letter(i): read_records(run / "metrics.jsonl") for i, run in enumerate(runs) if (run / "metrics.jsonl").exists()
    }
    drawn = [
        to_svg(curve, f"{name} over training steps, a line for each run")
        for name, curve in compare_curves(records).items()
    ]
    return [("curves", "Training", f'<div class="curves">{"".join(drawn)}</div>')] if drawn else []
