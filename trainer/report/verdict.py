"""Is one system better than another? Statistics on the utterances that all of them scored, and the answer in words."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from trainer.report.columns import letter
from trainer.report.html import figure, percent
from trainer.scoring.breakdown import FEW_UNITS, drawn_units, wer_interval
from trainer.scoring.mapsswe import MatchedPairs, matched_pairs
from trainer.scoring.metrics import pool
from trainer.scoring.scores import Hypothesis
from trainer.scoring.statistics import Comparison, compare, holm

Row = tuple[Hypothesis, ...]
"""What each system wrote for one utterance."""


def compare_systems(rows: Sequence[Row], a: int = 0, b: int = 1, metric: str = "") -> tuple[Comparison, str]:
    """System `b` against `a` on one split, and what the bootstrap draws: "24 speakers" or "200 utterances".

    `metric` is a key of METRICS; without one it is the main error rate of what the systems write.
    """
    units, over = drawn_units([row[b] for row in rows])
    metric = metric or rows[0][b].units.main
    pairs = []
    for unit, row in zip(units, rows, strict=True):
        before, after = row[a].counts(metric), row[b].counts(metric)
        pairs.append((unit, before.num_errors, after.num_errors, after.num_reference))
    return compare(pairs), over


def other_metrics(rows: Sequence[Row], a: int = 0, b: int = 1) -> str:
    """`CER −0.41 points (95 % interval −0.80 to −0.02, bootstrap p 0.038); SER ...`: every rate but the main one."""
    units, said = rows[0][b].units, []
    for metric in units.metrics:
        if metric != units.main:
            c, _ = compare_systems(rows, a, b, metric)
            said.append(
                f"{metric.upper()} {points(c.difference)} points (95 % interval {points(c.low)} to {points(c.high)}, "
                f"bootstrap p {shown_p(c.bootstrap_p)})"
            )
    return "; ".join(said)


def matched(rows: Sequence[Row], a: int = 0, b: int = 1) -> MatchedPairs:
    """NIST's test of system `b` against `a` on segments of the utterances: of words, or of phones."""
    return matched_pairs(
        (row[b].reference.split(), row[a].hypothesis.split(), row[b].hypothesis.split()) for row in rows
    )


def describe(c: Comparison, pairs: MatchedPairs, over: str) -> list[str]:
    """Two lines: how much B differs from A, and the tests."""
    return [
        f"{points(c.difference)} points, 95 % interval {points(c.low)} to {points(c.high)} over {over}; {relative(c)}; "
        f"effect size d {effect(c)}",
        f"MAPSSWE p {shown_p(pairs.p)} ({pairs.num_segments:,} segments, z {shown_z(pairs.z)}); paired bootstrap p "
        f"{shown_p(c.bootstrap_p)}; {c.num_better} utterances better, {c.num_worse} worse, {c.num_equal} as good",
    ]


def relative(c: Comparison) -> str:
    """`-5.2 % errors (95 % interval -9.1 to -1.0)`."""
    if not math.isfinite(c.relative):
        return "A makes no error"
    low, high = (f"{100 * value:+.1f}" for value in (c.relative_low, c.relative_high))
    interval = "" if math.isnan(c.relative_low) else f" (95 % interval {low} to {high})"
    return f"{100 * c.relative:+.1f} % errors{interval}".replace("-", "−")


def shown_z(z: float) -> str:
    """Of MAPSSWE; it has none where there are fewer than two segments, or all differ by the same number of errors.

    >>> shown_z(-1.5), shown_z(math.nan)
    ('−1.500', 'none')
    """
    return f"{z:+.3f}".replace("-", "−") if math.isfinite(z) else "none"


def effect(c: Comparison) -> str:
    return "none" if math.isnan(c.effect) else f"{c.effect:+.2f}".replace("-", "−")


def verdict(split: str, rows: Sequence[Row], c: Comparison, over: str) -> str:
    """The answer in a sentence or three, as plain text."""
    before, after = (pool(h.words for h in system) for system in zip(*rows, strict=True))
    rates = f"The {rows[0][0].units.title} is {percent(before.rate)} with A and {percent(after.rate)} with B"
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


def two_systems(rows: Sequence[Row], c: Comparison, pairs: MatchedPairs, over: str) -> str:
    """The figures of two systems on one split, as HTML."""
    a, b = (pool(h.words for h in system) for system in zip(*rows, strict=True))
    units = rows[0][0].units
    interval = f"{points(c.low)} to {points(c.high)}, 95 % over {over}"
    holds = "the interval holds 0: no difference shown" if c.low <= 0 <= c.high else "the interval excludes 0"
    if math.isnan(c.low):
        interval, holds = "too few units for an interval", "nothing is shown"
    lines = [
        figure(f"A: {units.title}", percent(a.rate), f"{a.num_errors:,} of {a.num_reference:,} {units.name}"),
        figure(f"B: {units.title}", percent(b.rate), f"{b.num_errors:,} of {b.num_reference:,} {units.name}"),
        figure("B − A, points", points(c.difference), interval, holds),
        figure(
            "Effect size d", effect(c), "mean over standard deviation of the difference", f"over {over}", relative(c)
        ),
        figure("p, MAPSSWE", shown_p(pairs.p), f"{pairs.num_segments:,} segments, z {shown_z(pairs.z)}"),
        figure("p, paired bootstrap", shown_p(c.bootstrap_p), f"{over} drawn, both systems together"),
        figure("Better with B", str(c.num_better), f"{c.num_worse} worse, {c.num_equal} as good"),
    ]
    return f'<dl class="figures">{"".join(lines)}</dl>'


def many_systems(split: str, names: Sequence[str], rows: Sequence[Row]) -> tuple[str, list[str], str]:
    """(Verdict as plain text, lines for the terminal, tables as HTML) of three or more systems on one split."""
    systems = list(zip(*rows, strict=True))
    rates = [pool(h.words for h in system).rate for system in systems]
    pairs = list(itertools.combinations(range(len(systems)), 2))
    found = {pair: compare_systems(rows, *pair) for pair in pairs}
    tested = {pair: matched(rows, *pair) for pair in pairs}
    over = found[pairs[0]][1]
    adjusted = dict(zip(pairs, holm([found[pair][0].bootstrap_p for pair in pairs]), strict=True))
    of_segments = dict(zip(pairs, holm([tested[pair].p for pair in pairs]), strict=True))
    best = min(range(len(systems)), key=lambda i: rates[i])
    beaten = [i for i in range(len(systems)) if i != best and adjusted[min(i, best), max(i, best)] < 0.05]
    open_ = [i for i in range(len(systems)) if i != best and i not in beaten]
    text = f"{split}: {letter(best)} has the lowest {rows[0][0].units.title}, {percent(rates[best])}."
    if beaten:
        text += f" It {'seems' if few_units(over) else 'is'} better than {_and(beaten)}."
    if open_:
        text += f" No difference is shown between it and {_and(open_)}."
    text += few_units(over)
    lines = []
    for (a, b), (c, _) in found.items():
        differs, tests = describe(c, tested[a, b], over)
        lines.append(f"{letter(b)} − {letter(a)}: {differs}")
        lines.append(f"  {tests}")
        lines.append(f"  {other_metrics(rows, a, b)}")
        lines.append(f"  Holm over {len(pairs)} pairs: MAPSSWE p {shown_p(of_segments[a, b])}, paired bootstrap p "
                     f"{shown_p(adjusted[a, b])}")  # fmt: skip
    tables = _system_table(names, systems, rates, over) + _pair_table(found, tested, adjusted, of_segments, over)
    return text, lines, tables


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
    units = systems[0][0].units
    heads = (units.label, f"95 % interval, over {escape(over)}", f"Errors of {units.name}")
    head = "".join(f'<th scope="col" class="number">{title}</th>' for title in heads)
    return (
        '<div class="scroll"><table class="systems"><thead><tr><th scope="col"></th><th scope="col">Run</th>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _pair_table(
    found: Mapping[tuple[int, int], tuple[Comparison, str]],
    tested: Mapping[tuple[int, int], MatchedPairs],
    adjusted: Mapping[tuple[int, int], float],
    of_segments: Mapping[tuple[int, int], float],
    over: str,
) -> str:
    def cells(pair: tuple[int, int], c: Comparison) -> Iterator[str]:
        yield points(c.difference)
        yield f"{points(c.low)} to {points(c.high)}"
        yield effect(c)
        yield f"{shown_p(adjusted[pair])} ({shown_p(c.bootstrap_p)})"
        yield f"{shown_p(of_segments[pair])} ({shown_p(tested[pair].p)})"
        yield f"{c.num_better} / {c.num_worse} / {c.num_equal}"

    rows = ""
    for (a, b), (c, _) in found.items():
        numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells((a, b), c))
        rows += f"<tr><td>{letter(b)} − {letter(a)}</td>{numbers}</tr>"
    heads = ("Points", "95 % interval", "Effect size d", "p, paired bootstrap", "p, MAPSSWE", "Better / worse / equal")
    head = "".join(f'<th scope="col" class="number">{title}</th>' for title in heads)
    note = (
        f"Every pair: the difference of the rates, drawn over {escape(over)} together. Of {len(found)} tests one may "
        "find what is not there. The p values are adjusted for it by Holm's method, the plain ones stand in brackets; "
        "the verdict goes by the adjusted bootstrap."
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
