"""How several processes share the work: each with the whole model (DDP), or each with a share of it (FSDP)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from models.ctc import CTCModel
from trainer.config.schema import Config
from trainer.device import HALF, free_memory
from trainer.errors import ConfigError
from trainer.loop.gradients import Gradients
from trainer.loop.optim import moment_bytes
from trainer.loop.sharded import ShardedGradients
from trainer.parallel.sharding import shard, why_not_sharded
from trainer.parallel.world import World

ROOM = 0.7
"""Share of the free memory that weights, gradients and moments may take. Activations need the rest."""
GB = 1e9


@dataclass(frozen=True)
class Sharing:
    """What was chosen, and why."""

    is_sharded: bool
    reason: str


def choose_sharing(config: Config, model: CTCModel, precision: str, device: torch.device, world: World) -> Sharing:
    """What --parallel means here: all processes choose the same. `model` need not be on `device` yet."""
    asked, moments = config.parallel, config.optim.moments
    needed, free = state_bytes(model, precision, moments), _free_for_one(device, world)
    amount = f"weights, gradients and moments take {needed / GB:.2f} GB"
    room = f"the {free / GB:.1f} GB that are free for a process on {device.type}"
    obstacle = why_not_sharded(model)
    if moments != "fp32":
        obstacle = f"moments in {moments} (--optim.moments) are not spread over processes"
    if asked == "fsdp" and obstacle:
        raise ConfigError(f"--parallel fsdp: {obstacle}. Leave the option out, or give --parallel ddp.")
    if asked == "fsdp":
        return Sharing(True, f"asked for; {amount}, {needed / GB / world.size:.2f} in each process")
    if asked == "ddp" or world.size == 1:
        return Sharing(False, f"asked for; {amount}")
    too_large = bool(free) and needed > ROOM * free
    if world.agree([too_large])[0]:
        if obstacle:
            return Sharing(False, f"{amount}, more than {100 * ROOM:.0f} % of {room}, but {obstacle}")
        return Sharing(True, f"{amount}, more than {100 * ROOM:.0f} % of {room}")
    return Sharing(False, f"{amount} and fit {room}")


def state_bytes(model: CTCModel, precision: str, moments: str) -> int:
    """Bytes that one process with the whole model holds through a step, beside activations: weights and their copies in
    half precision; a gradient and AdamW's two moments (--optim.moments) for each weight that is trained."""
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    copies = size // 2 if precision in HALF else 0
    trained = [p for p in model.parameters() if p.requires_grad]
    return size + copies + sum(p.numel() * p.element_size() + moment_bytes(p, moments) for p in trained)


def place(model: CTCModel, sharing: Sharing, precision: str, device: torch.device, world: World) -> None:
    """Bring a model on the host to `device`: all of it, or this process's share. A process that talks to no other one,
    which is that of --check, has nobody to share with and takes all."""
    if not sharing.is_sharded or world.is_alone:
        model.to(device)
        return
    shard(model, device, HALF.get(precision))


def sharded_gradients(
    model: CTCModel, device: torch.device, autocast: Callable[[], AbstractContextManager], world: World,
    *, masks_time: bool, accumulates: bool,
) -> Gradients:  # fmt: skip
    """Where the gradient of a spread model is summed up. `masks_time`: whether training batches have time masks.

    A step that `accumulates` several microbatches sums over the processes once, if all of them have room for the whole
    gradient until then; else after each microbatch.
    """
    whole = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    lacks_room = whole > (1 - ROOM) / 2 * _free_for_one(device, world)
    reduces_once = accumulates and not world.agree([lacks_room])[0]
    return ShardedGradients(model, device, autocast, masks_time=masks_time, reduces_once=reduces_once)


def _free_for_one(device: torch.device, world: World) -> int:
    """Bytes that are free for this process: those of a host share its memory."""
    free = free_memory(device)
    return free // world.launch.local_size if device.type == "cpu" else free
