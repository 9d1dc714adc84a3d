"""Show two errors of transformers' Trainer with CTC, beside our result and the right one.

Gradient accumulation: the Trainer assumes that a model which takes keyword arguments divides its loss by
`num_items_in_batch`. CTC heads take them and do not divide, so the gradients of the microbatches are added and not
averaged. The schedule under fp16: fused AdamW skips an overflowing update by itself, accelerate counts the step as
done, and the learning rate moves on without the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.scheduler import AcceleratedScheduler
from torch.amp import GradScaler

from data.examples.prepare import Example
from scripts.hf.equality import Recipe, our_batches, our_parts, plan, silent, train_hf, train_ours
from trainer.loop.fit import finish_previous_step
from trainer.loop.optim import build_schedule
from trainer.loop.state import TrainState
from trainer.loop.step import train_step


class Accumulation(NamedTuple):
    """Gradient norms of one step over the same utterances."""

    ours_large: float
    hf_large: float
    ours_accumulated: float
    hf_accumulated: float


def compare_accumulation(folder: Path, examples: Sequence[Example], microbatches: int, size: int) -> Accumulation:
    """One large batch against the same utterances in `microbatches` microbatches of `size`."""
    small = Recipe(steps=1, batch_size=size, grad_accum_steps=microbatches)
    large = replace(small, batch_size=size * microbatches, grad_accum_steps=1)
    norms = [
        side(folder, plan(examples, recipe), recipe).grad_norms[0]
        for recipe in (large, small)
        for side in (train_ours, train_hf)
    ]
    return Accumulation(*norms)


class Overflow(NamedTuple):
    """What one overflowing step and three normal ones did."""

    updates: int
    """Steps that moved the weights."""
    schedule_steps: int
    """Steps by which the learning rate moved on."""


def hf_overflow(*, fused: bool) -> Overflow:
    """accelerate's optimizer and scheduler around AdamW and a GradScaler on the CPU, as the Trainer has them."""
    Accelerator(cpu=True)  # its wrappers need one
    weight, optimizer = _weight_and_optimizer(fused)
    scaler = GradScaler("cpu", init_scale=4.0)
    wrapped = AcceleratedOptimizer(optimizer, scaler=scaler)
    schedule = AcceleratedScheduler(_schedule(optimizer), wrapped)
    updates = 0
    with silent():  # torch warns that the schedule is ahead of the optimizer
        for gradient in (1.0, float("inf"), 1.0, 1.0):
            before = weight.detach().clone()
            wrapped.zero_grad()
            scaler.scale((weight * gradient).sum()).backward()
            wrapped.step()
            if not wrapped.step_was_skipped:  # as the Trainer asks
                schedule.step()
            updates += not torch.equal(before, weight)
    return Overflow(updates, schedule.scheduler.last_epoch)


def our_overflow(folder: Path, examples: Sequence[Example]) -> Overflow:
    """The same four steps with train_step and finish_previous_step. The second one has an infinite gradient."""
    recipe = Recipe(steps=4, batch_size=2, warmup_steps=0)
    scaler = GradScaler("cpu", init_scale=4.0)
    parts = our_parts(folder, recipe, scaler)
    weight, state, updates = parts.model.hf.lm_head.weight, TrainState(), 0
    for number, batch in enumerate(our_batches(parts.model, plan(examples, recipe), recipe)):
        before = weight.detach().clone()
        overflow = weight.register_hook(lambda gradient: gradient * float("inf")) if number == 1 else None
        finish_previous_step(train_step(parts, [batch], 1.0, lambda: None), parts, state, 10, lambda skipped: None)
        if overflow is not None:
            overflow.remove()
        updates += not torch.equal(before, weight)
    return Overflow(updates, parts.scheduler.last_epoch)


def _weight_and_optimizer(fused: bool) -> tuple[torch.nn.Parameter, torch.optim.AdamW]:
    weight = torch.nn.Parameter(torch.ones(4))
    return weight, torch.optim.AdamW([weight], lr=0.1, fused=fused)


def _schedule(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LambdaLR:
    return build_schedule(optimizer, 0, 100)
