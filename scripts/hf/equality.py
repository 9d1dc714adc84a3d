"""Run the same training twice, step by step: with our train_step, and with a real transformers.Trainer.

Both start from one checkpoint folder, take the same utterances in the same order and the same batches, and record loss,
gradient norm and learning rate of every step. The Trainer's side gets from us only the order and, with SpecAugment, the
masks, as `mask_time_indices`.
"""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from torch.amp import GradScaler
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModelForCTC,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    Wav2Vec2FeatureExtractor,
)

from data.batches.collate import Batch, BatchDataset, Frontend
from data.batches.specaugment import SpecAugment
from data.examples.prepare import Example
from data.text.vocab import Vocab
from data.utterance import Utterance
from models.checkpoints.export import save_huggingface
from models.checkpoints.quiet import quiet
from models.config import ModelConfig
from models.ctc import CTCModel
from models.encoder import build_random, configure
from models.families import SIZES
from scripts.bench.against.tones import LETTERS, tone_texts, tone_utterance
from scripts.hf.modules import hf_modules
from trainer.config.schema import OptimConfig
from trainer.loop.fit import finish_previous_step
from trainer.loop.optim import build_optimizer, build_schedule
from trainer.loop.state import TrainState
from trainer.loop.step import TrainingParts, train_step

VOCAB = Vocab(("|", *LETTERS, "[UNK]", "[PAD]"))


@dataclass(frozen=True)
class Recipe:
    """The settings of one training, for either side."""

    steps: int = 20
    batch_size: int = 4
    lr: float = 1e-4
    warmup_steps: int = 5
    planned_steps: int = 200
    weight_decay: float = 0.005
    max_grad_norm: float = 1.0
    grad_accum_steps: int = 1
    double: bool = False
    """Compute in fp64 on both sides. The Trainer's loss then has no cast to fp32."""
    specaugment: bool = False
    """Use time masks, the same on both sides; otherwise none."""
    equal_lengths: bool = False
    """Cut the utterances of each batch to the shortest one, so that nothing is padded."""
    score_padding: bool = False
    """Let our loss count the padding as speech, as the Trainer does if the encoder takes no attention mask."""
    hf_modules: bool = False
    """Let our step run transformers' own modules instead of models.layers.frontend and models.layers.transformer."""
    same_norm_order: bool = False
    """Let the Trainer add up the gradient norm in our order of parameters (decayed first) instead of the model's."""


@dataclass
class Curve:
    """The result of a training: a number for each step, and the weights."""

    losses: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    lrs: list[float] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)


def write_checkpoint(folder: Path, family: str, norm: str, *, warm_up: int = 40, **changes: Any) -> Path:
    """Write a checkpoint of the size `tiny` (3 layers). With the norm "group" it is built like the base models.

    Its random weights are trained for `warm_up` steps. At the very start a loss of 10 falls to 3 in a few steps, which
    amplifies rounding by orders of magnitude on either side.
    """
    size = {**SIZES["tiny"], "mask_time_prob": 0.01, **changes}  # above 0, or some families have no mask embedding
    if norm == "group":
        size.update(feat_extract_norm="group", do_stable_layer_norm=False, conv_bias=False)
        if family == "hubert":
            size["feat_proj_layer_norm"] = True
    config = AutoConfig.for_model(family, **size, initializer_range=size["hidden_size"] ** -0.5)
    model = build_random(configure(config, ModelConfig(), vocab_size=len(VOCAB), blank_id=VOCAB.blank_id), seed=0)
    save_huggingface(model, VOCAB.tokens, VOCAB.special, True, folder)
    if warm_up:
        recipe = Recipe(steps=warm_up, batch_size=8, lr=2e-3, warmup_steps=10, equal_lengths=norm == "group")
        save_weights(folder, train_ours(folder, plan(tone_examples(8 * warm_up, seed=1), recipe), recipe), recipe)
    return folder


def save_weights(folder: Path, curve: Curve, recipe: Recipe) -> None:
    """Put a training's last weights into the checkpoint."""
    model = load_hf(folder, recipe)
    model.load_state_dict(curve.weights)
    with quiet():
        model.save_pretrained(folder)


def tone_examples(number: int, seed: int = 0, first: int = 0) -> list[Example]:
    """Utterances of tones with their transcripts, in memory."""
    encode, examples = VOCAB.encoder(), []
    for i, text in enumerate(tone_texts(number, seed, most_words=3), first):
        wave = tone_utterance(text, i)
        examples.append(_example(f"u{i:05d}", text, tuple(encode(text)), wave))
    return examples


def _example(name: str, text: str, targets: tuple[int, ...], wave: np.ndarray) -> Example:
    return Example(Utterance(name, None, text), text, targets, len(wave), lambda: wave)  # type: ignore[arg-type]


def plan(examples: Sequence[Example], recipe: Recipe) -> list[list[Example]]:
    """The microbatches of all steps, in order. The corpus is repeated as often as needed."""
    number, size = recipe.steps * recipe.grad_accum_steps, recipe.batch_size
    batches = [[examples[(b * size + i) % len(examples)] for i in range(size)] for b in range(number)]
    if not recipe.equal_lengths:
        return batches
    cut = []
    for batch in batches:
        n = min(e.num_samples for e in batch)
        few = min(len(e.targets) for e in batch)
        cut.append([_example(e.utterance.id, e.text, e.targets[:few], e.load()[:n]) for e in batch])
    return cut


def load_hf(folder: Path, recipe: Recipe) -> PreTrainedModel:
    """The checkpoint as transformers loads it."""
    with quiet():
        model = AutoModelForCTC.from_pretrained(folder, dtype=torch.float32)
    return model.double() if recipe.double else model


def our_batches(model: CTCModel, batches: Sequence[Sequence[Example]], recipe: Recipe) -> list[Batch]:
    """Collated as in training; masks drawn from (seed, batch number, id)."""
    c = model.hf.config
    spec = SpecAugment(c.hidden_size, 0.3, 5, 2, 0.0, 10, 0) if recipe.specaugment else None
    frontend = Frontend(model.num_frames, True, spec)
    collated = []
    for number, examples in enumerate(batches):
        batch = BatchDataset(examples, frontend)[0, range(len(examples))]
        if spec is not None:
            mask = torch.zeros(len(examples), model.num_frames(batch.waveforms.shape[1]), dtype=torch.bool)
            for row, frames, example in zip(mask, batch.frame_lengths.tolist(), examples, strict=True):
                row[:frames] = torch.from_numpy(spec.time_mask(frames, 0, number, example.utterance.id))
            batch = replace(batch, time_mask=mask)
        if recipe.score_padding:
            longest = model.num_frames(batch.waveforms.shape[1])
            batch = replace(batch, frame_lengths=torch.full_like(batch.frame_lengths, longest))
        collated.append(replace(batch, waveforms=batch.waveforms.double()) if recipe.double else batch)
    return collated


def our_parts(folder: Path, recipe: Recipe, scaler: GradScaler) -> TrainingParts:
    """Our model, optimizer and schedule from the checkpoint."""
    model = CTCModel(load_hf(folder, recipe), freeze_feature_encoder=False).train()
    optimizer = build_optimizer(model, OptimConfig(lr=recipe.lr, weight_decay=recipe.weight_decay))
    schedule = build_schedule(optimizer, recipe.warmup_steps, recipe.planned_steps)
    return TrainingParts(model, optimizer, schedule, scaler, torch.device("cpu"), contextlib.nullcontext)


def train_ours(folder: Path, batches: Sequence[Sequence[Example]], recipe: Recipe) -> Curve:
    """Our train_step over `batches`."""
    parts = our_parts(folder, recipe, GradScaler("cpu", enabled=False))
    state, curve, n = TrainState(), Curve(), recipe.grad_accum_steps
    collated = our_batches(parts.model, batches, recipe)
    for step in range(recipe.steps):
        with hf_modules() if recipe.hf_modules else contextlib.nullcontext():
            result = train_step(parts, collated[step * n : (step + 1) * n], recipe.max_grad_norm, lambda: None, step)
        finish_previous_step(result, parts, state, 1, lambda skipped: None)
        # in fp64 the step's own loss is not precise enough: it is an fp32 figure for the log
        loss = torch.cat(result.nats).mean() if recipe.double else result.loss
        curve.losses.append(loss.item())
        curve.grad_norms.append(result.grad_norm.item())
        curve.lrs.append(result.lr)
    curve.weights = {k: v.detach().clone() for k, v in parts.model.hf.state_dict().items()}
    return curve


class _Recorder(TrainerCallback):
    def __init__(self, curve: Curve) -> None:
        self.curve = curve

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if logs and "grad_norm" in logs:
            self.curve.grad_norms.append(logs["grad_norm"])
            self.curve.lrs.append(logs["learning_rate"])


class _Trainer(Trainer):
    """Keeps each microbatch's loss, since the logged loss is summed in fp32."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(*args, **kwargs)
        self.microbatch_losses.append(loss.detach())
        return loss

    def _clip_grad_norm(self, model: PreTrainedModel) -> Tensor:
        if not self.same_norm_order:
            return super()._clip_grad_norm(model)
        parameters = [p for g in self.optimizer.param_groups for p in g["params"]]
        return self.accelerator.clip_grad_norm_(parameters, self.args.max_grad_norm)


def train_hf(folder: Path, batches: Sequence[Sequence[Example]], recipe: Recipe) -> Curve:
    """transformers.Trainer on the same utterances, with its data loader, its feature extractor and its loop."""
    model = load_hf(folder, recipe)
    if recipe.double:
        model.loss_function = ctc_loss_in_double
    masks: list[Tensor] = []
    if recipe.specaugment:
        wrapped = CTCModel(load_hf(folder, recipe), freeze_feature_encoder=False)
        masks = [b.time_mask for b in our_batches(wrapped, batches, recipe) if b.time_mask is not None]
    rows = [{"waveform": e.load(), "labels": list(e.targets), "batch": b} for b, es in enumerate(batches) for e in es]
    with_mask = model.config.feat_extract_norm == "layer"
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=with_mask)

    def collate(features: list[dict[str, Any]]) -> dict[str, Tensor]:
        # normalised one by one, then padded, as in its CTC example
        alone = [{"input_values": extractor(f["waveform"], sampling_rate=16_000).input_values[0]} for f in features]
        inputs = extractor.pad(alone, padding=True, return_tensors="pt")
        inputs["input_values"] = inputs["input_values"].to(next(model.parameters()).dtype)
        longest = max(len(f["labels"]) for f in features)
        inputs["labels"] = torch.tensor([f["labels"] + [-100] * (longest - len(f["labels"])) for f in features])
        if masks:
            inputs["mask_time_indices"] = masks[features[0]["batch"]]
        return dict(inputs)

    curve = Curve()
    with tempfile.TemporaryDirectory() as scratch, silent():
        arguments = TrainingArguments(
            output_dir=scratch, use_cpu=True, max_steps=recipe.steps, per_device_train_batch_size=recipe.batch_size,
            gradient_accumulation_steps=recipe.grad_accum_steps, learning_rate=recipe.lr,
            weight_decay=recipe.weight_decay, max_grad_norm=recipe.max_grad_norm, optim="adamw_torch_fused",
            train_sampling_strategy="sequential", remove_unused_columns=False, dataloader_pin_memory=False,
            logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True, seed=0,
        )  # fmt: skip
        trainer = _Trainer(model, arguments, data_collator=collate, train_dataset=rows, callbacks=[_Recorder(curve)])
        trainer.microbatch_losses, trainer.same_norm_order = [], recipe.same_norm_order
        trainer.model.config.mask_time_prob = 0.0  # so that it draws no masks
        trainer.create_optimizer()
        trainer.lr_scheduler = transformers.get_linear_schedule_with_warmup(
            trainer.optimizer, recipe.warmup_steps, recipe.planned_steps
        )
        trainer.train()
    n, losses = recipe.grad_accum_steps, trainer.microbatch_losses
    curve.losses = [torch.stack(losses[i : i + n]).mean().item() for i in range(0, len(losses), n)]
    curve.weights = {k: v.detach().clone() for k, v in model.state_dict().items()}
    return curve


def ctc_loss_in_double(
    logits: Tensor, labels: Tensor, logit_lengths: Tensor, blank_token_id: int, reduction: str = "mean", **kwargs: Any
) -> Tensor:
    """transformers' CTC loss without its cast to fp32."""
    real = (labels != -100) & (labels != blank_token_id)
    log_probs = F.log_softmax(logits, dim=-1).transpose(0, 1)
    targets, target_lengths = labels.masked_select(real), real.sum(-1)
    return F.ctc_loss(log_probs, targets, logit_lengths, target_lengths, blank=blank_token_id, reduction=reduction)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Suppresses what the Trainer prints."""
    with quiet(), warnings.catch_warnings(), contextlib.redirect_stdout(None):
        warnings.simplefilter("ignore")
        yield
