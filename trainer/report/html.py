"""The report's static parts as HTML: figures, groups, confusions. All text is escaped. Scripts build the rest."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from trainer.scoring.alignment import Edit, ranked
from trainer.scoring.breakdown import Group
from trainer.scoring.classes import NOTHING, ClassConfusion
from trainer.scoring.metrics import WORDS, EditCounts, units_of

MOST_CHARACTERS = 30
NUM_CONFUSIONS = 14
NUM_SPEAKERS = (12, 4)
"""How many of the worst and of the best speakers are shown."""
LETTERS = {"substitution": "s", "insertion": "i", "deletion": "d"}


def figure(term: str, value: str, *details: str, bar: str = "") -> str:
    """One of the figures at the top; `bar` is HTML."""
    small = "".join(f"<small>{escape(detail)}</small>" for detail in details)
    return f"<div><dt>{escape(term)}</dt><dd>{escape(value)}{bar}{small}</dd></div>"


def error_kinds(words: EditCounts) -> str:
    """A bar with the shares of substitutions, insertions and deletions. The text beside it says the same."""
    kinds = (("sub", words.substitutions), ("ins", words.insertions), ("del", words.deletions))
    parts = "".join(f'<i class="{name}" style="--n:{number}"></i>' for name, number in kinds if number)
    return f'<div class="error-kinds" aria-hidden="true">{parts}</div>'


def percent(rate: float) -> str:
    return "∞" if rate == float("inf") else f"{100 * rate:.1f} %"


def group_table(title: str, groups: Sequence[Group | None], split: str) -> str:
    """A table with bars. None among `groups` becomes a row of dots, for groups that are left out.

    Each group is a button that finds its utterances in `split`.
    """
    rates = [g.interval[1] if g.interval else g.words.rate for g in groups if g and g.words.rate != float("inf")]
    longest = max([*rates, 1e-9])
    rows = []
    for group in groups:
        if group is None:
            rows.append('<tr><td colspan="4" class="note">…</td></tr>')
            continue
        share = min(1.0, group.words.rate / longest)
        whisker, hint = "", ""
        if group.interval:
            low, high = (100 * value / longest for value in group.interval)
            whisker = f'<b style="--low:{low:.1f}%;--wide:{high - low:.1f}%"></b>'
            hint = f' title="95 % interval {percent(group.interval[0])} to {percent(group.interval[1])}"'
        rows.append(
            f'<tr><td>{group_button(group, split)}</td><td class="number">{group.num_utterances}</td>'
            f'<td class="number">{percent(group.words.rate)}</td>'
            f'<td class="bar"{hint}><span style="--w:{100 * share:.1f}%">{whisker}</span></td></tr>'
        )
    head = '<tr><th scope="col"></th><th class="number" scope="col">Utterances</th>'
    label = next((group.units for group in groups if group), WORDS).label
    head += f'<th class="number" scope="col">{label}</th><th scope="col"></th></tr>'
    return f"<div><h3>By {escape(title)}</h3><table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table></div>"


def group_button(group: Group, split: str) -> str:
    """A button with the group's name that finds its utterances, and a warning if there are few units to draw."""
    field, value = group.where
    if not isinstance(value, str):
        value = f"{round(value[0], 2)}..{round(value[1], 2)}"
    button = filter_button(f"<bdi>{escape(group.name)}</bdi>", split=split, **{field: value})
    return f'{button}<span class="few">⚠ only {group.few}</span>' if group.few else button


def filter_button(html: str, **filters: str) -> str:
    """A button that shows the utterances which pass `filters`, named as in the page's address (assets/filters.js)."""
    wanted = escape(json.dumps(filters, ensure_ascii=False))
    return f'<button type="button" class="link" data-filter="{wanted}">{html}</button>'


def speaker_table(speakers: Sequence[Group], split: str) -> str:
    worst, best = NUM_SPEAKERS
    shown: list[Group | None] = list(speakers)
    if len(speakers) > worst + best + 1:
        shown = [*speakers[:worst], None, *speakers[-best:]]
    return group_table(f"speaker, worst first, of {len(speakers)}", shown, split)


def splits_table(results: Mapping[str, Any]) -> str:
    """The figures of all splits side by side, under the names of their protocols. "" for a single split."""
    splits: dict[str, dict[str, Any]] = results.get("splits", {})
    if len(splits) < 2:
        return ""
    rows, units = list[str](), units_of(next(iter(splits.values())))
    main, others = units.main, [metric for metric in units.metrics if metric != units.main]
    for split, r in splits.items():
        interval, shown = r.get(f"{main}_interval"), "none"
        if interval:
            shown = f"{percent(interval[0])} to {percent(interval[1])}, over {r[f'{main}_interval_over']}"
        rates = "".join(f'<td class="number">{_rate(r.get(metric))}</td>' for metric in others)
        rows.append(
            f'<tr><th scope="row">{escape(r.get("protocol", split))}</th><td>{escape(split)}</td>'
            f'<td class="number">{r["num_utterances"]:,}</td><td class="number">{_rate(r[main])}</td>'
            f"<td>{escape(shown)}</td>{rates}"
            f'<td class="number">{r["num_errors"]:,} of {r[f"num_reference_{units.name}"]:,}</td>'
            f"<td>{escape(r['weights'])}</td><td>{escape(r.get('note', ''))}</td></tr>"
        )
    titles = "".join(f'<th scope="col" class="number">{metric.upper()}</th>' for metric in others)
    head = (
        '<th scope="col">Test set</th><th scope="col">Split</th><th scope="col" class="number">Utterances</th>'
        f'<th scope="col" class="number">{units.label}</th><th scope="col">95 % interval</th>{titles}'
        f'<th scope="col" class="number">Errors of {units.name}</th><th scope="col">Weights</th>'
        '<th scope="col">Note</th>'
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _rate(rate: float | None) -> str:
    return "none" if rate is None else percent(rate)


def confusion_lists(words: Counter[Edit], split: str) -> str:
    """The most frequent word edits by kind. Each is a button that finds its utterances."""
    parts = []
    for kind, title in (("substitution", "Taken for another"), ("deletion", "Left out"), ("insertion", "Put in")):
        edits = [(edit, number) for edit, number in ranked(words) if edit.kind == kind][:NUM_CONFUSIONS]
        if not edits:
            continue
        rows = "".join(
            f"<tr><td>{filter_button(_edit_text(edit), split=split, edit=_edit_key(edit))}</td>"
            f'<td class="number">{number}</td></tr>'
            for edit, number in edits
        )
        parts.append(f"<div><h3>{title}</h3><table><tbody>{rows}</tbody></table></div>")
    return f'<div class="groups">{"".join(parts)}</div>'


def _edit_key(edit: Edit) -> str:
    return json.dumps([LETTERS[edit.kind], edit.reference, edit.hypothesis], ensure_ascii=False)


def _edit_text(edit: Edit) -> str:
    return " → ".join(f"<bdi>{escape(text)}</bdi>" for text in (edit.reference, edit.hypothesis) if text)


def confusion_matrix(edits: Iterable[Edit], split: str, what: str = "characters") -> str:
    """A table of the most confused characters, or of `what` the edits are of: said (rows) against written (columns).
    "" if there is no error.

    Each count is a button that finds its utterances in `split`.
    """
    counts = Counter((edit.reference, edit.hypothesis) for edit in edits)
    errors = {pair: number for pair, number in counts.items() if pair[0] != pair[1]}
    if not errors:
        return ""
    involved: Counter[str] = Counter()
    for (said, written), number in errors.items():
        involved[said] += number
        involved[written] += number
    del involved[""]
    names = sorted(name for name, _ in sorted(involved.items(), key=lambda i: (-i[1], i[0]))[:MOST_CHARACTERS])
    most = max(errors.values())
    totals: Counter[str] = Counter()
    for (said, _), number in counts.items():
        totals[said] += number
    head = "".join(f'<th scope="col">{_character(name)}</th>' for name in [*names, ""])
    rows = []
    for said in [*names, ""]:
        cells = "".join(_cell(said, written, counts, most, totals[said], split) for written in [*names, ""])
        rows.append(f'<tr><th scope="row">{_character(said)}</th>{cells}</tr>')
    return (
        '<div class="scroll"><table class="matrix"><caption class="hidden">'
        f"{what.capitalize()} said against {what} written</caption>"
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def class_matrix(classes: ClassConfusion) -> str:
    """A table of the classes of phones: said (rows) against written (columns), and how many of a class were wrong."""
    names = [*classes.names, NOTHING]
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in [*names, "wrong phone"])
    rows = []
    for said in names:
        total, wrong = classes.num_reference(said), classes.wrong_rate(said)
        cells = ""
        for written in names:
            number = classes.counts[said, written]
            is_error = number and said not in (written, NOTHING)
            shade = f' style="--a:{min(0.75, 0.15 + 3 * number / total):.2f}"' if is_error else ""
            share = f' title="{percent(number / total)} of {total:,}"' if total and said != NOTHING else ""
            cells += f"<td{shade}{share}>{f'{number:,}' if number else ''}</td>"
        last = "" if said == NOTHING or wrong is None else percent(wrong)
        rows.append(f'<tr><th scope="row">{escape(said)}</th>{cells}<td>{last}</td></tr>')
    return (
        "<h3>By phone class</h3>"
        f'<p class="note">Rows were said, columns were written; {NOTHING}: put in or left out. On the diagonal are '
        "phones of the same class, right or wrong; the last column is the share that was left out or taken for another "
        "phone, of the same class too.</p>"
        '<div class="scroll"><table class="matrix classes"><caption class="hidden">Phone classes said against phone '
        f"classes written</caption><thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(said: str, written: str, counts: Counter[tuple[str, str]], most: int, total: int, split: str) -> str:
    number = counts[said, written]
    if said == written:
        return '<td class="same">·</td>'
    if not number:
        return "<td></td>"
    hint = f"{_character(said)} → {_character(written)}: {number}" + (f" of {total}" if said else "")
    button = filter_button(str(number), split=split, characters=json.dumps([said, written], ensure_ascii=False))
    return f'<td style="--a:{0.15 + 0.6 * number / most:.2f}" title="{hint}">{button}</td>'


def _character(name: str) -> str:
    if name and unicodedata.category(name[0]).startswith("M"):
        return "◌" + escape(name)  # a combining mark needs something to stand on
    return {"": "∅", " ": "␣"}.get(name) or escape(name)


def to_script_json(value: Any) -> str:
    """JSON for the inside of a <script> element. No character of it can end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
