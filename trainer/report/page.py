"""One self-contained HTML file: static parts, a table of utterances, and as much audio as fits.

The texts and alignments of all utterances are always in the file. Audio, spectrograms and posteriors fill what is left
of MOST_BYTES. The page fetches nothing: its policy forbids it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from trainer.report import shell
from trainer.report.columns import columns
from trainer.report.html import LETTERS, to_script_json
from trainer.report.media_choice import Media, MediaSource, Scored, collect_media
from trainer.rundir.disk import write_text
from trainer.scoring.alignment import Edit, align_characters, align_words
from trainer.scoring.metrics import WORDS
from trainer.scoring.scores import Hypothesis

MOST_BYTES = 15_000_000
_NAMES = ("elements", "base", "words", "figure", "player", "filters", "ranges", "utterance", "table", "start")
SCRIPTS = (("trainer.report", _NAMES),)
STYLES = (("trainer.report", ("report", "utterance")),)


@dataclass(frozen=True)
class Page:
    """The static parts of a page. `body` is HTML, the others are plain text."""

    title: str
    kind: str
    heading: str
    body: list[tuple[str, str, str]]
    """(Anchor, title, HTML) of each section. A section without a title has no link in the navigation."""


def write_page(
    path: Path,
    page: Page,
    rows: list[dict[str, Any]],
    scored: Sequence[Scored],
    systems: Sequence[str],
    sort: str,
    source: MediaSource | None,
    why_none: str,
    most_bytes: int | None,
) -> Media:
    """Write a page with one row for each of `scored`, and as much audio as fits. Returns the media that it holds."""
    sections = [
        f'<section id="{anchor}">{f"<h2>{escape(title)}</h2>" if title else ""}{html}</section>'
        for anchor, title, html in page.body
    ]
    links = [(anchor, title) for anchor, title, _ in page.body if title] + [("utterances", "Utterances")]
    fixed = {
        "head": shell.head(page.title, STYLES),
        "kind": escape(page.kind),
        "heading": escape(page.heading),
        "navigation": "".join(f'<a href="#{anchor}">{escape(title)}</a>' for anchor, title in links),
        "body": "\n".join(sections),
        "scripts": shell.scripts(SCRIPTS),
    }
    counted = scored[0][1].units if scored else WORDS
    template, units = shell.template("trainer.report", "report"), []
    media = Media(note=why_none or "This file holds text only.")
    used = sum(len(text.encode()) for text in fixed.values()) + len(to_script_json(rows).encode()) + 20 * len(rows)
    used += 10_000  # the template, and a margin
    if source is not None:
        media = collect_media(source, scored, None if most_bytes is None else most_bytes - used)
        units = list(next(iter(source.eval_sets.values())).vocab.tokens)
    for row, (split, hypothesis) in zip(rows, scored, strict=True):
        row["media"] = media.numbers.get((split, hypothesis.id))
    if most_bytes is not None and used > most_bytes:
        limit = f"{most_bytes / 1e6:g} MB"
        media.note += f" Text and alignment alone take {used / 1e6:.1f} MB, more than the {limit} allowed."
    told = [{"key": c.key, "name": c.title, "kind": c.kind, "isChoice": c.is_choice, "isRange": c.is_range}
            for c in columns(len(systems), counted)]  # fmt: skip
    content = {
        "counted": counted.name,
        "rate": counted.label,
        "systems": list(systems),
        "columns": told,
        "sort": sort,
        "units": units,
        "rows": rows,
    }
    write_text(path, template.substitute(
        fixed, data=to_script_json(content), media=shell.media(media.elements), media_note=escape(media.note)
    ))  # fmt: skip
    return media


def align_smallest(h: Hypothesis) -> list[Edit]:
    """The edits of what the confusion matrix shows: characters, or units with spaces between them."""
    return (align_characters if h.units == WORDS else align_words)(h.reference, h.hypothesis)


def describe_page(path: Path, num_utterances: int, media: Media, most_bytes: int | None) -> str:
    """`report.html: 192 utterances, 192 to hear and see, 5.7 MB`, and a note if the text alone is over the limit."""
    size = path.stat().st_size
    line = f"{path}: {num_utterances} utterances, {len(media.elements)} to hear and see, {size / 1e6:.1f} MB"
    if most_bytes is not None and size > most_bytes:
        line += f", over the limit of {most_bytes / 1e6:g} MB by its text alone"
    return line


def utterance_row(split: str, systems: Sequence[Hypothesis]) -> dict[str, Any]:
    """The table's row of one utterance. `systems` are its hypotheses; the last one supplies speaker, length, ..."""
    h = systems[-1]
    return {
        "id": h.id,
        "split": split,
        "speaker": h.speaker,
        "words": h.words.num_reference,
        "errors": [s.words.num_errors for s in systems],
        "cells": [
            round(value, 2) if isinstance(value, float) else value
            for value in (column.value(split, systems) for column in columns(len(systems), h.units))
        ],
        "edits": [
            [e.reference if e.kind == "hit" else [LETTERS[e.kind], e.reference, e.hypothesis] for e in edits]
            for edits in (align_words(s.reference, s.hypothesis) for s in systems)
        ],
        "characters": sorted(
            {(e.reference, e.hypothesis) for s in systems for e in align_smallest(s) if e.kind != "hit"}
        ),
        "text": " ".join([h.reference, *(s.hypothesis for s in systems)]),
        "failure": next((s.failure for s in systems if s.failure), ""),
    }
