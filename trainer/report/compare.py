"""Compare runs on the same utterances: is the difference real, and where does it come from?

The verdict comes first (trainer.report.verdict), then where the runs differ (trainer.report.differences), then the
utterances. Two runs are A and B; with more there is a table of all and a test of every pair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from trainer.errors import ResultsError
from trainer.report.columns import letter
from trainer.report.comparable import Evaluated, normalizers, pair, read_runs, remarks
from trainer.report.curves import compare_curves, to_svg
from trainer.report.differences import gained_and_lost, groups_table, options_table
from trainer.report.media_choice import MediaSource
from trainer.report.page import MOST_BYTES, Page, describe_page, utterance_row, write_page
from trainer.report.run import complete
from trainer.report.terminal import options_lines, rates_lines
from trainer.report.verdict import (
    Row,
    compare_systems,
    describe,
    many_systems,
    matched,
    other_metrics,
    two_systems,
    verdict,
)
from trainer.rundir.reading import read_records
from trainer.rundir.results import once_each

OVERLAP = (
    "The test sets overlap and each is tested by itself: no p value is adjusted for their number. Name the one that "
    "counts before looking"
)
Section = tuple[str, str, str]
"""(Anchor, title, HTML)."""


def write_comparison(
    folders: Sequence[Path],
    path: Path,
    source: MediaSource | None,
    *,
    why_none: str = "",
    most_bytes: int | None = MOST_BYTES,
) -> list[str]:
    """Write a page that compares finished runs. The lines returned say what was found, the last one where it is.

    `source` has the last run's corpus and model. An utterance is left out unless all runs have it with the same
    reference. ConfigError or ResultsError where nothing can be compared.
    """
    runs = read_runs(folders)
    read = [run.splits for run in runs]
    if source is not None:
        read[-1] = complete(read[-1], source)
    splits, left_out = pair(read)
    if not splits:
        why = f" ({left_out.example}{normalizers(folders)})" if left_out.example else ""
        raise ResultsError(
            f"{' and '.join(map(str, folders))} have no utterance with the same reference in common{why}. Compare runs "
            "that scored the same split under the same normaliser."
        )
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    told = list(remarks(runs, splits, left_out))
    rows = distinct(splits, str(runs[-1].results.get("headline", "")))
    own = Counter(split for split, _ in rows)
    titles = {split: title_of(split, runs, len(of)) for split, of in splits.items()}
    verdicts, lines, sections = list[str](), list[str](), list[Section]()
    for split, of in splits.items():
        said, of_split, html = _findings(titles[split], names, of)
        verdicts.append(f'<p class="verdict">{escape(said)}</p>{html}')
        lines += ["", *of_split]
        if own[split] == len(of):  # a click finds an utterance under one split alone
            sections += _sections(split, of)
    told += [OVERLAP] if sum(own.values()) < sum(map(len, splits.values())) else []
    verdicts += [f'<p class="note">{escape(remark)}.</p>' for remark in told]
    legend = ", ".join(f"{letter(i)} is {escape(name)}" for i, name in enumerate(names))
    first: Section = ("verdict", "", f'<p class="note">{legend}.</p>{"".join(verdicts)}')
    page = Page(
        title=" and ".join(names),
        kind=f"Comparison of {'two' if len(runs) == 2 else len(runs)} speech recognisers",
        heading=", ".join(f"{name} ({letter(i)})" for i, name in enumerate(names)),
        body=[first, ("options", "Options that differ", options_table(folders)), *_curves(folders), *sections],
    )
    shown, of_last = [utterance_row(split, row) for split, row in rows], [(split, row[-1]) for split, row in rows]
    sort = "-change" if len(runs) == 2 else "-spread"
    media = write_page(path, page, shown, of_last, names, sort, source, why_none, most_bytes)
    head = [f"{letter(i)}: {folder}" for i, folder in enumerate(folders)]
    note = [f"note: {remark}" for remark in told]
    return [*head, *note, *lines, "", *options_lines(folders), describe_page(path, len(rows), media, most_bytes)]


def distinct(splits: Mapping[str, Sequence[Row]], first: str) -> list[tuple[str, Row]]:
    """(Split, utterance), each utterance once, as trainer.rundir.results.once_each does for the last run."""
    of_last = once_each({split: [row[-1] for row in rows] for split, rows in splits.items()}, first)
    known = {(split, row[-1].id): row for split, rows in splits.items() for row in rows}
    return [(split, known[split, h.id]) for split, h in of_last]


def title_of(split: str, runs: Sequence[Evaluated], num_utterances: int) -> str:
    """`core (core-192)` where all runs name that protocol and all its utterances are paired; else the split's name."""
    records = [run.results.get("splits", {}).get(split, {}) for run in runs]
    protocols = {record.get("protocol", "") for record in records}
    is_whole = all(record.get("num_utterances") == num_utterances for record in records)
    return f"{split} ({protocols.pop()})" if len(protocols) == 1 and "" not in protocols and is_whole else split


def _findings(title: str, names: Sequence[str], rows: Sequence[Row]) -> tuple[str, list[str], str]:
    """The verdict, lines for the terminal, and the figures as HTML, of one split."""
    table = rates_lines(title, rows)
    if len(names) > 2:
        said, tests, html = many_systems(title, names, rows)
        return said, [*table, *(f"  {line}" for line in tests), f"  {said.removeprefix(f'{title}: ')}"], html
    (c, over), pairs = compare_systems(rows), matched(rows)
    said, (differs, tests_of_two) = verdict(title, rows, c, over), describe(c, pairs, over)
    others = other_metrics(rows)
    lines = [
        *table,
        f"  B − A: {differs}",
        f"    {tests_of_two}",
        f"    {others}",
        f"  {said.removeprefix(f'{title}: ')}",
    ]
    return said, lines, f'{two_systems(rows, c, pairs, over)}<p class="note">{escape(others)}.</p>'


def _sections(split: str, rows: Sequence[Row]) -> Iterator[Section]:
    """Groups of utterances, and for two runs the words that were gained and lost."""
    note = f'<p class="note">Of {escape(split)}. A click leads to the utterances.</p>'
    if groups := groups_table(split, rows):
        yield f"groups-{split}", f"Who and what: {split}", note + groups
    if len(rows[0]) == 2 and (words := gained_and_lost(split, rows)):
        yield f"words-{split}", f"{rows[0][0].units.name.capitalize()} gained and lost: {split}", note + words


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
