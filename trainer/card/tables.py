"""The figures of the model card as Markdown tables: training, splits, groups of utterances, confusions."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from trainer.card.text import format_interval, format_loss, format_rate
from trainer.scoring.alignment import Edit, align_characters, align_words, count_confusions, ranked
from trainer.scoring.breakdown import FEW_UNITS, Group, breakdowns, by_speaker, knows_speakers
from trainer.scoring.classes import NOTHING, are_timits, by_class
from trainer.scoring.metrics import METRICS, WORDS, units_of
from trainer.scoring.scores import Hypothesis

NUM_SPEAKERS_SHOWN = 5
NUM_CONFUSIONS_SHOWN = 12


def training_table(records: Sequence[dict[str, Any]]) -> str:
    """The reference card's table: the last logged training loss beside each evaluation."""
    main = next((m for m in METRICS for record in records if f"eval/{m}" in record), "wer")
    rows = [f"| Training Loss | Epoch | Step | Validation Loss | {main.capitalize()} |", "|:---:" * 5 + "|"]
    shown = "No log"
    for record in records:
        shown = format_loss(record["train/loss"]) if "train/loss" in record else shown
        if f"eval/{main}" in record:
            scores = f"{format_loss(record['eval/loss'])} | {format_rate(record[f'eval/{main}'])}"
            rows.append(f"| {shown} | {record['epoch']:.2f} | {record['step']} | {scores} |")
    return "\n".join(rows)


def sample_sections(hypotheses: Sequence[Hypothesis], split: str, *, has_report: bool) -> list[str]:
    """Three transcripts: those with the least, the middle and the highest error rate. Empty without utterances.

    `has_report` is whether the run leaves a report, which lies one folder above the card.
    """
    ordered = sorted(hypotheses, key=lambda h: (h.words.rate, h.id))
    if not ordered:
        return []
    units = ordered[0].units
    rows = [f"| | Reference | Written | {units.one.capitalize()} errors |", "|---|---|---|---|"]
    places = {0: "best", len(ordered) // 2: "middle", len(ordered) - 1: "worst"}
    for place, name in places.items():
        h = ordered[place]
        reference, hypothesis = (escape(text) or "(nothing)" for text in (h.reference, h.hypothesis))
        rows.append(f"| {name} | {reference} | {hypothesis} | {h.words.num_errors} of {h.words.num_reference} |")
    note = f"Of the {len(ordered)} utterances of {split}, by {units.title}."
    if has_report:
        note += (
            " All of them can be read, and most can be heard, in the [report](../report.html) in the run's folder. The "
            "report is not uploaded with the model."
        )
    return ["### Sample transcripts", note, "\n".join(rows)]


def splits_table(results: dict[str, Any]) -> str:
    units = units_of(results)
    others = [metric for metric in units.metrics if metric != units.main]
    protocols = any("protocol" in r for r in results["splits"].values())
    head = [
        "Split", *(["Protocol"] if protocols else []), "Utterances", units.label, "95 % interval",
        *(m.upper() for m in others), "Errors", units.name.capitalize(), "Weights",
    ]  # fmt: skip
    rows = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    over, few = [], False
    for split, r in results["splits"].items():
        note = f" ({r['note']})" if "note" in r else ""
        interval = format_interval(r.get(f"{units.main}_interval")) or "none"
        rates = " | ".join(format_rate(r.get(metric)) for metric in others)
        figures = f"{format_rate(r[units.main])} | {interval} | {rates} | {r['num_errors']}"
        counts = f"{r[f'num_reference_{units.name}']} | {r['weights']}"
        name = f"{split}{note}" + (f" | {r.get('protocol', 'none')}" if protocols else "")
        rows.append(f"| {name} | {r['num_utterances']} | {figures} | {counts} |")
        if r.get(f"{units.main}_interval"):
            drawn = r[f"{units.main}_interval_over"]
            over.append(f"{drawn} of {split}")
            few = few or int(drawn.split()[0]) < FEW_UNITS
    if rule := results.get("scoring"):
        rows.append(f"\n{units.label}: {rule}.")
    if not over:
        return "\n".join(rows)
    return "\n".join(rows) + (
        f"\n\nIntervals: percentiles of 10,000 bootstrap samples that draw {', '.join(over)}, counts pooled in each."
        + (" Utterances are drawn where speakers are not all known or there is one alone: the truth is wider."
           if any("utterances" in what for what in over) else "")
        + (f" Of fewer than {FEW_UNITS} the bootstrap knows too little: take such an interval as too narrow."
           if few else "")
    )  # fmt: skip


def group_sections(hypotheses: Sequence[Hypothesis], split: str) -> list[str]:
    """Tables by sex, dialect region, length and speaker, where the corpus knows these."""
    sections, found = [], breakdowns(hypotheses)
    for title, groups in found.items():
        sections.append(f"#### {split} by {title}\n\n" + _group_table(groups))
    speakers = by_speaker(hypotheses)
    if len(speakers) > 1:
        if len(speakers) > 2 * NUM_SPEAKERS_SHOWN:
            shown = [*speakers[:NUM_SPEAKERS_SHOWN], None, *speakers[-NUM_SPEAKERS_SHOWN:]]
        else:
            shown = list(speakers)
        sections.append(f"#### {split} by speaker, worst first\n\n" + _group_table(shown, interval=False))
    if not sections:
        return []
    note = f"Of {split}; intervals as above, over each group's utterances."
    if knows_speakers(hypotheses):
        note = f"Of {split}; intervals as above, over each group's speakers: none for a speaker alone"
        few = any(g.interval and g.num_speakers < FEW_UNITS for groups in found.values() for g in groups)
        note += f", too narrow of fewer than {FEW_UNITS}." if few else "."
    note += " Many groups are looked at: expect one in twenty to stand out by chance."
    return ["### Results by group", note, *sections]


def _group_table(groups: Sequence[Group | None], *, interval: bool = True) -> str:
    units = next((group.units for group in groups if group is not None), WORDS)
    head = ["Group", "Utterances", "Speakers", units.name.capitalize(), units.label, "95 % interval", "CER"]
    rows = []
    for group in groups:
        if group is None:
            rows.append(["..."] * len(head))
            continue
        rows.append([
            escape(group.name), str(group.num_utterances), str(group.num_speakers or "not known"),
            str(group.words.num_reference), format_rate(_finite(group.words.rate)),
            format_interval(group.interval) or "none", format_rate(_finite(group.characters.rate)),
        ])  # fmt: skip
    if not interval:
        rows, head = [row[:5] + row[6:] for row in rows], head[:5] + head[6:]
    if "cer" not in units.metrics:
        rows, head = [row[:-1] for row in rows], head[:-1]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def confusion_sections(hypotheses: Sequence[Hypothesis], split: str) -> list[str]:
    """The most frequent edits of words and characters, or of phones; TIMIT's by classes too."""
    if hypotheses and hypotheses[0].units != WORDS:
        return _unit_confusions(hypotheses, split)
    words = count_confusions(align_words(h.reference, h.hypothesis) for h in hypotheses)
    characters = count_confusions(align_characters(h.reference, h.hypothesis) for h in hypotheses)
    if not words:
        return []
    return [
        "### Most frequent confusions",
        f"In {split}, words and characters (`_` is the space between words):",
        _confusion_table(words, characters),
    ]


def _confusion_table(words: Counter[Edit], characters: Counter[Edit]) -> str:
    columns = [[f"{_edit(edit)} | {n}" for edit, n in ranked(c)[:NUM_CONFUSIONS_SHOWN]] for c in (words, characters)]
    height = max(map(len, columns))
    left, right = ([*column, *[" | "] * (height - len(column))] for column in columns)
    rows = ["| Words | Times | Characters | Times |", "|---|---|---|---|"]
    return "\n".join(rows + [f"| {a} | {b} |" for a, b in zip(left, right, strict=True)])


def _unit_confusions(hypotheses: Sequence[Hypothesis], split: str) -> list[str]:
    alignments = [align_words(h.reference, h.hypothesis) for h in hypotheses]
    confused = ranked(count_confusions(alignments))[:NUM_CONFUSIONS_SHOWN]
    if not confused:
        return []
    units = hypotheses[0].units
    listed = [f"| {units.one.capitalize()} | Times |", "|---|---|", *(f"| {_edit(e)} | {n} |" for e, n in confused)]
    listing = ["### Most frequent confusions", f"In {split}, {units.name}:", "\n".join(listed)]
    return [*listing, *_classes(alignments)] if are_timits(alignments) else listing


def _classes(alignments: Sequence[Sequence[Edit]]) -> list[str]:
    classes = by_class(alignments)
    shown = [*classes.names, NOTHING]
    rows = [["Class", *shown, "Phones", "Wrong phone"], ["---"] * (len(shown) + 3)]
    for name in (*classes.names, NOTHING):
        counts = [classes.counts[name, other] for other in shown]
        wrong = "" if name == NOTHING else format_rate(classes.wrong_rate(name))
        rows.append([name, *map(str, counts), "" if name == NOTHING else str(classes.num_reference(name)), wrong])
    return [
        "#### Confusion by phone class",
        f"Rows: the class that was spoken; columns: the class that was written; {NOTHING}: inserted or deleted. The "
        "last column is the share of a class' phones that were not recognised as they are.",
        "\n".join("| " + " | ".join(row) + " |" for row in rows),
    ]


def _edit(edit: Edit) -> str:
    reference, hypothesis = (escape(text.replace(" ", "_")) for text in (edit.reference, edit.hypothesis))
    return f"{reference or '(nothing)'} → {hypothesis or '(nothing)'}"


def _finite(rate: float) -> float | None:
    return None if rate == float("inf") else rate


def escape(text: str) -> str:
    """`text` for a cell of a Markdown table: markup and the cell's end are escaped, and it is one line.

    >>> escape("<b>a|b_c")
    '&lt;b&gt;a&#124;b\\\\_c'
    """
    inert = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_\[\]{}#~])", r"\\\1", inert).replace("|", "&#124;")
