"""A checkpoint that rank 0 has read, handed to the other ranks: they need no access to the run's folder."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from trainer.loop.optim import new_moments
from trainer.loop.state import TrainState
from trainer.loop.step import TrainingParts


def share_state(parts: TrainingParts, state: TrainState) -> TrainState:
    """The state of rank 0; `parts` is everywhere as it is there. Other ranks may give any `state`."""
    world = parts.world
    if world.is_alone:
        return state
    optimizer, scheduler = parts.optimizer, parts.scheduler
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    record: dict[str, Any] = world.broadcast(
        {
            "state": dataclasses.asdict(state),
            "last_epoch": scheduler.last_epoch,
            "lrs": [group["lr"] for group in optimizer.param_groups],
            "scaler": parts.scaler.state_dict(),
            "steps": [float(optimizer.state[p]["step"]) if optimizer.state.get(p) else None for p in trained],
        }
    )
    scheduler.last_epoch = record["last_epoch"]
    for group, lr in zip(optimizer.param_groups, record["lrs"], strict=True):
        group["lr"] = lr
    if record["scaler"]:
        parts.scaler.load_state_dict(record["scaler"])
    moments: list[torch.Tensor] = []
    for p, step in zip(trained, record["steps"], strict=True):
        if step is not None:
            own = optimizer.state[p] = optimizer.state.get(p) or new_moments(optimizer, p)
            own["step"].fill_(step)  # it may lie on the host, where NCCL sends nothing
            moments += [tensor for key, tensor in own.items() if key != "step"]
    world.broadcast_tensors(parts.model.state_dict().values())
    world.broadcast_tensors(moments)
    return TrainState(**record["state"])
