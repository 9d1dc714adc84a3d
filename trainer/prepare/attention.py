"""Choose the kernel of attention once for a run, by timing those that can on the run's largest batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from data.batches.plan import BatchPlan
from models.config import AttentionKernel
from models.ctc import CTCModel
from models.layers.attention import AttentionShape, attention_shape, describe_kernels, time_kernels
from trainer.config.as_json import read_config
from trainer.config.schema import Config
from trainer.device import HALF
from trainer.errors import ConfigError


def choose_attention(
    config: Config,
    model: CTCModel,
    plan: BatchPlan,
    device: torch.device,
    precision: str,
    measure: Callable[[AttentionShape, torch.device], dict[str, float]] = time_kernels,
) -> tuple[AttentionKernel | None, str | None]:
    """The kernel on which attention runs, and a line about it; None and None where torch chooses.

    Two timings may differ, and two kernels round differently. So a resumed run keeps the kernel that it began with, and
    with --deterministic nothing is timed: what torch then chooses follows from shapes and settings alone. ConfigError
    when the user asks for a kernel that cannot.
    """
    asked = config.model.attention
    if device.type != "cuda" or (config.deterministic and asked is None):
        return None, None
    if asked is None and config.resume and (config.run_dir / "config.json").exists():
        kept = read_config(config.run_dir / "config.json").model.attention
        return kept, None if kept is None else f"{kept}, as the run began"
    rows, frames = largest_batch(plan, model)
    shape = attention_shape(model, rows, frames, HALF.get(precision, torch.float32))
    try:
        times = measure(shape, device)
    except torch.OutOfMemoryError:  # training will take such a batch in halves
        times = {}
    if asked is not None and asked not in times:
        able = " or ".join(times) or "none of torch's kernels"
        masked = " with a mask of padding" if shape.is_masked else ""
        raise ConfigError(
            f"--model.attention {asked}: it cannot compute {shape} in {precision}{masked}. Here {able} can."
        )
    if not times:
        return None, None
    chosen: Any = asked or next(iter(times))
    return chosen, describe_kernels(chosen, times, shape)


def largest_batch(plan: BatchPlan, model: CTCModel) -> tuple[int, int]:
    """(Rows, frames) of that batch of the first epoch in which attention has the most to do."""
    lengths, shapes = plan.epoch_lengths(0), []
    for batch in plan.batches(0):
        of_batch = [lengths[i] for i in batch]
        shapes.append(plan.grid.shape(of_batch) if plan.grid else (len(batch), model.num_frames(max(of_batch))))
    return max(shapes, key=lambda shape: shape[0] * shape[1] ** 2)
