"""A checkpoint that rank 0 has found, put into all ranks.

Where each rank has the whole model, rank 0 reads the files and hands their content to the others, which need no access
to the run's folder. Where the model is spread over the ranks, each reads its own shares.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainer.loop.optim import new_moments
from trainer.loop.state import TrainState
from trainer.loop.step import TrainingParts
from trainer.rundir.checkpoints.restore import load_best, restore, verify_best


def take_checkpoint(parts: TrainingParts, found: tuple[Path, Mapping[str, Any]] | None) -> TrainState:
    """The state of the checkpoint that rank 0 has `found`, which is put into `parts`; a new state for None."""
    world, state = parts.world, TrainState()
    if parts.model.is_sharded:
        told = world.broadcast(None if found is None else [str(found[0]), found[1]])
        with world.together("the checkpoint, of which each process reads its shares"):
            return state if told is None else restore(Path(told[0]), told[1], parts)
    with world.together("the checkpoint, which rank 0 reads"):
        if world.is_first and found is not None:
            state = restore(*found, parts)
    return share_state(parts, state)


def take_best(run_dir: Path, parts: TrainingParts) -> tuple[int, float]:
    """Put the best weights into the model of every rank. Returns their step and their WER."""
    world = parts.world
    found: tuple[int, float] | None = None
    with world.together("the best weights, which rank 0 verifies"):
        if world.is_first:
            found = verify_best(run_dir)
    with world.together("the best weights"):
        if world.is_first or parts.model.is_sharded:
            load_best(run_dir, parts.model)
    if not parts.model.is_sharded:
        world.broadcast_tensors(parts.model.state_dict().values())
    step, wer = world.broadcast(found)
    return step, wer


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
