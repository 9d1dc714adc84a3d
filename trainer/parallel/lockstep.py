"""How processes that share one model keep their passes in step (trainer.parallel.sharding).

All must run the same parts of it in the same order, or they wait for each other for ever. One that has nothing to
compute makes an `idle_pass`; one that cannot finish a pass ends the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from data.batches.loading import StopRequested
from models.ctc import CTCModel
from trainer.errors import PeerLost, UserError
from trainer.parallel.failures import as_record
from trainer.parallel.world import World

T = TypeVar("T")


def in_lockstep(
    items: Iterator[T], world: World, must_stop: Callable[[], bool], idle: Callable[[], object]
) -> Iterator[T]:
    """`items`, as many in every process: one that has none left does something `idle` instead, until all are through.

    StopRequested in all processes once one of them `must_stop`; what fails in one of them fails in all.
    """
    while True:
        error: Exception | None = None
        item: T | None = None
        try:
            item = next(items, None)
        except (UserError, StopRequested) as own:
            error = own
        failed, stops, more = world.agree([error is not None, must_stop(), item is not None])
        if failed:
            raise world.shared(world.gather(None if error is None else as_record(error)), error)
        if stops:
            raise StopRequested
        if item is not None:
            yield item
        elif more:
            idle()
        else:
            return


def idle_pass(model: CTCModel, device: torch.device, *, masks_time: bool = False) -> Tensor:
    """The logits (1, 1, V) of one frame of silence: what a process without utterances runs while others have some.

    A gradient of 0 for them is one of 0 for every weight that theirs reach. `masks_time`: whether theirs have time
    masks, so that the gradient reaches the mask's embedding too.
    """
    mask = torch.zeros(1, 1, dtype=torch.bool, device=device) if masks_time else None
    dtype = next(model.parameters()).dtype
    silence = torch.zeros(1, model.geometry.receptive_field, device=device, dtype=dtype)
    return model(silence, torch.ones(1, dtype=torch.int64, device=device), is_padded=False, time_mask=mask)


def out_of_memory_alone(world: World, where: str) -> PeerLost:
    """The error to raise when memory ran out in this process: it cannot finish the pass that the others wait in."""
    world.quit()
    return PeerLost(
        f"out of memory {where}. With --parallel fsdp all processes wait for each other inside a pass, so that none "
        "can go back: the run ends here, and --resume goes on from the last save. Lower --batching.max-batch-seconds "
        "or --batching.batch-size, raise --train.grad-accum-steps, or give --model.activation-checkpointing."
    )
