"""Intervals and comparisons (trainer.scoring.statistics) against every sample there is, printed tables, hand counts.

pytest tests/trainer/scoring/test_statistics.py
"""

from __future__ import annotations

import itertools
import math
from statistics import mean, stdev

import pytest

from trainer.scoring.statistics import bootstrap_interval, compare, spread, t_quantile, welch

COUNTS = [(3, 10), (1, 12), (7, 9), (0, 11), (2, 30)]
"""(Errors, words) of five speakers."""


def every_rate(counts: list[tuple[int, int]]) -> list[float]:
    """The pooled rate of each of the n**n samples with replacement, sorted."""
    samples = itertools.product(counts, repeat=len(counts))
    return sorted(sum(e for e, _ in s) / sum(w for _, w in s) for s in samples)


def test_interval_holds_95_percent_of_all_samples_with_replacement() -> None:
    """Reference: all 3125 samples of five speakers. 10,000 draws know a 2.5 % tail to about 0.5 %."""
    interval = bootstrap_interval(COUNTS)
    assert interval is not None
    rates = every_rate(COUNTS)
    below = sum(rate < interval[0] for rate in rates) / len(rates)
    above = sum(rate > interval[1] for rate in rates) / len(rates)
    assert 0.015 < below <= 0.030
    assert 0.015 < above <= 0.030


def test_interval_of_many_equal_units_is_the_normal_one() -> None:
    """Reference: p ± 1.96 sqrt(p (1 - p) / n), for 2000 words that are right or wrong by themselves."""
    interval = bootstrap_interval([(int(i % 5 == 0), 1) for i in range(2000)])
    half = 1.96 * math.sqrt(0.2 * 0.8 / 2000)
    assert interval == pytest.approx((0.2 - half, 0.2 + half), abs=0.001)


def test_speakers_that_differ_make_a_wider_interval_than_their_utterances() -> None:
    """Ten speakers of twenty utterances, half of them hard: drawn as utterances, the figure looks too sure."""
    by_speaker = [(20 * (i % 2), 100) for i in range(10)]
    by_utterance = [(i % 2, 5) for i in range(10) for _ in range(20)]
    over_speakers, over_utterances = bootstrap_interval(by_speaker), bootstrap_interval(by_utterance)
    assert over_speakers is not None
    assert over_utterances is not None
    width = over_speakers[1] - over_speakers[0]
    assert width == pytest.approx(math.sqrt(20) * (over_utterances[1] - over_utterances[0]), rel=0.1)


@pytest.mark.parametrize("counts", [[], [(1, 5)], [(0, 0), (2, 0)]], ids=["nobody", "one", "no word"])
def test_where_nothing_can_be_drawn_there_is_no_interval(counts: list[tuple[int, int]]) -> None:
    assert bootstrap_interval(counts) is None


def test_interval_is_the_same_every_time_and_moves_little_with_the_seed() -> None:
    assert bootstrap_interval(COUNTS) == bootstrap_interval(COUNTS)
    assert bootstrap_interval(COUNTS, seed=1) == pytest.approx(bootstrap_interval(COUNTS), abs=0.02)


PAIRS = [("a", 3, 1, 10), ("b", 1, 2, 12), ("c", 7, 4, 9), ("d", 0, 1, 11), ("e", 2, 0, 30)]


def test_paired_bootstrap_p_is_that_of_all_samples() -> None:
    """Reference: both tails over all 3125 samples of five speakers, twice the smaller one."""
    samples = list(itertools.product(PAIRS, repeat=5))
    gains = [sum(b - a for _, a, b, _ in s) for s in samples]
    exact = 2 * min(sum(g >= 0 for g in gains), sum(g <= 0 for g in gains)) / len(gains)
    assert compare(PAIRS).bootstrap_p == pytest.approx(exact, abs=0.012)


def test_comparison_counts_and_pools_by_hand() -> None:
    """13 errors before, 8 after, of 72 words; three utterances better, two worse."""
    found = compare(PAIRS)
    assert found.difference == pytest.approx((8 - 13) / 72)
    assert (found.num_better, found.num_worse, found.num_equal) == (3, 2, 0)
    assert found.low < found.difference < found.high


def test_comparison_the_other_way_round_has_the_other_sign() -> None:
    there, back = compare(PAIRS), compare([(unit, b, a, words) for unit, a, b, words in PAIRS])
    assert (back.difference, back.low, back.high) == pytest.approx((-there.difference, -there.high, -there.low))
    assert back.bootstrap_p == pytest.approx(there.bootstrap_p)
    assert back.effect == pytest.approx(-there.effect)


def test_a_system_does_not_differ_from_itself() -> None:
    found = compare([(unit, a, a, words) for unit, a, _, words in PAIRS])
    assert (found.difference, found.low, found.high) == (0.0, 0.0, 0.0)
    assert (found.bootstrap_p, found.effect, found.relative) == (1.0, 0.0, 0.0)
    assert found.num_equal == 5


def test_utterances_of_a_speaker_are_drawn_together() -> None:
    """Two speakers, one better and one worse by as much: however many utterances say so, nothing is shown."""
    pairs = [(speaker, 1, 1 + sign, 5) for speaker, sign in (("a", 1), ("b", -1)) for _ in range(50)]
    assert compare(pairs).bootstrap_p > 0.4


def test_relative_change_and_effect_size_by_hand() -> None:
    """13 errors become 8. The speakers' rates change by -2/10, 1/12, -3/9, 1/11 and -2/30."""
    found, changes = compare(PAIRS), [-2 / 10, 1 / 12, -3 / 9, 1 / 11, -2 / 30]
    assert found.relative == pytest.approx(8 / 13 - 1)
    assert found.relative_low < found.relative < found.relative_high
    assert found.effect == pytest.approx(mean(changes) / stdev(changes))


def test_effect_of_a_system_without_errors_and_of_one_unit() -> None:
    perfect = compare([("a", 0, 1, 10), ("b", 0, 1, 10)])
    assert math.isnan(perfect.relative)
    assert perfect.effect == math.inf
    assert math.isnan(compare([("a", 1, 0, 10)]).effect)


@pytest.mark.parametrize(
    ("freedom", "t"), [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (30, 2.042), (120, 1.980)]
)
def test_t_quantiles_are_those_of_the_printed_table(freedom: int, t: float) -> None:
    """Reference: the table of Student's distribution in any textbook, 97.5 %, three decimals."""
    assert t_quantile(0.975, freedom) == pytest.approx(t, abs=0.0005)


def test_spread_of_three_runs_by_hand() -> None:
    """Mean 0.20, standard deviation 0.01, so the interval is 0.20 ± 4.303 · 0.01 / √3; one run has none."""
    found = spread([0.19, 0.20, 0.21])
    half = 4.302653 * 0.01 / math.sqrt(3)
    assert (found.n, found.mean, found.deviation) == (3, pytest.approx(0.2), pytest.approx(0.01))
    assert (found.low, found.high) == (pytest.approx(0.2 - half), pytest.approx(0.2 + half))
    assert (found.least, found.most) == (0.19, 0.21)
    assert math.isnan(spread([0.2]).low)


def test_welch_on_a_worked_example() -> None:
    """Reference, by hand: means 2 and 5.5, s² 1 and 29/3, so error √(1/3 + 29/12) and 3.745 degrees of freedom; the
    tail of that t by integrating the density, here by a plain sum of 400,000 rectangles."""
    difference, low, high, p = welch([1, 2, 3], [2, 4, 7, 9])
    error = math.sqrt(1 / 3 + 29 / 12)
    freedom = (1 / 3 + 29 / 12) ** 2 / ((1 / 3) ** 2 / 2 + (29 / 12) ** 2 / 3)
    scale = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / math.sqrt(freedom * math.pi)
    width = 3.5 / error / 400_000
    inner = sum((1 + ((i + 0.5) * width) ** 2 / freedom) ** (-(freedom + 1) / 2) for i in range(400_000)) * width
    assert difference == pytest.approx(3.5)
    assert p == pytest.approx(1 - 2 * scale * inner, abs=1e-6)
    assert (low + high) / 2 == pytest.approx(3.5)
    assert low < 0 < p < 0.2


def test_welch_says_nothing_of_one_run_or_of_runs_that_do_not_vary() -> None:
    for a, b in (([0.1], [0.2, 0.3]), ([0.1, 0.1], [0.2, 0.2])):
        assert math.isnan(welch(a, b)[3])
