"""A run's whole configuration: frozen dataclasses, without torch. trainer.config.validate checks it,
trainer.config.as_json reads and writes it as JSON.

Some parts stand beside the code that they configure: data.config, data.corpora, models.config. An option that is `None`
is chosen for the user: trainer.config.validate.resolve replaces most of them by a value, so that config.json holds what
was really used. The text under it says "auto:" and what is chosen, or "none:" and what is then left out;
trainer.cli.options reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from data.config import AugmentConfig, BatchingConfig, CorpusConfig
from models.config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW (betas 0.9/0.999, eps 1e-8) under linear warm-up and linear decay to 0."""

    lr: float | None = None
    """Peak learning rate; auto: 1e-4 for a checkpoint, else by size: 2e-3 (tiny, demo), 4e-4 (base), 3e-4 (large)."""

    warmup_steps: int | None = None
    """Steps from 0 to the peak; auto: a tenth of the planned steps, at most 1000."""

    weight_decay: float = 0.005
    """AdamW's decay, on matrices and convolutions only: never on biases and norms."""

    max_grad_norm: float = 1.0
    """Clip the gradient's global L2 norm at this."""

    moments: Literal["fp32", "8bit"] = "fp32"
    """AdamW's two moments of each weight: 8 bytes of memory in fp32, 2 in 8bit, which needs bitsandbytes."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long training takes, and at which steps something else happens."""

    epochs: int = 20
    """Passes over the training split."""

    max_steps: int | None = None
    """Cap on the planned optimizer steps, where the schedule decays to 0; none: all steps of the epochs."""

    grad_accum_steps: int = 1
    """Microbatches per optimizer step; the loss is averaged over all their utterances."""

    log_every: int = 10
    """Steps between records of the training loss."""

    eval_every: int = 100
    """Steps between evaluations; 0: only at the end."""

    save_every: int = 400
    """Steps between checkpoints; 0: only at the end."""

    save_total_limit: int = 3
    """Checkpoints kept, newest first; `best` is kept beside them."""

    max_skips: int = 25
    """Stop after this many steps in a row whose loss or gradient was not finite."""

    patience: int | None = None
    """Stop after this many evaluations without a lower WER; none: never."""

    export: Literal["best", "last"] | None = None
    """Weights to score and export: the lowest WER or the last step's; auto: best with patience or a test split."""


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """How evaluation is batched. Neither option changes a transcript of layer-norm encoders."""

    batch_size: int = 16
    """Utterances per batch at most; encoders whose group norm sees padding take equal lengths only."""

    max_batch_seconds: float = 160.0
    """Padded audio seconds per batch at most."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Fine-tune a speech encoder for recognition with CTC."""

    preset: str = field(default="demo", metadata={"preset": True})
    corpus: CorpusConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of training; auto: fp32 on a CPU, on CUDA bf16 (timit-hf, or a GPU without bf16: fp16). fp16 uses
    GradScaler."""

    auto_precision: Literal["fp32", "bf16", "fp16"] = field(default="bf16", metadata={"preset": True})
    """The precision that `auto` means on CUDA; the preset sets it."""

    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto takes CUDA where there is one."""

    parallel: Literal["auto", "ddp", "fsdp"] = "auto"
    """What each of several processes (torchrun) holds: the whole model (ddp), or its share of weights, gradients and
    moments (fsdp); auto: ddp, unless weights, gradients and moments do not fit one device."""

    processes: int = field(default=1, metadata={"preset": True})
    """Processes that train together, as torchrun says."""

    backend: str = field(default="", metadata={"preset": True})
    """What sums their gradients; empty for one process."""

    seed: int = 42
    """Batch order, masks, dropout and random weights follow from this number."""

    seeds: str | None = None
    """Train once with each of these seeds, as in 1,2,3: runs NAME-seed1 and so on, then mean and spread in
    NAME-seeds.json; none: one run, with the seed above."""

    runs_dir: str = "runs"
    """Folder of all runs, for tensorboard --logdir."""

    name: str = ""
    """This run's folder in runs_dir; auto: the preset's name."""

    cache_dir: str = "cache"
    """Folder for synthesised corpora and decoded audio."""

    resume: bool = False
    """Go on from the newest checkpoint; start at step 0 when there is none."""

    overwrite: bool = False
    """Replace the run that the folder holds."""

    allow_changes: tuple[str, ...] = ()
    """Differences from the checkpoint's run that --resume accepts, by the names that it prints."""

    deterministic: bool = False
    """The same bits every time on CUDA too: slower, and CTC is computed on the CPU. Runs on a CPU always have this."""

    strict: bool = False
    """Refuse a corpus with the same speaker or the same audio in training and evaluation, instead of warning."""

    report: bool = True
    """Write report.html when the run is over: all utterances to read, most to hear; takes about 50 ms for each."""

    push_to_hub: str | None = None
    """Upload the finished model to this hub repository (OWNER/NAME), private if it is new; none: nowhere."""

    profile: int = 0
    """Profile this many steps after the first five: profile.json, a trace, and profile.txt, times by kind of kernel."""

    check: bool = False
    """Prepare the run but do not train: show counts, drops, leaks, memory and time to expect; exit code 0 or 2."""

    lr_finder: bool = False
    """Try 100 steps at rates from very low to very high, and suggest one; no run is begun (docs/why.md)."""

    overfit: int | None = None
    """Try whether so many utterances can be learnt by heart, and say what stands in the way; no run is begun; none: a
    run."""

    card_memory: float | None = None
    """With --check: judge whether the run fits into a CUDA card of so many GB, which need not be here; none: no."""

    @property
    def run_dir(self) -> Path:
        return Path(self.runs_dir) / (self.name or self.preset)
