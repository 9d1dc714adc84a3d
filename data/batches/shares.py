"""Which part of a step's batches a process trains on, and what it must know of the rest.

The plan is that of a single process. `data.batches.dealing` deals each of its batches to the ranks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from data.batches.collate import Batch, Request, Whole
from data.batches.dealing import SAMPLES, Cost, costs_of_step, deal_step
from data.batches.plan import BatchPlan


@dataclass(frozen=True)
class Share:
    """A rank's share of one batch."""

    epoch: int
    positions: Sequence[int]
    """Of its utterances; empty when nothing is left for this rank."""
    at_least: int = 0
    """Samples that the batch is padded to at least; 0: its own longest utterance decides."""
    whole: Whole | None = None
    """What all ranks have; None in a single process."""

    @property
    def request(self) -> Request:
        """What BatchDataset makes the batch from."""
        return (self.epoch, self.positions, self.at_least) if self.at_least else (self.epoch, self.positions)

    def complete(self, batch: Batch | None) -> Batch:
        """`batch`, which was made for `request`, with what is known of the rest. None stands for an empty share."""
        if self.whole is None:
            assert batch is not None
            return batch
        return Batch.empty(self.whole) if batch is None else dataclasses.replace(batch, whole=self.whole)


@dataclass(frozen=True)
class Shares:
    """How batches are shared out, seen from one rank."""

    rank: int = 0
    world_size: int = 1
    cost: Cost = SAMPLES
    pads_to_whole: bool = False
    """Whether a share is padded to the longest utterance of the whole batch. An encoder with group norm sees padding:
    its numbers are those of a single process only then."""

    def of_step(self, plan: BatchPlan, epoch: int, step: Sequence[Sequence[int]]) -> list[Share]:
        """This rank's share of each batch of a step of `plan`."""
        if self.world_size == 1:
            return [Share(epoch, batch) for batch in step]
        lengths = plan.epoch_lengths(epoch)
        dealt = deal_step(step, lengths, self.world_size, self.cost)
        shares = []
        for k, batch in enumerate(step):
            longest = max(lengths[i] for i in batch) if self.pads_to_whole else 0
            of_batch = [of_rank[k] for of_rank in dealt]
            padded = sum(self._padded_samples(plan, [lengths[i] for i in share], longest) for share in of_batch)
            whole = Whole(len(batch), int(sum(lengths[i] for i in batch)), int(padded))
            shares.append(Share(epoch, of_batch[self.rank], int(longest), whole))
        return shares

    def costs(self, plan: BatchPlan, epoch: int, step: Sequence[Sequence[int]]) -> list[int]:
        """What each rank has to do in a step."""
        lengths = plan.epoch_lengths(epoch)
        return costs_of_step(deal_step(step, lengths, self.world_size, self.cost), lengths, self.cost)

    def longest(self, plan: BatchPlan, epoch: int, batch: Sequence[int]) -> Share:
        """The share of `batch` that takes a rank longest."""
        costs = self.costs(plan, epoch, [batch])
        return dataclasses.replace(self, rank=costs.index(max(costs))).of_step(plan, epoch, [batch])[0]

    def _padded_samples(self, plan: BatchPlan, lengths: Sequence[int], longest: int) -> int:
        if not lengths:
            return 0
        if plan.grid is not None:
            return plan.grid.padded_samples(lengths)
        return len(lengths) * (longest or max(lengths))


ALL = Shares()
"""A single process trains on everything."""
