"""Deal a batch to the ranks of a distributed run so that they finish together. Pure functions: no process is asked.

A rank pads its share of the batch to the share's longest utterance. What that costs is `Cost`. The shares of one batch
are cut from its utterances in the order of their lengths, where the largest cost is the least that any deal has. So
all ranks know from the plan alone who trains what, and no utterance is lost or doubled.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from data.batches.grid import Grid, round_up

Lengths = Sequence[int] | np.ndarray


@dataclass(frozen=True)
class Cost:
    """What a padded batch costs: the samples of its rows, and what attention adds, which grows with their square.

    Costs are whole numbers, so that comparing them is exact and every machine deals alike.
    """

    attention_samples: int = 0
    """Samples of an utterance at which attention costs as much as everything else; 0: attention costs nothing."""
    grid: Grid | None = None
    """The shapes that a rank's share is padded to; None: as large as its utterances."""

    def row(self, longest: int) -> int:
        """The cost of one row in a batch whose longest utterance has so many samples."""
        if self.grid is not None:
            longest = self.grid.num_samples(self.grid.shape([longest])[1])
        return longest * (self.attention_samples + longest) if self.attention_samples else longest

    def rows(self, number: int) -> int:
        """Rows of a batch of so many utterances, those included that a grid adds."""
        return number if self.grid is None else round_up(number, self.grid.rows)

    def of(self, lengths: Lengths) -> int:
        """The cost of a batch of utterances with these lengths in samples; 0 without any."""
        return self.rows(len(lengths)) * self.row(int(max(lengths))) if len(lengths) else 0


SAMPLES = Cost()
"""Padded samples alone."""


def deal(batch: Sequence[int], lengths: Lengths, world_size: int, cost: Cost = SAMPLES) -> list[list[int]]:
    """The share of each rank of `batch`, positions in `lengths`: the largest cost of a share is the least possible.

    Every position is in exactly one share, in the batch's own order. The first rank has the longest utterances, the
    last the shortest. With fewer utterances than ranks each rank has at most one, and the last ranks have none.
    """
    of_batch = [int(lengths[i]) for i in batch]
    # Some best deal cuts the sorted utterances: give the longest to the share that had the longest, as many as it
    # had, the next longest to the next share, and so on. No share's longest utterance becomes longer by that.
    places = sorted(range(len(of_batch)), key=of_batch.__getitem__, reverse=True)  # stable in reverse, too
    sizes = _cut_sizes([of_batch[k] for k in places], world_size, cost)
    shares, start = [], 0
    for size in sizes:
        shares.append([int(batch[k]) for k in sorted(places[start : start + size])])
        start += size
    return shares


def deal_step(
    batches: Sequence[Sequence[int]], lengths: Lengths, world_size: int, cost: Cost = SAMPLES
) -> list[list[list[int]]]:
    """[rank][microbatch]: the shares of the microbatches of one optimizer step. Ranks wait for each other at its end.

    Each microbatch is cut as by `deal`. The dearest of its shares goes to the rank that has least to do until then.
    """
    dealt: list[list[list[int]]] = [[] for _ in range(world_size)]
    loads = [0] * world_size
    for batch in batches:
        shares = deal(batch, lengths, world_size, cost)
        costs = [cost.of([int(lengths[i]) for i in share]) for share in shares]
        dearest_first = sorted(range(world_size), key=lambda k: (-costs[k], k))
        for rank, k in zip(sorted(range(world_size), key=lambda r: (loads[r], r)), dearest_first, strict=True):
            dealt[rank].append(shares[k])
            loads[rank] += costs[k]
    return dealt


def deal_batches(
    batches: Sequence[Sequence[int]], lengths: Lengths, world_size: int, cost: Cost = SAMPLES
) -> list[list[list[int]]]:
    """[rank]: whole batches, as for an evaluation, which no rank waits in. Each rank keeps their order.

    The dearest batch that is left goes to the rank that has least to do (longest processing time first, Graham 1969):
    the last rank to finish takes at most 4/3 - 1/(3 * world_size) times what the best deal takes.
    """
    costs = [cost.of([int(lengths[i]) for i in batch]) for batch in batches]
    ranks = [(0, rank) for rank in range(world_size)]
    dealt: list[list[int]] = [[] for _ in range(world_size)]
    for k in sorted(range(len(batches)), key=lambda k: (-costs[k], k)):
        load, rank = heapq.heappop(ranks)
        dealt[rank].append(k)
        heapq.heappush(ranks, (load + costs[k], rank))
    return [[list(batches[k]) for k in sorted(of_rank)] for of_rank in dealt]


def costs_of_step(step: Sequence[Sequence[Sequence[int]]], lengths: Lengths, cost: Cost = SAMPLES) -> list[int]:
    """What each rank has to do in a step that deal_step has dealt."""
    return [sum(cost.of([int(lengths[i]) for i in share]) for share in shares) for shares in step]


def waiting_share(steps: Iterable[Sequence[int]]) -> float:
    """Share of the ranks' time that they wait for the slowest. `steps` has the cost of each rank in each step.

    >>> waiting_share([[10, 10], [10, 20]])  # 60 of 2 * 30: 50 are worked, 10 waited
    0.16666666666666663
    """
    worked = available = 0
    for costs in steps:
        worked += sum(costs)
        available += len(costs) * max(costs)
    return 1 - worked / available if available else 0.0


def _cut_sizes(longest_first: Sequence[int], world_size: int, cost: Cost) -> list[int]:
    """How many utterances each share has, so that the largest cost is the least possible."""
    if not longest_first:
        return [0] * world_size
    of_row = {length: cost.row(length) for length in set(longest_first)}
    costs = [of_row[length] for length in longest_first]
    # No deal is below the longest utterance alone, nor below an equal share of all utterances without padding.
    least = max(cost.rows(1) * costs[0], -(-sum(costs) // world_size))
    limit, more = least, least // 64 + 1
    sizes, enough = _fill(costs, world_size, cost, limit)
    while sum(sizes) < len(costs):  # grows quickly to what suffices
        least, limit, more = limit + 1, limit + more, 2 * more
        sizes, enough = _fill(costs, world_size, cost, limit)
    while least < enough:  # halves what is between the two
        limit = (least + enough) // 2
        found, largest = _fill(costs, world_size, cost, limit)
        if sum(found) < len(costs):
            least = limit + 1
        else:
            sizes, enough = found, largest
    return sizes


def _fill(costs: Sequence[int], world_size: int, cost: Cost, limit: int) -> tuple[list[int], int]:
    """(Sizes of shares that cost at most `limit`, each as large as it may be; the largest cost of one).

    costs: of a row of each utterance, the longest first. A share takes no utterance that a later rank needs in order to
    have one at all. The sizes do not hold all utterances if `limit` is too little.
    """
    multiple = cost.rows(1)
    sizes, start, largest = [0] * world_size, 0, 0
    for rank in range(min(world_size, len(costs))):
        of_row = costs[start]
        size = limit // of_row
        size = min(size - size % multiple, max(1, len(costs) - start - (world_size - rank - 1)))
        largest = max(largest, cost.rows(size) * of_row)
        sizes[rank] = size
        start += size
        if start == len(costs):
            break
    return sizes, largest
