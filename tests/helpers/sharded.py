"""Training of a small model that is spread over forked processes, and the same in one process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler

from data.batches.collate import BatchDataset, Frontend
from data.batches.loading import TrainLoader
from data.batches.plan import BatchPlan
from data.batches.shares import Shares
from data.batches.specaugment import SpecAugment
from data.config import BatchingConfig
from data.examples.prepare import Example
from models.checkpoints.shards import is_spread
from models.ctc import CTCModel
from tests.helpers.models import example, small_model
from tests.helpers.ranks import run_ranks
from tests.helpers.steps import Recorder, run_fit
from trainer.config.schema import OptimConfig, TrainConfig
from trainer.loop.optim import build_optimizer, build_schedule
from trainer.loop.sharded import ShardedGradients
from trainer.loop.step import TrainingParts
from trainer.parallel.joining import joined
from trainer.parallel.launch import Launch
from trainer.parallel.sharding import shard, whole_model
from trainer.parallel.world import ALONE, World

CPU = torch.device("cpu")
LENGTHS = (4000, 2400, 5600, 3300, 6400, 4100, 2900, 5200, 3600)
"""Nine utterances in batches of five: a batch leaves nothing for some of eight ranks, and less for one of two."""
TEXTS = ("ab", "c", "ab cd", "ef", "gha b", "bc", "d", "fe d", "ga")
EXAMPLES = tuple(example(n, text, seed=i) for i, (n, text) in enumerate(zip(LENGTHS, TEXTS, strict=True)))


def in_ranks(size: int, work: Callable[[World], Any], folder: Path, **options: Any) -> list[Any]:
    """What `work` returns in each of `size` ranks of torch.distributed, of which there may be one."""

    def join_and_work(launch: Launch) -> Any:
        with joined(launch, lambda local_rank: CPU, always=True) as world:
            return work(world)

    ended = run_ranks(size, join_and_work, folder, **options)
    assert [e.code for e in ended] == [0] * size, "\n".join(e.stderr for e in ended)
    return [e.result for e in ended]


def training_parts(
    model: CTCModel, world: World = ALONE, *, is_sharded: bool = False, lr: float = 1e-3, reduces_once: bool = False
) -> TrainingParts:
    """`model` with what trains it: spread over the ranks of `world`, or whole."""
    sharded = None
    if is_sharded:
        shard(model, CPU)
        sharded = ShardedGradients(model, CPU, nullcontext, masks_time=True, reduces_once=reduces_once)
    optimizer = build_optimizer(model, OptimConfig(lr=lr))
    scaler = GradScaler("cpu", enabled=False)
    schedule = build_schedule(optimizer, 2, 40)
    return TrainingParts(model, optimizer, schedule, scaler, CPU, nullcontext, world=world, sharded=sharded)


def loader_for(
    model: CTCModel, world: World = ALONE, *, accum: int = 1, examples: Sequence[Example] = EXAMPLES
) -> TrainLoader:
    """Batches of five with time masks, dealt to the ranks."""
    ids = [e.utterance.id for e in examples]
    plan = BatchPlan([e.num_samples for e in examples], ids, BatchingConfig(batch_size=5), 7, 40, accum)
    spec = SpecAugment(model.hf.config.hidden_size, 0.3, 2, 1, 0.1, 4, 0)
    frontend = Frontend(model.num_frames, specaugment=spec)
    shares = Shares(world.rank, world.size, pads_to_whole=not model.is_batch_invariant)
    return TrainLoader(BatchDataset(examples, frontend, plan), plan, num_workers=0, pin_memory=False, shares=shares)


class Logged(Recorder):
    """Also remembers the norms."""

    def __init__(self) -> None:
        super().__init__()
        self.figures: list[list[float]] = []

    def train(self, state: Any, *, loss: float, grad_norm: float, part_norms: Mapping[str, float], **_: Any) -> None:
        self.figures.append([loss, grad_norm, *part_norms.values()])


def trained(
    world: World = ALONE, *, is_sharded: bool = False, steps: int = 20, family: str = "unispeech", norm: str = "layer",
    dtype: torch.dtype = torch.float64, accum: int = 1, checkpointing: bool = False, frozen: bool = False,
    reduces_once: bool = False, examples: Sequence[Example] = EXAMPLES, lr: float = 1e-3, **changes: Any,
) -> tuple[list[list[float]], TrainingParts]:  # fmt: skip
    """[loss, norm, norms of parts] of each step, and the parts after the last one."""
    model = small_model(family, norm, freeze_feature_encoder=frozen, **changes).to(dtype)
    model.activation_checkpointing = checkpointing
    model.register_forward_pre_hook(lambda module, inputs: (inputs[0].to(dtype), *inputs[1:]))  # audio is float32
    parts = training_parts(model, world, is_sharded=is_sharded, reduces_once=reduces_once, lr=lr)
    log = Logged()
    config = TrainConfig(log_every=1, eval_every=0, save_every=0, grad_accum_steps=accum, max_skips=3)
    run_fit_with(parts, loader_for(model, world, accum=accum, examples=examples), config, steps, log)
    return log.figures, parts


def run_fit_with(parts: TrainingParts, loader: TrainLoader, config: TrainConfig, steps: int, log: Recorder) -> None:
    """run_fit of tests.helpers.steps with a log of one's own."""
    run_fit(parts, loader, config, steps, runlog=log)


def whole_weights(parts: TrainingParts) -> dict[str, Tensor]:
    """All weights, in every rank."""
    model = whole_model(parts.model, keep=True) if parts.model.is_sharded else parts.model
    assert model is not None
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def digests(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The hash of each whole tensor."""
    whole = {name: t.full_tensor() if is_spread(t) else t for name, t in tensors.items()}
    return {n: hashlib.sha256(t.detach().contiguous().numpy().tobytes()).hexdigest() for n, t in whole.items()}
