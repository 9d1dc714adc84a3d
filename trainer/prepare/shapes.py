"""The shapes that batches are padded to, and whether their passes are captured as CUDA graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from data.batches.grid import Grid
from data.batches.padding import padded_shapes, padding_share
from data.batches.plan import BatchPlan
from models.ctc import CTCModel
from trainer.config.schema import Config
from trainer.errors import ConfigError
from trainer.loop.graphs import wants_graphs

CUDA_GRID = 8
"""Frames. On TIMIT's lengths it adds 2.4 % of padding in about 40 shapes; 16 would add 5 %."""


def with_shapes(config: Config, model: CTCModel, device: torch.device) -> Config:
    """`config` with the grid of batches and the use of CUDA graphs chosen.

    ConfigError when the user asks for what this encoder or device cannot.
    """
    grid = config.batching.frame_grid
    if grid is None:
        grid = CUDA_GRID if device.type == "cuda" and model.is_batch_invariant else 1
    if grid > 1 and not model.is_batch_invariant:
        raise ConfigError(
            f"--batching.frame-grid {grid}: this encoder's group norm sees padding, so its batches have none but what "
            "they need. Leave the option out."
        )
    graphs = wants_graphs(config.model.cuda_graphs, model, device)
    batching, chosen = replace(config.batching, frame_grid=grid), replace(config.model, cuda_graphs=graphs)
    return replace(config, batching=batching, model=chosen)


def training_grid(config: Config, model: CTCModel, num_utterances: int, world_size: int = 1) -> Grid | None:
    """The shapes of training batches, or of a rank's shares. All have as many rows as --batching.batch-size says,
    divided by the ranks, unless a budget of seconds lets their number differ."""
    b = config.batching
    rows = -(-min(b.batch_size, num_utterances) // world_size) if b.batch_size and b.max_batch_seconds is None else 1
    return grid_of(config, model, rows)


def grid_of(config: Config, model: CTCModel, rows: int) -> Grid | None:
    """The shapes of batches whose rows are a multiple of `rows`; None for the grid of 1 frame: no added padding."""
    frames = config.batching.frame_grid
    if frames is None or frames == 1:
        return None
    return Grid(frames, rows, model.num_frames, model.geometry.num_samples)


def describe_padding(plan: BatchPlan, batches: Sequence[Sequence[int]]) -> str:
    """The share of padding in `batches` of the first epoch, and what of it is due to the grid: `1.0 % padding`."""
    lengths = plan.epoch_lengths(0)
    share, grid = padding_share(batches, lengths, plan.grid), plan.grid
    if grid is None:
        return f"{100 * share:.1f} % padding"
    shapes = np.unique(padded_shapes(batches, lengths, grid), axis=0)
    added = share - padding_share(batches, lengths)
    return (
        f"{100 * share:.1f} % padding, {100 * added:.1f} of it for {len(shapes)} shapes on a grid of {grid.frames} "
        "frames"
    )
