"""data.batches.dealing: no utterance lost or doubled, and no deal ends sooner; here no process is started."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from data.batches.dealing import (
    SAMPLES,
    Cost,
    costs_of_step,
    deal,
    deal_batches,
    deal_step,
    waiting_share,
)
from data.batches.grid import Grid
from models.geometry import FrameGeometry

GEOMETRY = FrameGeometry.of((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2))
COSTS = {
    "samples": SAMPLES,
    "attention": Cost(attention_samples=7),
    "grid": Cost(grid=Grid(4, 2, GEOMETRY.num_frames, GEOMETRY.num_samples)),
    "grid and attention": Cost(30_000, Grid(8, 3, GEOMETRY.num_frames, GEOMETRY.num_samples)),
}
every_cost = pytest.mark.parametrize("cost", COSTS.values(), ids=COSTS)


def random_batches(number: int, longest_batch: int, seed: int = 0) -> Iterator[tuple[list[int], list[int], int]]:
    """(batch, lengths, ranks): lengths from narrow and from wide ranges, many of them equal."""
    rng = random.Random(seed)
    for _ in range(number):
        lengths = [rng.randint(1, rng.choice([3, 20, 400])) * rng.choice([1, 400]) for _ in range(60)]
        yield rng.sample(range(60), rng.randint(1, longest_batch)), lengths, rng.randint(1, 6)


def cost_by_hand(share: Sequence[int], lengths: Sequence[int], cost: Cost) -> float:
    """Rows times the longest times (1 + the longest over the length at which attention doubles the cost)."""
    if not share:
        return 0.0
    longest, rows = max(lengths[i] for i in share), len(share)
    if cost.grid is not None:
        rows = -(-rows // cost.grid.rows) * cost.grid.rows
        longest = cost.grid.padded_samples([longest]) // cost.grid.rows
    return rows * longest * (1 + longest / cost.attention_samples if cost.attention_samples else 1)


@every_cost
def test_no_deal_at_all_has_a_smaller_largest_cost(cost: Cost) -> None:
    """Reference: every way to give each of up to 6 utterances to one of up to 4 ranks."""
    for batch, lengths, ranks in random_batches(25, 6):
        ranks = min(ranks, 4)
        dealt = max(cost_by_hand(share, lengths, cost) for share in deal(batch, lengths, ranks, cost))
        least = min(
            max(
                cost_by_hand([i for i, r in zip(batch, to, strict=True) if r == k], lengths, cost) for k in range(ranks)
            )
            for to in itertools.product(range(ranks), repeat=len(batch))
        )
        assert dealt == pytest.approx(least, rel=1e-12)


def test_no_deal_of_short_utterances_is_better_by_a_single_sample() -> None:
    """Reference: as above; costs of a few samples, where the least is often the next number to what is too little."""
    rng = random.Random(7)
    for _ in range(150):
        lengths = [rng.randint(1, 7) for _ in range(rng.randint(1, 6))]
        dealt = max(cost_by_hand(share, lengths, SAMPLES) for share in deal(range(len(lengths)), lengths, 2))
        parts = itertools.product(range(2), repeat=len(lengths))
        assert dealt == min(
            max(cost_by_hand([i for i, r in enumerate(to) if r == k], lengths, SAMPLES) for k in range(2))
            for to in parts
        )


@every_cost
def test_every_utterance_of_a_batch_is_in_one_share_in_the_batchs_order(cost: Cost) -> None:
    for batch, lengths, ranks in random_batches(100, 50, seed=1):
        shares = deal(batch, lengths, ranks, cost)
        assert len(shares) == ranks
        assert sorted(itertools.chain(*shares)) == sorted(batch)
        assert all(share == [i for i in batch if i in share] for share in shares)
        assert shares == deal(list(batch), list(lengths), ranks, cost)


@every_cost
def test_no_rank_is_without_an_utterance_unless_there_are_fewer_than_ranks(cost: Cost) -> None:
    for batch, lengths, ranks in random_batches(300, 12, seed=2):
        sizes = [len(share) for share in deal(batch, lengths, ranks, cost)]
        assert sizes.count(0) == max(0, ranks - len(batch))
        assert len(batch) > ranks or max(sizes) == 1


@every_cost
def test_one_rank_has_the_batch_as_it_is(cost: Cost) -> None:
    for batch, lengths, _ in random_batches(20, 12, seed=3):
        assert deal(batch, lengths, 1, cost) == [batch]
    assert deal([], [], 3, cost) == [[], [], []]


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_lengths_in_a_narrow_array_are_dealt_as_python_numbers(dtype: type) -> None:
    """Costs with attention are beyond 32 bits."""
    lengths = [480_000, 30_000, 470_000, 10_000, 200_000]
    cost = Cost(attention_samples=2_000_000)
    assert deal(range(5), np.array(lengths, dtype), 2, cost) == deal(range(5), lengths, 2, cost)
    assert cost.of(np.array(lengths, dtype)) == 5 * 480_000 * 2_480_000


def test_utterances_of_one_length_are_dealt_in_equal_numbers() -> None:
    for number, ranks in [(32, 4), (32, 3), (33, 4), (7, 2)]:
        sizes = [len(share) for share in deal(range(number), [16_000] * number, ranks)]
        assert max(sizes) == -(-number // ranks)


def test_a_long_utterance_is_alone_and_the_short_ones_share() -> None:
    """By hand: 100 alone costs 100; five of 10 cost 50, as cheap as can be beside it."""
    lengths = [10, 10, 100, 10, 10, 10]
    assert deal(range(6), lengths, 2) == [[2], [0, 1, 3, 4, 5]]


def test_attention_makes_long_rows_dearer() -> None:
    """By hand: two of 40 and eight of 20 on two ranks. In samples a third row of 40 costs 120 and leaves seven rows of
    20, 140. Where attention doubles the cost of 20 samples, it would cost 3 * 2400, more than eight rows of 800."""
    lengths = [40] * 2 + [20] * 8
    assert [len(share) for share in deal(range(10), lengths, 2)] == [3, 7]
    assert [len(share) for share in deal(range(10), lengths, 2, Cost(attention_samples=20))] == [2, 8]


def test_on_a_grid_full_rows_are_dealt_where_the_batch_fills_them() -> None:
    """32 utterances of nearly one length on 4 ranks whose shapes have 8 rows: 8 each."""
    cost = Cost(grid=Grid(8, 8, GEOMETRY.num_frames, GEOMETRY.num_samples))
    lengths = [48_000 + 10 * k for k in range(32)]
    assert [len(share) for share in deal(range(32), lengths, 4, cost)] == [8] * 4


@every_cost
def test_microbatches_of_a_step_are_dealt_so_that_ranks_meet_at_its_end(cost: Cost) -> None:
    """Reference: the same shares with the dearest on rank 0 every time, which waits no less."""
    better = 0
    for batch, lengths, ranks in random_batches(100, 24, seed=4):
        microbatches = [batch[k::3] for k in range(3)]
        dealt = deal_step(microbatches, lengths, ranks, cost)
        assert [sorted(itertools.chain(*(of_rank[m] for of_rank in dealt))) for m in range(3)] == [
            sorted(m) for m in microbatches
        ]
        in_order = [deal(m, lengths, ranks, cost) for m in microbatches]
        costs = costs_of_step(dealt, lengths, cost)
        careless = [sum(cost.of([lengths[i] for i in m[rank]]) for m in in_order) for rank in range(ranks)]
        assert sum(costs) == sum(careless)
        assert max(costs) <= max(careless)
        better += max(costs) < max(careless)
    assert better > 0


def test_a_step_of_one_microbatch_is_dealt_like_the_batch() -> None:
    for batch, lengths, ranks in random_batches(50, 24, seed=5):
        (shares,) = zip(*deal_step([batch], lengths, ranks), strict=True)
        assert sorted(map(tuple, shares)) == sorted(map(tuple, deal(batch, lengths, ranks)))


@every_cost
def test_whole_batches_are_dealt_within_grahams_bound_and_in_their_order(cost: Cost) -> None:
    """Reference: the best of all deals of up to 6 batches to up to 3 ranks, by brute force (Graham 1969)."""
    for positions, lengths, ranks in random_batches(40, 30, seed=6):
        ranks = min(ranks, 3)
        batches = [positions[k::6] for k in range(6) if positions[k::6]]
        dealt = deal_batches(batches, lengths, ranks, cost)
        assert all(of_rank == [b for b in batches if b in of_rank] for of_rank in dealt)
        assert sorted(itertools.chain(*dealt)) == sorted(batches)
        costs = [cost_by_hand(batch, lengths, cost) for batch in batches]
        least = min(
            max(sum(c for c, r in zip(costs, to, strict=True) if r == k) for k in range(ranks))
            for to in itertools.product(range(ranks), repeat=len(batches))
        )
        ends = max(sum(cost_by_hand(batch, lengths, cost) for batch in of_rank) for of_rank in dealt)
        assert ends <= (4 / 3 - 1 / (3 * ranks)) * least * (1 + 1e-12)


def test_waiting_is_what_the_slowest_makes_the_others_idle() -> None:
    """By hand: steps of 4 and 6; the other rank idles 0 and 3 of 2 * 10."""
    assert waiting_share([[4, 4], [6, 3]]) == pytest.approx(3 / 20)
    assert waiting_share([[5], [7]]) == 0
    assert waiting_share([]) == 0
    assert waiting_share([[9, 0, 0]]) == pytest.approx(2 / 3)
