"""A checkpoint that rank 0 has read, handed to the other ranks: they need no access to the run's folder."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from trainer.loop.state import TrainState
from trainer.loop.step import TrainingParts
from trainer.rundir.restore import MOMENTS


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
            "have_moments": [p in optimizer.state for p in trained],
        }
    )
    scheduler.last_epoch = record["last_epoch"]
    for group, lr in zip(optimizer.param_groups, record["lrs"], strict=True):
        group["lr"] = lr
    if record["scaler"]:
        parts.scaler.load_state_dict(record["scaler"])
    for p, has_moments in zip(trained, record["have_moments"], strict=True):
        if has_moments and p not in optimizer.state:
            moments = {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
            optimizer.state[p] = {"step": torch.zeros((), device=p.device), **moments}
    world.broadcast_tensors(parts.model.state_dict().values())
    world.broadcast_tensors(optimizer.state[p][key] for p in trained if p in optimizer.state for key in MOMENTS)
    return TrainState(**record["state"])
