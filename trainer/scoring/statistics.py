"""Intervals for an error rate and for the difference between two systems, by bootstrap; Student's t for repeated runs.

The errors of one speaker's utterances depend on one another. So the bootstrap draws speakers (Bisani and Ney 2004); an
interval over utterances would be too narrow. Every draw sums its counts and divides once, as the rate itself does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from data.randomness import derive_seed

NUM_RESAMPLES = 10_000
LEVEL = 0.95
MOST_DRAWS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Comparison:
    """System B against system A on the same references; differences are B minus A, so a negative one is a gain."""

    difference: float
    """Difference of the pooled error rates."""
    low: float
    high: float
    """`low` and `high` are the 95 % bootstrap interval of the difference."""
    bootstrap_p: float
    """Two-sided p value, from the share of draws whose difference has the other sign."""
    relative: float
    """Errors of B over errors of A, minus 1: -0.1 is a tenth fewer errors. NaN where A makes none."""
    relative_low: float
    relative_high: float
    """`relative_low` and `relative_high` are its 95 % bootstrap interval."""
    effect: float
    """Cohen's d for pairs: the mean difference of the units' rates over its standard deviation. NaN below two units."""
    num_better: int
    num_worse: int
    num_equal: int
    """Utterances on which B makes fewer, more, or as many errors as A."""


def bootstrap_interval(counts: Sequence[tuple[int, int]], *, seed: int = 0) -> tuple[float, float] | None:
    """The percentile interval of the pooled rate. `counts` are (errors, reference words) of each unit to draw.

    None for fewer than two units, or without any reference word.
    """
    if len(counts) < 2 or not any(words for _, words in counts):
        return None
    errors, words = torch.tensor(counts, dtype=torch.float64).T
    rates = torch.cat([_ratio(errors[i].sum(1), words[i].sum(1)) for i in _draws(len(counts), seed)])
    return _percentiles(rates[rates.isfinite()])


def compare(pairs: Sequence[tuple[str, int, int, int]], *, seed: int = 0) -> Comparison:
    """Compare two systems. `pairs` are (unit, errors of A, errors of B, reference words) of each utterance."""
    units: dict[str, list[int]] = {}
    for unit, *numbers in pairs:
        units[unit] = [a + b for a, b in zip(units.get(unit, [0, 0, 0]), numbers, strict=True)]
    a, b, words = torch.tensor(list(units.values()), dtype=torch.float64).T
    gains = b - a
    drawn = [(_ratio(gains[i].sum(1), words[i].sum(1)), _ratio(gains[i].sum(1), a[i].sum(1)))
             for i in _draws(len(units), seed)]  # fmt: skip
    differences, relatives = (torch.cat(of) for of in zip(*drawn, strict=True))
    differences, relatives = differences[differences.isfinite()], relatives[relatives.isfinite()]
    nothing = (math.nan, math.nan)
    low, high = _percentiles(differences) if len(units) > 1 and len(differences) else nothing
    relative_low, relative_high = _percentiles(relatives) if len(units) > 1 and len(relatives) else nothing
    by_utterance = [after - before for _, before, after, _ in pairs]
    return Comparison(
        difference=float(_ratio(gains.sum(), words.sum())),
        low=low,
        high=high,
        bootstrap_p=_two_sided(differences) if len(units) > 1 else math.nan,
        relative=float(_ratio(gains.sum(), a.sum())),
        relative_low=relative_low,
        relative_high=relative_high,
        effect=_effect(gains[words > 0] / words[words > 0]),
        num_better=sum(d < 0 for d in by_utterance),
        num_worse=sum(d > 0 for d in by_utterance),
        num_equal=sum(d == 0 for d in by_utterance),
    )


def _effect(differences: Tensor) -> float:
    """The mean over the standard deviation (n - 1); 0 where nothing differs, infinite where all differ alike."""
    if len(differences) < 2:
        return math.nan
    mean, deviation = float(differences.mean()), float(differences.std())
    if deviation == 0:
        return math.copysign(math.inf, mean) if mean else 0.0
    return mean / deviation


@dataclass(frozen=True)
class Spread:
    """A figure of several runs that differ in their seed alone."""

    n: int
    mean: float
    deviation: float
    """Standard deviation with n - 1; NaN for one run."""
    low: float
    high: float
    """The 95 % interval of the mean by Student's t; NaN for one run. It is about other seeds, not other speakers."""
    least: float
    most: float


def spread(values: Sequence[float]) -> Spread:
    """Mean and spread of one figure over runs."""
    n = len(values)
    mean = sum(values) / n
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1)) if n > 1 else math.nan
    half = t_quantile((1 + LEVEL) / 2, n - 1) * deviation / math.sqrt(n) if n > 1 else math.nan
    return Spread(n, mean, deviation, mean - half, mean + half, min(values), max(values))


def welch(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float, float]:
    """Mean of `b` minus mean of `a`, its 95 % interval (low, high) and the two-sided p value (Welch 1947).

    The two groups may have other variances and other sizes. NaN for interval and p where a group has one value, or
    where neither varies.
    """
    of_a, of_b = spread(a), spread(b)
    difference = of_b.mean - of_a.mean
    parts = [of.deviation**2 / of.n for of in (of_a, of_b)]
    error = math.sqrt(sum(parts))
    if not error > 0:  # NaN too
        return difference, math.nan, math.nan, math.nan
    freedom = sum(parts) ** 2 / sum(part**2 / (of.n - 1) for part, of in zip(parts, (of_a, of_b), strict=True))
    half = t_quantile((1 + LEVEL) / 2, freedom) * error
    return difference, difference - half, difference + half, 2 * t_tail(abs(difference) / error, freedom)


def t_tail(t: float, freedom: float) -> float:
    """P(T > t) for t >= 0 of Student's distribution with `freedom` degrees of freedom, which need not be whole.

    With t = sqrt(freedom) tan x the density is cos(x) to the power freedom - 1, which is integrated here by Simpson's
    rule.
    """
    begin, end, steps = math.atan(t / math.sqrt(freedom)), math.pi / 2, 2000
    width = (end - begin) / steps
    total = 0.0
    for i in range(steps + 1):
        height = max(0.0, math.cos(begin + i * width)) ** (freedom - 1)
        total += height * (1 if i in (0, steps) else 4 if i % 2 else 2)
    scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(math.pi) / 2
    return math.exp(scale) * total * width / 3


def t_quantile(share: float, freedom: float) -> float:
    """The t below which `share` (above a half) of Student's distribution lies.

    >>> round(t_quantile(0.975, 2), 3)
    4.303
    """
    low, high = 0.0, 1.0
    while t_tail(high, freedom) > 1 - share:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_tail(middle, freedom) > 1 - share else (low, middle)
    return (low + high) / 2


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values of several tests, adjusted so that any false finding among them is as rare as one test promises.

    Holm 1979: the smallest is multiplied by the number of tests, the next one by one fewer, and none falls below the
    one before it. NaN stays NaN, and does not count as a test.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted((i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i])
    adjusted, least = list(p_values), 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = least
    return adjusted


def _draws(num_units: int, seed: int) -> Iterator[Tensor]:
    """NUM_RESAMPLES draws of `num_units` positions with replacement, in blocks (draws, num_units)."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "bootstrap", num_units))
    left, at_once = NUM_RESAMPLES, max(1, MOST_DRAWS_AT_ONCE // num_units)
    while left > 0:
        yield torch.randint(num_units, (min(left, at_once), num_units), generator=generator)
        left -= at_once


def _ratio(errors: Tensor, words: Tensor) -> Tensor:
    """errors / words; NaN where there is no word. The callers leave NaN out of percentiles."""
    return torch.where(words > 0, errors / words, math.nan)


def _percentiles(values: Tensor) -> tuple[float, float]:
    low, high = torch.quantile(values, torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=values.dtype)).tolist()
    return low, high


def _two_sided(differences: Tensor) -> float:
    """Twice the smaller tail. The observed sample counts as one of the draws."""
    smaller = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return min(1.0, 2 * (smaller + 1) / (len(differences) + 1))
