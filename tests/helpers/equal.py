"""One training of 20 steps, in this process or in a rank of several: losses and gradient norms to compare."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch.amp import GradScaler
from transformers import AutoConfig

from data.batches.collate import BatchDataset, Frontend
from data.batches.loading import TrainLoader
from data.batches.plan import BatchPlan
from data.batches.shares import Shares
from data.batches.specaugment import SpecAugment
from data.config import BatchingConfig
from data.examples.prepare import Example
from models.ctc import CTCModel
from models.encoder import build_random
from tests.helpers.steps import CPU, KERNELS, NUM_FRAMES, STRIDES, Recorder, make_example, run_fit
from trainer.config.schema import OptimConfig, TrainConfig
from trainer.loop.optim import build_optimizer, build_schedule
from trainer.loop.state import TrainState
from trainer.loop.step import TrainingParts
from trainer.parallel.world import World

NUM_STEPS = 20
EXAMPLES = [make_example(i, 2000 + 1777 * i % 7000) for i in range(13)]
"""In batches of 5, two a step: every epoch ends with a batch of 3, so that a fourth rank has nothing of it."""
SPEC = SpecAugment(hidden_size=16, time_prob=0.2, time_length=2, time_min_masks=1,
                   feature_prob=0.1, feature_length=2, feature_min_masks=1)  # fmt: skip


class Figures(Recorder):
    """Remembers gradient norms too."""

    def __init__(self) -> None:
        super().__init__()
        self.norms: list[float] = []
        self.blanks: list[float] = []

    def train(self, state: TrainState, *, grad_norm: float, blank_share: float, **others: Any) -> None:  # type: ignore[override]
        super().train(state, **others)
        self.norms.append(grad_norm)
        self.blanks.append(blank_share)


def model_of(norm: str, **options: Any) -> CTCModel:
    """Three layers with LayerDrop, without dropout, in the default precision; `norm` of the feature encoder."""
    config = AutoConfig.for_model(
        "wav2vec2", hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32,
        conv_dim=(8, 8, 8),
        conv_kernel=KERNELS, conv_stride=STRIDES, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
        feat_extract_norm=norm, do_stable_layer_norm=norm == "layer", conv_bias=True, vocab_size=6, pad_token_id=5,
        **dict(hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, feat_proj_dropout=0.0,
               final_dropout=0.0, layerdrop=0.3, mask_time_prob=0.2) | options,
    )  # fmt: skip
    model = CTCModel(build_random(config, 0), freeze_feature_encoder=False)
    if torch.get_default_dtype() is torch.float64:
        model.double()
        model.register_forward_pre_hook(lambda module, args: (args[0].double(), *args[1:]))
    return model


def parts_of(model: CTCModel, world: World, lr: float = 1e-3) -> TrainingParts:
    optimizer = build_optimizer(model, OptimConfig(lr=lr, weight_decay=0.01))
    scaler = GradScaler("cpu", enabled=False)
    return TrainingParts(model, optimizer, build_schedule(optimizer, 3, 200), scaler, CPU, nullcontext, world=world)


def loader_of(model: CTCModel, world: World, examples: list[Example] | None = None, accum: int = 2) -> TrainLoader:
    examples = EXAMPLES if examples is None else examples
    lengths, ids = [e.num_samples for e in examples], [e.utterance.id for e in examples]
    plan = BatchPlan(lengths, ids, BatchingConfig(batch_size=5), 7, 40, accum)
    shares = Shares(world.rank, world.size, pads_to_whole=not model.is_batch_invariant)
    dataset = BatchDataset(examples, Frontend(NUM_FRAMES, specaugment=SPEC), plan)
    return TrainLoader(dataset, plan, num_workers=0, pin_memory=False, shares=shares)


def train(world: World, *, norm: str = "layer", double: bool = False, **options: Any) -> Any:
    """Losses, norms, shares of blanks, seconds of audio, and a digest of the weights."""
    torch.set_default_dtype(torch.float64 if double else torch.float32)
    try:
        model = model_of(norm, **options)
        parts, log, state = parts_of(model, world), Figures(), TrainState()
        run_fit(parts, loader_of(model, world), TrainConfig(log_every=1, eval_every=0, save_every=0), NUM_STEPS,
                state=state, runlog=log)  # fmt: skip
        # the keys' biases have no effect, so their gradients are rounding alone, which AdamW makes as large as others
        weights = [p.double().norm().item() for n, p in model.named_parameters() if not n.endswith("k_proj.bias")]
        return {"losses": log.losses, "norms": log.norms, "blanks": log.blanks, "weights": weights,
                "seconds": state.audio_seconds, "padded": state.padded_seconds}  # fmt: skip
    finally:
        torch.set_default_dtype(torch.float32)


def worst(ours: list[float], theirs: list[float]) -> float:
    """The largest relative difference."""
    return max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))
