"""The pieces of a run, from its Config: the model, what trains it, the plan of batches, and loaders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch.amp import GradScaler
from transformers import PreTrainedModel

from data.batches.collate import BatchDataset, Frontend
from data.batches.loading import TrainLoader
from data.batches.plan import BatchPlan
from data.batches.shares import ALL, Shares
from data.batches.specaugment import SpecAugment
from data.examples.table import ids_of, lengths_of
from data.randomness import derive_seed
from models.checkpoints.lora import add_updates, lora_of
from models.checkpoints.pretrained import EncoderSource
from models.checkpoints.weights import LoadReport, load_pretrained
from models.ctc import CTCModel
from models.encoder import build_random, configure
from trainer.config.schema import Config
from trainer.device import HALF, autocast_for
from trainer.errors import ConfigError, ModelError
from trainer.loop.graphs import CudaRecorder, Graphs
from trainer.loop.optim import build_optimizer, build_schedule
from trainer.loop.step import TrainingParts
from trainer.parallel.world import ALONE, World
from trainer.prepare.corpus import PreparedCorpus
from trainer.prepare.shapes import grid_of, training_grid
from trainer.prepare.sharing import sharded_gradients
from trainer.scoring.evaluate import EvalSet


def build_model(
    config: Config, encoder: EncoderSource, data: PreparedCorpus, device: torch.device
) -> tuple[CTCModel, LoadReport | None]:
    """The model on its device, and a report of what was loaded from a checkpoint (None for random weights)."""
    vocab, seed = data.vocab, derive_seed(config.seed, "weights")
    hf_config = configure(encoder.config, config.model, vocab_size=len(vocab), blank_id=vocab.blank_id)
    report = None
    if encoder.pretrained is None:
        hf_model = build_random(hf_config, seed)
    else:
        hf_model, report = load_pretrained(encoder.pretrained, hf_config, seed, keep_head=data.own_tokenizer)
    if config.model.adapter_only and getattr(hf_config, "adapter_attn_dim", None) is None:
        raise ModelError(f"{config.model.pretrained or 'the model'} has no adapters: leave out --model.adapter-only.")
    add_or_refuse_updates(config, encoder, hf_model)
    model = CTCModel(
        hf_model,
        freeze_feature_encoder=bool(config.model.freeze_feature_encoder),
        adapter_only=config.model.adapter_only,
        freeze_layers=config.model.freeze_layers,
        activation_checkpointing=config.model.activation_checkpointing,
    )
    return model.to(device), report


def add_or_refuse_updates(config: Config, encoder: EncoderSource, hf_model: PreTrainedModel) -> None:
    """Put the low-rank updates that `config` asks for into `hf_model`. ModelError when these layers cannot have any, or
    cannot be frozen as it asks."""
    layers, frozen, lora = hf_model.config.num_hidden_layers, config.model.freeze_layers, lora_of(config.model)
    if frozen > layers - (lora is not None):
        left = "" if lora is None else ", and one must be left to update"
        raise ModelError(f"--model.freeze-layers {frozen}: this encoder has {layers} layers{left}.")
    if lora is None:
        return
    if encoder.pretrained is not None and encoder.pretrained.has_no_such_language:
        raise ModelError(
            f"--model.lora-rank leaves the adapter of {encoder.pretrained.language} as it is, but it is new and must "
            "be trained: use --model.adapter-only instead."
        )
    add_updates(hf_model, lora, derive_seed(config.seed, "lora"))


def build_parts(
    config: Config,
    model: CTCModel,
    device: torch.device,
    precision: str,
    total_steps: int,
    warn: Callable[[str], None] = print,
    world: World = ALONE,
) -> tuple[Config, TrainingParts]:
    """The Config with the number of warm-up steps chosen; and `model` with all that trains it.

    `config` has its shapes already (with_shapes). `warn` is told if CUDA graphs turn out to be impossible.
    """
    warmup = config.optim.warmup_steps
    if warmup is None:
        warmup = min(1000, total_steps // 10)
    if warmup >= total_steps:
        raise ConfigError(
            f"--optim.warmup-steps {warmup} is not below the {total_steps} planned steps. "
            "Lower the warm-up or train longer (--train.epochs, --train.max-steps)."
        )
    config = replace(config, optim=replace(config.optim, warmup_steps=warmup))
    optimizer = build_optimizer(model, config.optim)
    scheduler = build_schedule(optimizer, warmup, total_steps)
    scaler = GradScaler(device.type, enabled=precision == "fp16")
    autocast, sharded = autocast_for(precision, device), None
    if model.is_sharded:
        spec = spec_augment_of(model)
        sharded = sharded_gradients(
            model, device, autocast, world, masks_time=spec is not None and spec.time_prob > 0,
            accumulates=config.train.grad_accum_steps > 1,
        )  # fmt: skip
    elif precision in HALF:
        model.keep_half_copies(HALF[precision])
    parts = TrainingParts(model, optimizer, scheduler, scaler, device, autocast, world=world, sharded=sharded)
    if config.model.cuda_graphs:
        several = config.train.grad_accum_steps > 1
        parts.graphs = Graphs(model, parts.gradients, parts.autocast, CudaRecorder(), warn, accumulates=several)
    return config, parts


def plan_batches(config: Config, data: PreparedCorpus, model: CTCModel, world_size: int = 1) -> BatchPlan:
    """The plan of every batch of the run, the same for any number of ranks. Only the shapes of shares differ."""
    return BatchPlan(
        lengths=lengths_of(data.train),
        ids=ids_of(data.train),
        batching=config.batching,
        seed=config.seed,
        epochs=config.train.epochs,
        grad_accum_steps=config.train.grad_accum_steps,
        speeds=config.augment.speeds,
        grid=training_grid(config, model, len(data.train), world_size),
    )


def build_train_loader(
    config: Config,
    data: PreparedCorpus,
    model: CTCModel,
    plan: BatchPlan,
    num_workers: int,
    pin: bool,
    do_normalize: bool,
    shares: Shares = ALL,
) -> TrainLoader:
    """A loader of training batches, with SpecAugment as the model's configuration sets it."""
    frontend = Frontend(model.num_frames, do_normalize, spec_augment_of(model), grid=plan.grid)
    return TrainLoader(
        BatchDataset(data.train, frontend, plan),
        plan,
        num_workers=num_workers,
        pin_memory=pin,
        timeout_seconds=config.batching.worker_timeout,
        shares=shares,
    )


def spec_augment_of(model: CTCModel) -> SpecAugment | None:
    """SpecAugment as the model's configuration sets it."""
    hf = model.hf.config
    spec = SpecAugment(
        hidden_size=hf.hidden_size,
        time_prob=hf.mask_time_prob,
        time_length=hf.mask_time_length,
        time_min_masks=hf.mask_time_min_masks,
        feature_prob=hf.mask_feature_prob,
        feature_length=hf.mask_feature_length,
        feature_min_masks=getattr(hf, "mask_feature_min_masks", 0),  # WavLM's configuration has no such field
    )
    return spec if getattr(hf, "apply_spec_augment", True) else None


def build_eval_sets(
    config: Config, data: PreparedCorpus, model: CTCModel, num_workers: int, do_normalize: bool
) -> dict[str, EvalSet]:
    """Every evaluation split, ready to be scored."""
    frontend = Frontend(model.num_frames, do_normalize, grid=grid_of(config, model, 1))
    return {
        split: EvalSet(split, examples, frontend, data.vocab, config.eval, num_workers, config.batching.worker_timeout)
        for split, examples in data.evaluation.items()
    }
