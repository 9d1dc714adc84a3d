"""The report's static parts as HTML: figures, groups, confusions. All text is escaped. Scripts build the rest."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from trainer.scoring.alignment import Edit, ranked
from trainer.scoring.breakdown import Group
from trainer.scoring.metrics import EditCounts

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
    return f'<div class="split" aria-hidden="true">{parts}</div>'


def percent(rate: float) -> str:
    return "∞" if rate == float("inf") else f"{100 * rate:.1f} %"


def group_table(title: str, groups: Sequence[Group | None], *, is_speakers: bool = False) -> str:
    """A table with bars. None among `groups` becomes a row of dots, for groups that are left out."""
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
        name = escape(group.name)
        if is_speakers:
            name = f'<button type="button" class="link" data-speaker="{escape(group.name)}">{name}</button>'
        rows.append(
            f'<tr><td>{name}</td><td class="number">{group.num_utterances}</td>'
            f'<td class="number">{percent(group.words.rate)}</td>'
            f'<td class="bar"{hint}><span style="--w:{100 * share:.1f}%">{whisker}</span></td></tr>'
        )
    head = '<tr><th scope="col"></th><th class="number" scope="col">Utterances</th>'
    head += '<th class="number" scope="col">WER</th><th scope="col"></th></tr>'
    return f"<div><h3>By {escape(title)}</h3><table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table></div>"


def speaker_table(speakers: Sequence[Group]) -> str:
    worst, best = NUM_SPEAKERS
    shown: list[Group | None] = list(speakers)
    if len(speakers) > worst + best + 1:
        shown = [*speakers[:worst], None, *speakers[-best:]]
    return group_table(f"speaker, worst first, of {len(speakers)}", shown, is_speakers=True)


def confusion_lists(words: Counter[Edit]) -> str:
    """The most frequent word edits by kind. Each is a button that finds its utterances."""
    parts = []
    for kind, title in (("substitution", "Taken for another"), ("deletion", "Left out"), ("insertion", "Put in")):
        edits = [(edit, number) for edit, number in ranked(words) if edit.kind == kind][:NUM_CONFUSIONS]
        if not edits:
            continue
        rows = "".join(
            f'<tr><td><button type="button" class="link" data-edit="{_edit_key(edit)}">{_edit_text(edit)}</button></td>'
            f'<td class="number">{number}</td></tr>'
            for edit, number in edits
        )
        parts.append(f"<div><h3>{title}</h3><table><tbody>{rows}</tbody></table></div>")
    return f'<div class="groups">{"".join(parts)}</div>'


def _edit_key(edit: Edit) -> str:
    return escape(json.dumps([LETTERS[edit.kind], edit.reference, edit.hypothesis], ensure_ascii=False))


def _edit_text(edit: Edit) -> str:
    return " → ".join(escape(text) for text in (edit.reference, edit.hypothesis) if text)


def confusion_matrix(edits: Iterable[Edit]) -> str:
    """A table of the most confused characters: said (rows) against written (columns). "" if there is no error."""
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
        cells = "".join(_cell(said, written, counts, most, totals[said]) for written in [*names, ""])
        rows.append(f'<tr><th scope="row">{_character(said)}</th>{cells}</tr>')
    return (
        '<div class="scroll"><table class="matrix"><caption class="hidden">Characters said against characters written'
        f"</caption><thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(said: str, written: str, counts: Counter[tuple[str, str]], most: int, total: int) -> str:
    number = counts[said, written]
    if said == written:
        return '<td class="same">·</td>'
    if not number:
        return "<td></td>"
    hint = f"{_character(said)} → {_character(written)}: {number}" + (f" of {total}" if said else "")
    return f'<td style="--a:{0.15 + 0.6 * number / most:.2f}" title="{hint}">{number}</td>'


def _character(name: str) -> str:
    return {"": "∅", " ": "␣"}.get(name) or escape(name)


def to_script_json(value: Any) -> str:
    """JSON for the inside of a <script> element. No character of it can end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
