"""Training steps and loops on a model small enough to run in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch.amp import GradScaler
from transformers import AutoConfig

from data.batches.collate import Batch, BatchDataset, Frontend
from data.batches.grid import Grid
from data.batches.loading import TrainLoader
from data.batches.plan import BatchPlan
from data.batches.specaugment import SpecAugment
from data.config import BatchingConfig
from data.examples.prepare import Example
from data.utterance import Utterance
from models.ctc import CTCModel
from models.encoder import build_random
from models.geometry import FrameGeometry
from trainer.config.schema import OptimConfig, TrainConfig
from trainer.loop.fit import fit
from trainer.loop.optim import build_optimizer, build_schedule
from trainer.loop.state import TrainState
from trainer.loop.step import StepResult, TrainingParts, train_step
from trainer.scoring.scores import Scores

KERNELS, STRIDES = (10, 3, 3), (5, 4, 4)
GEOMETRY = FrameGeometry.of(KERNELS, STRIDES)
NUM_FRAMES = GEOMETRY.num_frames
CPU = torch.device("cpu")


def small_model(seed: int = 0, hidden_size: int = 16, **options: float) -> CTCModel:
    config = AutoConfig.for_model(
        "unispeech", hidden_size=hidden_size, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        conv_dim=(8, 8, 8), conv_kernel=KERNELS, conv_stride=STRIDES, num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2, feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True,
        vocab_size=6, pad_token_id=5,
        **dict(hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, feat_proj_dropout=0.0,
               final_dropout=0.0, layerdrop=0.0, mask_time_prob=0.0) | options,
    )  # fmt: skip
    return CTCModel(build_random(config, seed), freeze_feature_encoder=False)


def make_parts(model: CTCModel, total_steps: int = 20, scaler: GradScaler | None = None) -> TrainingParts:
    optimizer = build_optimizer(model, OptimConfig(lr=1e-2, weight_decay=0.01))
    scaler = scaler or GradScaler("cpu", enabled=False)
    return TrainingParts(model, optimizer, build_schedule(optimizer, 3, total_steps), scaler, CPU, nullcontext)


def make_example(i: int, num_samples: int) -> Example:
    rng = torch.Generator().manual_seed(i)
    wave = torch.randn(num_samples, generator=rng).numpy().astype(np.float32)
    targets = tuple(torch.randint(0, 5, (2 + i % 4,), generator=rng).tolist())
    return Example(Utterance(f"u{i}", None, ""), "", targets, num_samples, lambda: wave)  # type: ignore[arg-type]


def poisoned(example: Example) -> Example:
    """The same utterance with a sample that is not a number."""
    wave = example.load().copy()
    wave[100] = np.nan
    return Example(example.utterance, "", example.targets, example.num_samples, lambda: wave)


LENGTHS = (2400, 5600, 3300, 8000, 4100)
EXAMPLES = [make_example(i, n) for i, n in enumerate(LENGTHS)]


def make_batch(positions: Sequence[int], examples: Sequence[Example] = EXAMPLES, grid: Grid | None = None) -> Batch:
    return BatchDataset(examples, Frontend(NUM_FRAMES, grid=grid))[0, positions]


def loader_of(
    examples: Sequence[Example], *, batch_size: int = 2, epochs: int = 10, accum: int = 1, grid: Grid | None = None,
    specaugment: SpecAugment | None = None,
) -> TrainLoader:  # fmt: skip
    ids = [e.utterance.id for e in examples]
    batching = BatchingConfig(batch_size=batch_size)
    plan = BatchPlan([e.num_samples for e in examples], ids, batching, 7, epochs, accum, grid=grid)
    frontend = Frontend(NUM_FRAMES, specaugment=specaugment, grid=grid)
    return TrainLoader(BatchDataset(examples, frontend, plan), plan, num_workers=0, pin_memory=False)


class Recorder:
    """A TrainLog that remembers."""

    def __init__(self) -> None:
        self.lrs: list[float] = []
        self.skips: list[StepResult] = []
        self.losses: list[float] = []
        self.begun: list[int] = []

    def step(self, state: TrainState) -> None:
        self.begun.append(state.step)

    def train(self, state: TrainState, *, loss: float, lr: float, **_: object) -> None:
        self.lrs.append(lr)
        self.losses.append(loss)

    def evaluation(self, state: TrainState, scores: Scores, improved: bool) -> None: ...

    def skipped(self, state: TrainState, result: StepResult) -> None:
        self.skips.append(result)

    def halved(self, state: TrainState, result: StepResult) -> None: ...


class NoDynamics:
    """A LossLog that forgets."""

    def visited(self, result: StepResult, nats: Sequence[torch.Tensor]) -> None: ...

    def evaluated(self, state: TrainState, scores: Scores) -> None: ...


def run_fit(
    parts: TrainingParts, loader: TrainLoader, config: TrainConfig, total_steps: int, **overrides: object
) -> Recorder:
    log, state = Recorder(), overrides.pop("state", None) or TrainState()
    arguments = dict(
        max_grad_norm=1.0, total_steps=total_steps, score=lambda: Scores("dev", (), 0.0, 0.0, {}),
        save_best=lambda: None, save=lambda: None, runlog=log, dynamics=NoDynamics(), must_stop=lambda: False,
    ) | overrides  # fmt: skip
    fit(parts, loader, state, config, **arguments)  # type: ignore[arg-type]
    return log


def gradient_of_step(batches: Sequence[Sequence[int]]) -> torch.Tensor:
    """The flat gradient that the optimizer gets from one step over `batches`."""
    parts, seen = make_parts(small_model()), []
    original = parts.optimizer.step

    def step() -> None:
        seen.append(torch.cat([p.grad.flatten() for p in parts.model.parameters() if p.grad is not None]))
        original()

    parts.optimizer.step = step  # type: ignore[method-assign]
    parts.model.train()
    train_step(parts, [make_batch(b) for b in batches], 1e9, lambda: None)
    return seen[0]
