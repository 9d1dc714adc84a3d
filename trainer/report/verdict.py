"""Is one system better than another? Statistics on the utterances that all of them scored, and the answer in words."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from html import escape

from trainer.report.columns import letter
from trainer.report.html import figure, percent
from trainer.scoring.breakdown import FEW_UNITS, drawn_units, wer_interval
from trainer.scoring.metrics import pool
from trainer.scoring.scores import Hypothesis
from trainer.scoring.statistics import Comparison, compare, holm

Row = tuple[Hypothesis, ...]
"""What each system wrote for one utterance."""


def compare_systems(rows: Sequence[Row], a: int = 0, b: int = 1) -> tuple[Comparison, str]:
    """System `b` against `a` on one split, and what the bootstrap draws: "24 speakers" or "200 utterances"."""
    units, over = drawn_units([row[b] for row in rows])
    return compare([
        (unit, row[a].words.num_errors, row[b].words.num_errors, row[b].words.num_reference)
        for unit, row in zip(units, rows, strict=True)
    ]), over  # fmt: skip


def describe(rows: Sequence[Row], c: Comparison, over: str) -> str:
    """`WER 9.2 % -> 8.1 % (-1.1 points, 95 % interval -2.0 to -0.3 over 24 speakers; p 0.012, ...)`."""
    before, after = (pool(h.words for h in system).rate for system in zip(*rows, strict=True))
    return (
        f"WER {percent(before)} -> {percent(after)} ({points(c.difference)} points, 95 % interval {points(c.low)} to "
        f"{points(c.high)} over {over}; paired bootstrap p {shown_p(c.bootstrap_p)}, matched pairs p "
        f"{shown_p(c.matched_pairs_p)}); {c.num_better} utterances better, {c.num_worse} worse, {c.num_equal} as good"
    )


def verdict(split: str, rows: Sequence[Row], c: Comparison, over: str) -> str:
    """The answer in a sentence or three, as plain text."""
    before, after = (pool(h.words for h in system) for system in zip(*rows, strict=True))
    rates = f"The word error rate is {percent(before.rate)} with A and {percent(after.rate)} with B"
    if math.isnan(c.low):
        return f"{split}: nothing can be said. {rates}, but {over} are too few for an interval."
    interval = f"the 95 % interval of the difference is {points(c.low)} to {points(c.high)} points, over {over}"
    if c.low <= 0 <= c.high:
        text = f"{split}: no difference is shown. {rates}; {interval}, and holds 0."
    else:
        better, worse = ("B", "A") if c.difference < 0 else ("A", "B")
        more, fewer = max(before.num_errors, after.num_errors), min(before.num_errors, after.num_errors)
        share = f", {100 * (more - fewer) / more:.0f} % fewer errors" if more else ""
        seems = "seems better" if few_units(over) else "is better"
        text = f"{split}: {better} {seems} than {worse}{share}. {rates}; {interval}, and excludes 0."
    return text + few_units(over)


def few_units(over: str) -> str:
    """A warning, if the bootstrap draws few units: of few it knows too little."""
    if int(over.split()[0]) >= FEW_UNITS:
        return ""
    return f" Fewer than {FEW_UNITS} units are drawn: the interval is too narrow, so do not rely on it."


def two_systems(rows: Sequence[Row], c: Comparison, over: str) -> str:
    """The figures of two systems on one split, as HTML."""
    a, b = (pool(h.words for h in system) for system in zip(*rows, strict=True))
    interval = f"{points(c.low)} to {points(c.high)}, 95 % over {over}"
    holds = "the interval holds 0: no difference shown" if c.low <= 0 <= c.high else "the interval excludes 0"
    if math.isnan(c.low):
        interval, holds = "too few units for an interval", "nothing is shown"
    lines = [
        figure("A: word error rate", percent(a.rate), f"{a.num_errors:,} of {a.num_reference:,} words"),
        figure("B: word error rate", percent(b.rate), f"{b.num_errors:,} of {b.num_reference:,} words"),
        figure("B − A, points", points(c.difference), interval, holds),
        figure("p, paired bootstrap", shown_p(c.bootstrap_p), f"{over} drawn, both systems together"),
        figure("p, matched pairs", shown_p(c.matched_pairs_p), "normal test on the utterances' differences"),
        figure("Better with B", str(c.num_better), f"{c.num_worse} worse, {c.num_equal} as good"),
    ]
    return f'<dl class="figures">{"".join(lines)}</dl>'


def many_systems(split: str, names: Sequence[str], rows: Sequence[Row]) -> tuple[str, str, str]:
    """(Verdict as plain text, a line for the terminal, tables as HTML) of three or more systems on one split."""
    systems = list(zip(*rows, strict=True))
    rates = [pool(h.words for h in system).rate for system in systems]
    pairs = list(itertools.combinations(range(len(systems)), 2))
    found = {pair: compare_systems(rows, *pair) for pair in pairs}
    over = found[pairs[0]][1]
    adjusted = dict(zip(pairs, holm([found[pair][0].bootstrap_p for pair in pairs]), strict=True))
    best = min(range(len(systems)), key=lambda i: rates[i])
    beaten = [i for i in range(len(systems)) if i != best and adjusted[min(i, best), max(i, best)] < 0.05]
    open_ = [i for i in range(len(systems)) if i != best and i not in beaten]
    text = f"{split}: {letter(best)} has the lowest word error rate, {percent(rates[best])}."
    if beaten:
        text += f" It {'seems' if few_units(over) else 'is'} better than {_and(beaten)}."
    if open_:
        text += f" No difference is shown between it and {_and(open_)}."
    text += few_units(over)
    line = f"{split}: " + ", ".join(f"{letter(i)} {percent(rate)}" for i, rate in enumerate(rates)) + "; "
    line += text.removeprefix(f"{split}: ")
    return text, line, _system_table(names, systems, rates, over) + _pair_table(len(systems), found, adjusted, over)


def _and(systems: Sequence[int]) -> str:
    letters = [letter(i) for i in systems]
    return letters[0] if len(letters) == 1 else f"{', '.join(letters[:-1])} and {letters[-1]}"


def _system_table(names: Sequence[str], systems: Sequence[Row], rates: Sequence[float], over: str) -> str:
    rows = []
    for i in sorted(range(len(systems)), key=lambda i: rates[i]):
        words, (interval, _) = pool(h.words for h in systems[i]), wer_interval(systems[i])
        shown = f"{percent(interval[0])} to {percent(interval[1])}" if interval else "none"
        rows.append(
            f"<tr><td>{letter(i)}</td><td><bdi>{escape(names[i])}</bdi></td>"
            f'<td class="number">{percent(rates[i])}</td><td class="number">{shown}</td>'
            f'<td class="number">{words.num_errors:,} of {words.num_reference:,}</td></tr>'
        )
    return (
        '<div class="scroll"><table class="systems"><thead><tr><th scope="col"></th><th scope="col">Run</th>'
        f'<th scope="col" class="number">WER</th><th scope="col" class="number">95 % interval, over {escape(over)}</th>'
        f'<th scope="col" class="number">Errors of words</th></tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _pair_table(
    number: int, found: dict[tuple[int, int], tuple[Comparison, str]], adjusted: dict[tuple[int, int], float], over: str
) -> str:
    rows = "".join(
        f"<tr><td>{letter(b)} − {letter(a)}</td>"
        f'<td class="number">{points(c.difference)}</td><td class="number">{points(c.low)} to {points(c.high)}</td>'
        f'<td class="number">{shown_p(adjusted[a, b])}</td><td class="number">{shown_p(c.bootstrap_p)}</td>'
        f'<td class="number">{shown_p(c.matched_pairs_p)}</td>'
        f'<td class="number">{c.num_better} / {c.num_worse} / {c.num_equal}</td></tr>'
        for (a, b), (c, _) in found.items()
    )
    heads = ("Points", "95 % interval", "p, Holm", "p, paired bootstrap", "p, matched pairs", "Better / worse / equal")
    head = "".join(f'<th scope="col" class="number">{title}</th>' for title in heads)
    note = (
        f"Every pair: the difference of the rates, drawn over {escape(over)} together. Of {len(found)} tests one may "
        "find what is not there; Holm's p values allow for it, and the verdict goes by them."
    )
    return (
        f'<h3>Pair by pair</h3><p class="note">{note}</p><div class="scroll"><table><thead><tr>'
        f'<th scope="col">Pair</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def points(rate: float) -> str:
    """A difference of rates in percentage points, with its sign."""
    return "none" if not math.isfinite(rate) else f"{100 * rate:+.2f}".replace("-", "−")


def shown_p(value: float) -> str:
    return "none" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"
