"""Where compared runs differ: in their options, in their groups of utterances, in their words. All as HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from trainer.config.as_json import PLACE, flatten, read_config
from trainer.errors import ConfigError
from trainer.report.columns import letter
from trainer.report.html import filter_button, group_button, percent
from trainer.report.verdict import Row, compare_systems, points
from trainer.scoring.alignment import align_words
from trainer.scoring.breakdown import Group, breakdowns, by_speaker
from trainer.scoring.metrics import pool

NUM_WORDS, NUM_SPEAKERS = 14, 8


def options_that_differ(runs: Sequence[Path]) -> list[tuple[str, list[str]]]:
    """(Option, its value in each run) of all in which the runs differ; ConfigError where they are not known."""
    options = [_options(run / "config.json") for run in runs]
    names = [name for name in dict.fromkeys(name for known in options for name in known) if name not in PLACE]
    rows = [(name, [_shown(known, name) for known in options]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def options_table(runs: Sequence[Path]) -> str:
    """A table of the options in which the runs differ. A line of text if they are alike or not known."""
    try:
        rows = options_that_differ(runs)
    except ConfigError as error:
        return f'<p class="note">Options are not known: {escape(str(error))}</p>'
    if not rows:
        return '<p class="note">All options are the same.</p>'
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{escape(value)}</td>" for value in values)}</tr>'
        for name, values in rows
    )
    return _table(["Option", *(letter(i) for i in range(len(runs)))], body)


def _options(path: Path) -> dict[str, Any]:
    config = read_config(path, lenient=True)
    return {"preset": config.preset, **flatten(config)}


def _shown(options: Mapping[str, Any], name: str) -> str:
    if name not in options:  # of another kind of corpus
        return "–"
    value = options[name]
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def groups_table(split: str, rows: Sequence[Row]) -> str:
    """A table of every group with the rate of each system; of two systems also the difference. "" without groups."""
    last = [row[-1] for row in rows]
    found: list[tuple[str, Group]] = [(title, g) for title, groups in breakdowns(last).items() for g in groups]
    speakers = by_speaker(last)
    if len(speakers) > 1:
        spread = {g.name: _spread(_rates(_rows_of(g, rows))) for g in speakers}
        speakers.sort(key=lambda g: (-spread[g.name], g.name))
        title = "speaker" if len(speakers) <= NUM_SPEAKERS else f"speaker, the {NUM_SPEAKERS} that differ most"
        found += [(title, g) for g in speakers[:NUM_SPEAKERS]]
    if not found:
        return ""
    body, before = [], ""
    num_systems = len(rows[0])
    for title, group in found:
        if title != before:
            body.append(f'<tr><th scope="rowgroup" colspan="{num_systems + 4}">By {escape(title)}</th></tr>')
            before = title
        of_group = _rows_of(group, rows)
        rates = "".join(f'<td class="number">{percent(rate)}</td>' for rate in _rates(of_group))
        difference = ""
        if num_systems == 2:
            c, _ = compare_systems(of_group)
            interval = f"{points(c.low)} to {points(c.high)}" if group.interval and c.low == c.low else ""
            difference = f'<td class="number">{points(c.difference)}</td><td class="number">{interval}</td>'
        body.append(
            f'<tr><td>{group_button(group, split)}</td><td class="number">{group.num_utterances}</td>'
            f"{rates}{difference}</tr>"
        )
    heads = ["", "Utterances", *(f"{last[0].units.label} {letter(i)}" for i in range(num_systems))]
    return _table([*heads, *(["B − A, points", "95 % interval"] if num_systems == 2 else [])], "".join(body), first=1)


def _rows_of(group: Group, rows: Sequence[Row]) -> list[Row]:
    field, value = group.where
    if isinstance(value, str):
        return [row for row in rows if getattr(row[-1], field) == value]
    return [row for row in rows if row[-1].seconds and value[0] <= row[-1].seconds <= value[1]]


def _rates(rows: Sequence[Row]) -> list[float]:
    return [pool(h.words for h in system).rate for system in zip(*rows, strict=True)]


def _spread(rates: Sequence[float]) -> float:
    return max(rates) - min(rates) if max(rates) < float("inf") else float("inf")


def gained_and_lost(split: str, rows: Sequence[Row]) -> str:
    """Words of the reference that B has right and A has not, and the other way round. "" if there are none."""
    gained, lost = Counter[str](), Counter[str]()
    for a, b in rows:
        for word, with_a, with_b in zip(a.reference.split(), _are_right(a), _are_right(b), strict=True):
            if with_a != with_b:
                (gained if with_b else lost)[word] += 1
    parts = []
    for title, words in (("Gained: right with B alone", gained), ("Lost: right with A alone", lost)):
        shown = sorted(words.items(), key=lambda item: (-item[1], item[0]))[:NUM_WORDS]
        body = "".join(
            f"<tr><td>{filter_button(f'<bdi>{escape(word)}</bdi>', split=split, find=word, whole='1')}</td>"
            f'<td class="number">{number}</td></tr>'
            for word, number in shown
        )
        if body:
            parts.append(f"<div><h3>{title} ({words.total():,})</h3><table><tbody>{body}</tbody></table></div>")
    return f'<div class="groups">{"".join(parts)}</div>' if parts else ""


def _are_right(h: Any) -> list[bool]:
    """For each word of the reference, whether the hypothesis has it."""
    return [edit.kind == "hit" for edit in align_words(h.reference, h.hypothesis) if edit.kind != "insertion"]


def _table(heads: Sequence[str], body: str, *, first: int = 99) -> str:
    """A table that scrolls in its own box. Columns from `first` on hold numbers."""
    head = "".join(
        f'<th scope="col"{" class=number" if i >= first else ""}>{escape(title)}</th>' for i, title in enumerate(heads)
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
