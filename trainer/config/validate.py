"""Whether a configuration's values are possible, and what the options that were left open come to."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from data.text.casing import rules_of
from models.config import LORA_TARGETS, ModelConfig
from trainer.config.schema import Config
from trainer.errors import ConfigError

MOST = 2**31 - 1
"""The largest count that is accepted. A larger one is a typing error."""
MOST_EPOCHS = 100_000
MOST_SEED = 2**63 - 1
DEFAULT_SEED = 42
"""Config.seed where nobody chose one."""


def validate(config: Config, *, training: bool = True) -> Config:
    """`config` itself, if all its values are possible. ConfigError names the option that is not, and the remedy."""
    _refuse_folders(config)
    t, b, o = config.train, config.batching, config.optim
    for name, value, least, most in [
        ("train.epochs", t.epochs, 1, MOST_EPOCHS),
        ("train.max-steps", t.max_steps, 1, MOST),
        ("train.grad-accum-steps", t.grad_accum_steps, 1, MOST),
        ("train.log-every", t.log_every, 1, MOST),
        ("train.eval-every", t.eval_every, 0, MOST),
        ("train.save-every", t.save_every, 0, MOST),
        ("train.save-total-limit", t.save_total_limit, 1, MOST),
        ("train.max-skips", t.max_skips, 1, MOST),
        ("train.patience", t.patience, 1, MOST),
        ("batching.batch-size", b.batch_size, 1, MOST),
        ("batching.num-workers", b.num_workers, 0, 256),
        ("batching.frame-grid", b.frame_grid, 1, 10_000),
        ("batching.worker-timeout", b.worker_timeout, 0, MOST),
        ("eval.batch-size", config.eval.batch_size, 1, MOST),
        ("optim.warmup-steps", o.warmup_steps, 0, MOST),
        ("optim.weight-decay", o.weight_decay, 0.0, MOST),
        ("model.freeze-layers", config.model.freeze_layers, 0, 1000),
        ("model.lora-rank", config.model.lora_rank, 1, 1024),
        ("model.mask-time-min-masks", config.model.mask_time_min_masks, 0, MOST),
        ("model.mask-feature-min-masks", config.model.mask_feature_min_masks, 0, MOST),
        ("model.mask-time-length", config.model.mask_time_length, 1, MOST),
        ("model.mask-feature-length", config.model.mask_feature_length, 1, MOST),
        ("profile", config.profile, 0, 1000),
        ("overfit", config.overfit, 1, 1000),
        ("seed", config.seed, 0, MOST_SEED),
        ("corpus.seed", getattr(config.corpus, "seed", 0), 0, MOST_SEED),
    ]:
        if value is not None and not least <= value <= most:  # NaN fails both comparisons
            raise ConfigError(f"--{name} {value} must be a number from {least} to {most}.")
    for name, amount in [
        ("optim.lr", o.lr),
        ("optim.max-grad-norm", o.max_grad_norm),
        ("model.lora-alpha", config.model.lora_alpha),
        ("card-memory", config.card_memory),
        ("batching.max-batch-seconds", b.max_batch_seconds),
        ("eval.max-batch-seconds", config.eval.max_batch_seconds),
        ("corpus.max-seconds", config.corpus.max_seconds),
        ("corpus.max-eval-seconds", config.corpus.max_eval_seconds),
    ]:
        if amount is not None and not 0 < amount < float("inf"):
            raise ConfigError(f"--{name} {amount} must be a positive number.")
    if b.batch_size is None and b.max_batch_seconds is None:
        raise ConfigError("A batch needs a limit: give --batching.batch-size or --batching.max-batch-seconds.")
    if any(not 0.5 <= s <= 2.0 for s in config.augment.speeds):
        raise ConfigError(f"--augment.speeds {config.augment.speeds}: factors from 0.5 to 2 make sense.")
    model = config.model
    for name in ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "final_dropout",
                 "layerdrop", "lora_dropout", "mask_time_prob", "mask_feature_prob"):  # fmt: skip
        share = getattr(model, name)
        if share is not None and not 0 <= share < 1:
            raise ConfigError(f"--model.{name.replace('_', '-')} {share} must be in [0, 1).")
    if model.size is not None and model.pretrained is not None:
        raise ConfigError("--model.pretrained and --model.size exclude each other: a checkpoint has its size.")
    missing = [what for what, given in config.corpus.required(training) if not given]
    if model.size is None and model.pretrained is None:
        missing.append(
            "an encoder: --model.pretrained HUB_ID_OR_FOLDER, or random weights by --model.size {tiny,base,large} with "
            "--model.family"
        )
    if problem := config.corpus.problem():
        raise ConfigError(f"{problem}.")
    if missing:
        raise ConfigError(f"Preset {config.preset} needs {'; '.join(missing)}.")
    _refuse_frozen(model)
    if model.target_lang is not None and model.size is not None:
        raise ConfigError("--model.target-lang is a language of a multilingual checkpoint: leave out --model.size.")
    language = config.corpus.language
    if language and not re.fullmatch(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*", language):
        raise ConfigError(f"--corpus.language {language!r} must be an ISO 639 code, as in tr or tr-TR.")
    if rules_of(language) and config.corpus.normalizer == "hf-timit":
        raise ConfigError(
            f"--corpus.language {language} has its own rules of case, which --corpus.normalizer hf-timit does not "
            "know: choose plain or plain-upper."
        )
    if config.push_to_hub is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", config.push_to_hub):
        raise ConfigError(f"--push-to-hub {config.push_to_hub!r} must be OWNER/NAME, as in speech-lab/my-model.")
    if not re.fullmatch(r"auto|cpu(:0)?|cuda(:[0-9]{1,3})?", config.device):
        meant = " Did you mean cuda?" if config.device.lower().startswith(("gpu", "cuda", "nvidia")) else ""
        raise ConfigError(f"--device {config.device}: give cpu, cuda, cuda:1, ... or auto.{meant}")
    if config.model.cuda_graphs and config.device.startswith("cpu"):
        raise ConfigError("--model.cuda-graphs needs CUDA: leave it out on a CPU.")
    if config.model.cuda_graphs and config.parallel == "fsdp":
        raise ConfigError(
            "--model.cuda-graphs and --parallel fsdp exclude each other: with fsdp weights are gathered and freed in "
            "every pass. Leave one of them out."
        )
    if config.model.attention and config.device.startswith("cpu"):
        raise ConfigError(f"--model.attention {config.model.attention} needs CUDA: leave it out on a CPU.")
    if config.precision == "fp16" and config.device.startswith("cpu"):
        raise ConfigError("--precision fp16 needs CUDA: on a CPU use fp32 (or bf16, which is slower there).")
    if training and config.strict and not (config.corpus.store or config.corpus.has_digests):
        raise ConfigError("--strict compares recordings as they are stored: leave out --corpus.no-store.")
    _refuse_trials(config)
    if config.card_memory is not None and not config.check:
        raise ConfigError("--card-memory judges a run that is not begun: give --check too.")
    if config.seeds is not None:
        read_seeds(config.seeds)
        if config.seed != DEFAULT_SEED:
            raise ConfigError(f"--seed {config.seed} and --seeds {config.seeds} exclude each other: leave out one.")
    if config.resume and config.overwrite:
        raise ConfigError("--resume and --overwrite exclude each other: one continues the run, one deletes it.")
    return config


def read_seeds(text: str) -> tuple[int, ...]:
    """The numbers of `1,2,3`; ConfigError where they are none, or one stands twice."""
    words = text.split(",")
    if not all(word.isascii() and word.isdigit() and int(word) <= MOST_SEED for word in words):
        raise ConfigError(f"--seeds {text}: give whole numbers with commas between them and no spaces, as in 1,2,3.")
    seeds = tuple(map(int, words))
    if twice := [seed for seed in seeds if seeds.count(seed) > 1]:
        raise ConfigError(f"--seeds {text}: {twice[0]} stands there twice, and would train the same run again.")
    return seeds


def _refuse_frozen(model: ModelConfig) -> None:
    """ConfigError where parts of the encoder cannot be left as they are in the way that the options ask for."""
    given = [
        name
        for name, is_given in (
            ("--model.freeze-layers", model.freeze_layers > 0),
            ("--model.lora-rank", model.lora_rank is not None),
            ("--model.adapter-only", model.adapter_only),
        )
        if is_given
    ]
    if given and (model.size is not None or model.freeze_feature_encoder is False):
        raise ConfigError(
            f"{given[0]} leaves most of a checkpoint as it is: leave out --model.size and "
            "--model.no-freeze-feature-encoder."
        )
    if model.adapter_only and len(given) > 1:
        raise ConfigError(
            f"--model.adapter-only trains a checkpoint's adapter and head and nothing else: leave out {given[0]}."
        )
    if unknown := [name for name in model.lora_targets or () if name not in LORA_TARGETS]:
        raise ConfigError(f"--model.lora-targets {unknown[0]}: choose from {', '.join(LORA_TARGETS)}.")
    defaults = ModelConfig()
    for name in ("lora_alpha", "lora_targets", "lora_dropout"):
        if model.lora_rank is None and getattr(model, name) != getattr(defaults, name):
            raise ConfigError(f"--model.{name.replace('_', '-')} needs --model.lora-rank.")


def _refuse_trials(config: Config) -> None:
    """ConfigError where a trial, which is no run, is asked for together with what only a run can do."""
    trials = [
        name
        for name, is_asked in (
            ("--lr-finder", config.lr_finder),
            ("--overfit", config.overfit is not None),
            ("--check", config.check),
        )
        if is_asked
    ]
    if len(trials) > 1:
        raise ConfigError(f"{trials[0]} and {trials[1]} exclude each other: each is a command of its own.")
    if not trials or trials[0] == "--check":
        return
    for name, is_given in (
        ("--resume", config.resume),
        ("--overwrite", config.overwrite),
        ("--seeds", config.seeds is not None),
        ("--profile", config.profile > 0),
        ("--push-to-hub", config.push_to_hub is not None),
    ):
        if is_given:
            raise ConfigError(f"{trials[0]} begins no run: leave out {name}.")


def _refuse_folders(config: Config) -> None:
    """ConfigError for a folder without a name, and for a name that leads out of the folder of all runs."""
    for option, folder in (("runs-dir", config.runs_dir), ("cache-dir", config.cache_dir)):
        if not folder.strip():
            raise ConfigError(f"--{option} is empty. Name a folder; a dot is the current one.")
    parts = Path(config.name).parts
    if config.name and (not parts or Path(config.name).is_absolute() or ".." in parts or not config.name.strip()):
        raise ConfigError(
            f"--name {config.name} must be a folder in {config.runs_dir}: give a plain name. --runs-dir says where "
            "runs lie."
        )


# By model size; None stands for a checkpoint. The rate for random weights falls as the width grows (144 to 1024).
LEARNING_RATES = {None: 1e-4, "tiny": 2e-3, "demo": 2e-3, "base": 4e-4, "large": 3e-4}


def resolve(config: Config) -> Config:
    """`config` with the options that were left open (None) replaced by values, as far as no data is needed for this.

    The warm-up is chosen later, since it needs the number of steps.
    """
    random_weights = config.model.size is not None
    model = replace(
        config.model,
        freeze_feature_encoder=config.model.keeps_encoder
        or (not random_weights if config.model.freeze_feature_encoder is None else config.model.freeze_feature_encoder),
    )
    lr = LEARNING_RATES[config.model.size] if config.optim.lr is None else config.optim.lr
    return replace(config, model=model, optim=replace(config.optim, lr=lr), name=config.name or config.preset)
