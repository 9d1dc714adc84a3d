"""Intervals for an error rate and for the difference between two systems, by bootstrap; and the matched-pairs test.

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
    matched_pairs_p: float
    """Two-sided p value of the normal test on the utterances' differences in errors."""
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
    draws = [_ratio(gains[i].sum(1), words[i].sum(1)) for i in _draws(len(units), seed)]
    differences = torch.cat(draws)
    differences = differences[differences.isfinite()]
    low, high = _percentiles(differences) if len(units) > 1 and len(differences) else (math.nan, math.nan)
    by_utterance = [after - before for _, before, after, _ in pairs]
    return Comparison(
        difference=float(_ratio(gains.sum(), words.sum())),
        low=low,
        high=high,
        bootstrap_p=_two_sided(differences) if len(units) > 1 else math.nan,
        matched_pairs_p=matched_pairs(by_utterance),
        num_better=sum(d < 0 for d in by_utterance),
        num_worse=sum(d > 0 for d in by_utterance),
        num_equal=sum(d == 0 for d in by_utterance),
    )


def matched_pairs(differences: Sequence[int]) -> float:
    """Two-sided p value of "the mean difference is 0" (Gillick and Cox 1989, utterances as segments); NaN below two.

    >>> round(matched_pairs([1, 1, 1, 0, 1, -1, 1, 1, 0, 1]), 4)
    0.0067
    """
    n = len(differences)
    if n < 2:
        return math.nan
    mean = sum(differences) / n
    variance = sum((d - mean) ** 2 for d in differences) / (n - 1)
    if variance == 0:
        return 1.0 if mean == 0 else 0.0
    return math.erfc(abs(mean) / math.sqrt(variance / n) / math.sqrt(2))


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
