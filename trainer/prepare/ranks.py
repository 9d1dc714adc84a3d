"""How a run is shared out among its ranks: which part of a batch each of them trains on, and how long they wait."""

from __future__ import annotations

from data.batches.dealing import Cost, waiting_share
from data.batches.plan import BatchPlan
from data.batches.shares import Shares
from models.ctc import CTCModel
from trainer.errors import ConfigError
from trainer.parallel.world import World

STEPS_LOOKED_AT = 200
"""Of the first epoch, to tell how long ranks wait for each other."""


def shares_of(plan: BatchPlan, model: CTCModel, world: World) -> Shares:
    """The share of this rank. ConfigError when no batch has an utterance for each rank."""
    most = int(plan.batches(0).sizes.max())
    if most < world.size:
        raise ConfigError(
            f"{world.size} processes, but no batch has more than {most} utterances: some processes would have nothing "
            "to do. Start fewer of them, or raise --batching.batch-size (and --batching.max-batch-seconds), which are "
            "those of all processes together."
        )
    return Shares(world.rank, world.size, Cost(grid=plan.grid), pads_to_whole=not model.is_batch_invariant)


def describe_waiting(plan: BatchPlan, shares: Shares) -> str:
    """The share of their time that ranks wait for the one that has most to do, as far as lengths tell."""
    steps = range(min(STEPS_LOOKED_AT, plan.num_steps(0)))
    share = waiting_share(shares.costs(plan, 0, plan.step(0, i)) for i in steps)
    return f"{100 * share:.1f} % of their time is waiting for the longest share"
