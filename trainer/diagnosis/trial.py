"""A few steps that are no run: the weights that they change are thrown away, and no run's folder is touched.

What --lr-finder and --overfit share: how a run is prepared for them, and one step at a rate that they choose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from data.batches.collate import Batch
from data.utterance import Corpus
from trainer.cli.console import Console
from trainer.config.schema import Config
from trainer.errors import ConfigError
from trainer.loop.step import TrainingParts, train_step
from trainer.parallel.launch import launched
from trainer.prepare.build import PreparedRun, prepare


@dataclass(frozen=True)
class Taken:
    """One step of a trial."""

    loss: float
    """Nats per unit; not finite where the step was not applied."""
    grad_norm: float
    blank_share: float


def refuse_several_processes(option: str) -> None:
    """ConfigError below torchrun."""
    if not launched().is_alone:
        raise ConfigError(f"{option} is for one process: call it without torchrun.")


def prepare_trial(config: Config, steps: int, console: Console, corpus: Corpus | None) -> PreparedRun:
    """A run of `steps` steps at a rate that is chosen step by step, without a table of features."""
    config = replace(
        config,
        train=replace(config.train, max_steps=steps, epochs=steps * config.train.grad_accum_steps),
        optim=replace(config.optim, warmup_steps=0),
        model=replace(config.model, cache_features=False),
    )
    return prepare(config, console, corpus=corpus)


def take_step(parts: TrainingParts, batches: Sequence[Batch], rate: float, max_grad_norm: float, seed: int) -> Taken:
    """One step of training at `rate`, as a run takes it."""
    for group in parts.optimizer.param_groups:
        group["lr"] = rate
    result = train_step(parts, batches, max_grad_norm, lambda: None, seed, is_logged=True)
    finite, *_ = result.outcome.wait()
    assert result.blank_share is not None
    loss = float(result.loss) if bool(finite) else math.nan
    return Taken(loss, float(result.grad_norm), float(result.blank_share))
