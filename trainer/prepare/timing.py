"""Estimate how long training takes, by timing a few batches. The timing leaves no trace in the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from data.batches.collate import Batch, BatchDataset
from data.batches.padding import padded_seconds
from data.examples.table import lengths_of
from trainer.errors import TrainingStopped
from trainer.loop.step import TrainingParts, accumulate_gradient
from trainer.parallel.ballot import Ballot
from trainer.parallel.world import ALONE
from trainer.prepare.build import PreparedRun
from trainer.prepare.features.table import zero_table

WARM_ENOUGH = 5.0
"""Seconds. A first timing of at least this long counts: choosing kernels and taking memory are a small part of it."""


def estimate_training(run: PreparedRun, steps_left: int) -> float | None:
    """Estimated seconds for the steps that are left. The gradient of one batch of median size is computed and dropped.

    Weights, moments and random states stay as they are. None when the device has no memory for a single
    utterance; training will say so. Of several ranks, the one that estimates takes the longest share of the batch.
    """
    parts, model, batches = run.parts, run.parts.model, run.plan.batches(0)
    padded = padded_seconds(batches, run.plan.epoch_lengths(0), run.plan.grid)
    middle = sorted(range(len(padded)), key=padded.__getitem__)[len(padded) // 2]
    on_cuda, was_training = [parts.device] if parts.device.type == "cuda" else [], model.training
    model.train()
    try:
        with torch.random.fork_rng(on_cuda), unaccompanied(parts), training_batches(run) as load:
            batch = load(batches[middle])
            seconds = timed(lambda: accumulate_gradient(parts, [batch], seed=0), parts.device)
            if seconds < WARM_ENOUGH:
                parts.optimizer.zero_grad(set_to_none=True)
                seconds = timed(lambda: accumulate_gradient(parts, [batch], seed=0), parts.device)
    except TrainingStopped:
        return None
    finally:
        parts.optimizer.zero_grad(set_to_none=True)
        model.train(was_training)
    return seconds / padded[middle] * sum(padded) / run.plan.num_steps(0) * steps_left


@contextmanager
def unaccompanied(parts: TrainingParts) -> Iterator[None]:
    """Within this context a step is that of a process alone, whatever other ranks do."""
    world, ballot = parts.world, parts.ballot
    parts.world, parts.ballot = ALONE, Ballot(ALONE, ballot.num_parameters)
    try:
        yield
    finally:
        parts.world, parts.ballot = world, ballot


@contextmanager
def training_batches(run: PreparedRun) -> Iterator[Callable[[Sequence[int]], Batch]]:
    """Gives a function that loads the batch of some positions, as training will have it: of several ranks, that of the
    rank that has most to do. If training uses a table of features, a table of zeros stands in for it, as long as the
    longest utterance."""
    frontend = run.loader.dataset.frontend
    if run.config.model.cache_features:
        num_frames = run.parts.model.num_frames(int(lengths_of(run.data.train).max()))
        run.parts.features = zero_table(run.parts.model, num_frames, run.parts.device)
        frontend = replace(frontend, first_rows=[1] * len(run.data.train))
    dataset = BatchDataset(run.data.train, frontend, run.plan)
    try:
        yield lambda positions: dataset[run.loader.shares.longest(run.plan, 0, positions).request]
    finally:
        run.parts.features = None


def timed(action: Callable[[], object], device: torch.device) -> float:
    """Seconds until the device has finished `action`."""
    begin = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin
