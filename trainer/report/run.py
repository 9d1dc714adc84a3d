"""The report of a run: one HTML file in which evaluated utterances can be heard, seen and found. It opens from disk.

It is made from the files of a finished run. Audio, pictures and posteriors come from the run's corpus and model, if
they are at hand. `trainer.report.page` writes the file; `trainer.report.compare` makes one that compares two runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

from data.utterance import SAMPLE_RATE
from trainer.cli.console import Console
from trainer.cli.interpreter import python_command
from trainer.report.about import about
from trainer.report.curves import draw_curves, to_svg
from trainer.report.html import (
    class_matrix,
    confusion_lists,
    confusion_matrix,
    error_kinds,
    figure,
    group_table,
    percent,
    speaker_table,
    splits_table,
)
from trainer.report.media_choice import MediaSource
from trainer.report.page import MOST_BYTES, Page, align_smallest, describe_page, utterance_row, write_page
from trainer.report.reliability import reliability_section
from trainer.report.training import findings_html, learnt_html
from trainer.rundir.reading import read_records
from trainer.rundir.results import once_each, read_hypotheses, read_results
from trainer.scoring.alignment import align_words, count_confusions
from trainer.scoring.breakdown import FEW_UNITS, breakdowns, by_speaker, knows_speakers, wer_interval
from trainer.scoring.classes import are_timits, by_class
from trainer.scoring.metrics import METRICS, WORDS, pool, units_of
from trainer.scoring.scores import Hypothesis


def write_report(
    run_dir: Path,
    name: str,
    source: MediaSource | None,
    *,
    why_none: str = "",
    most_bytes: int | None = MOST_BYTES,
    path: Path | None = None,
) -> str:
    """Write run_dir/report.html (or `path`) from the files of a finished run. Returns a line that says where and what.

    Without a `source` the file holds text only, and `why_none` says why. With most_bytes None, all utterances have
    audio and pictures.
    """
    results = read_results(run_dir)
    splits = read_hypotheses(run_dir / "hypotheses.jsonl")
    if source is not None:
        splits = complete(splits, source)
    headline = results["headline"] if results.get("headline") in splits else next(iter(splits))
    scored = once_each(splits, headline)
    metrics = run_dir / "metrics.jsonl"
    body = _body(results, splits, headline, read_records(metrics) if metrics.exists() else [])
    body += reliability_section(results, headline)
    add_training(body, run_dir, results)
    body.insert(0, ("about", "", about(run_dir, results, headline)))
    page = Page(title=f"{name}: report", kind="Report of a speech recogniser", heading=name, body=body)
    rows = [utterance_row(split, [h]) for split, h in scored]
    path = path or run_dir / "report.html"
    media = write_page(path, page, rows, scored, [name], "-errors0", source, why_none, most_bytes)
    return describe_page(path, len(rows), media, most_bytes)


def add_training(body: list[tuple[str, str, str]], run_dir: Path, results: dict[str, Any]) -> None:
    """Put what is to be said of training behind its curves, or into a section of its own where there are none."""
    said = findings_html(results) + learnt_html(run_dir)
    if not said:
        return
    for i, (anchor, title, html) in enumerate(body):
        if anchor == "curves":
            body[i] = (anchor, title, html + said)
            return
    body.append(("curves", "Training", said))


def report_or_warn(run_dir: Path, name: str, source: MediaSource, console: Console) -> None:
    """As `write_report`, but an error is only a warning: a finished run does not fail because of its report."""
    try:
        console.say(f"report: {write_report(run_dir, name, source)}")
    except Exception as error:  # such as a full disk; the results are already written
        console.warn(f"no report ({error}). Later: {python_command()} -m scripts.report {run_dir}")


def complete(splits: dict[str, list[Hypothesis]], source: MediaSource) -> dict[str, list[Hypothesis]]:
    """`splits`, with speakers and lengths from the corpus where the run's files lack them."""
    examples = source.examples()

    def filled(split: str, h: Hypothesis) -> Hypothesis:
        if h.seconds is not None or (example := examples.get((split, h.id))) is None:
            return h
        u = example.utterance
        return replace(h, seconds=example.num_samples / SAMPLE_RATE, speaker=u.speaker, sex=u.sex, dialect=u.dialect)

    return {split: [filled(split, h) for h in hypotheses] for split, hypotheses in splits.items()}


def _body(
    results: dict[str, Any], splits: dict[str, list[Hypothesis]], headline: str, records: Sequence[dict[str, Any]]
) -> list[tuple[str, str, str]]:
    hypotheses = splits[headline]
    edits = [align_words(h.reference, h.hypothesis) for h in hypotheses]
    sections = [("figures", "", _figures(results, splits, headline))]
    if table := splits_table(results):
        sections.append(("splits", "Test sets", table))
    curves = draw_curves(records)
    if curves:
        drawn = "".join(to_svg(curve, f"{name} over training steps") for name, curve in curves.items())
        sections.append(("curves", "Training", f'<div class="curves">{drawn}</div>'))
    tables = [group_table(title, groups, headline) for title, groups in breakdowns(hypotheses).items()]
    if len(speakers := by_speaker(hypotheses)) > 1:
        tables.append(speaker_table(speakers, headline))
    if tables:
        drawn = "utterances"
        if knows_speakers(hypotheses):
            drawn = "speakers: none for a speaker alone"
        note = f"Whiskers are 95 % bootstrap intervals over each group's {drawn}. "
        note += f"Over fewer than {FEW_UNITS} they are too narrow (⚠). A click on a group leads to its utterances."
        sections.append((
            "groups", "Who and what", f'<p class="note">Of {escape(headline)}. {note}</p>'
            f'<div class="groups">{"".join(tables)}</div>',
        ))  # fmt: skip
    if confusions := count_confusions(edits):
        units = hypotheses[0].units
        smallest = [e for h in hypotheses for e in align_smallest(h)]
        what, space = ("characters", ", ␣ the space") if units == WORDS else (units.name, "")
        note = f"A click leads to the utterances. Below, {what}: rows were said, columns were written."
        classes = class_matrix(by_class(edits)) if are_timits(edits) else ""
        sections.append((
            "confusions", "Confusions",
            f'<p class="note">Of {escape(headline)}. {note} ∅ is nothing{space}.</p>'
            f"{confusion_lists(confusions, headline)}{confusion_matrix(smallest, headline, what)}{classes}",
        ))  # fmt: skip
    return sections


def _figures(results: dict[str, Any], splits: dict[str, list[Hypothesis]], headline: str) -> str:
    hypotheses = splits[headline]
    words, units = pool(h.words for h in hypotheses), hypotheses[0].units
    counted = {m: pool(h.counts(m) for h in hypotheses) for m in units.metrics if m != units.main}
    rates = [
        figure(METRICS[metric].title.capitalize(), percent(counts.rate), f"{counts.num_errors:,} errors")
        for metric, counts in counted.items()
    ]
    interval, over = wer_interval(hypotheses)
    trust = [f"{percent(interval[0])} to {percent(interval[1])}, 95 % over {over}"] if interval else []
    notes = {split: record["note"] for split, record in results.get("splits", {}).items() if record.get("note")}
    trust += [notes[headline]] if headline in notes else []
    trust += [results["scoring"]] if results.get("scoring") else []
    kinds = f"{words.substitutions} substituted, {words.insertions} inserted, {words.deletions} deleted"
    seconds = sum(h.seconds or 0.0 for h in hypotheses)
    hours = [f"{seconds / 3600:.2f} h of {headline}"] if seconds else [f"of {headline}"]
    failed = sum(bool(h.failure) for h in hypotheses)
    lines = [
        figure(units.title.capitalize(), percent(words.rate), *trust),
        figure(
            f"{units.one.capitalize()} errors",
            f"{words.num_errors:,}",
            f"of {words.num_reference:,}: {kinds}",
            bar=error_kinds(words),
        ),
        *rates,
        figure("Utterances", f"{len(hypotheses):,}", *hours, *([f"{failed} without audio"] if failed else [])),
    ]
    if "steps" in results:
        took = f"{results['train_seconds']:.0f} s, {results['audio_seconds_per_second']:.0f} audio s/s"
        lines.append(figure("Steps", f"{results['steps']:,}", took, f"scored: the {results['weights']} weights"))
    lines.append(figure("Parameters", f"{results['num_parameters'] / 1e6:.2f} M", f"on {results['device']}"))
    also = ""
    if beam := results.get("beam"):
        rates = [
            f"{escape(split)} {percent(record[units_of(record).main])}" for split, record in beam["splits"].items()
        ]
        tuned = f", weights tuned on {escape(beam['tuned_on'])}" if beam["tuned_on"] else ""
        model = escape(Path(beam["lm"]).name) if beam["lm"] else "no language model"
        also = f'<p class="note">All figures are of the best path. A beam with {model}{tuned}: {", ".join(rates)}.</p>'
    return f'<dl class="figures">{"".join(lines)}</dl>{also}'
