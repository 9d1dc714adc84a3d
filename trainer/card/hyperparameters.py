"""The model card's list of hyper-parameters. It is made from the whole configuration, so that none is forgotten."""

from __future__ import annotations

from typing import Any

from data.config import options_marked
from trainer.config.as_json import flatten
from trainer.config.schema import Config

PRECISIONS = {"fp32": "none (fp32)", "bf16": "bf16 autocast", "fp16": "Native AMP (fp16, GradScaler)"}
TOLD_UNDER_OTHER_NAMES = {
    "optim.lr", "optim.warmup_steps", "optim.weight_decay", "optim.max_grad_norm", "batching.batch_size",
    "batching.max_batch_seconds", "eval.batch_size", "eval.max_batch_seconds", "seed", "precision", "auto_precision",
    "train.epochs", "train.grad_accum_steps", "train.eval_every", "train.save_every", "train.patience",
    "augment.speeds",
}  # fmt: skip
"""Options that the card lists under the reference card's names, or together with their meaning."""
NOT_HYPERPARAMETERS = {
    "preset", "name", "seeds", "runs_dir", "cache_dir", "resume", "overwrite", "allow_changes",  # about the run as such
    "check", "card_memory", "processes", "backend",
    "profile",
    "report", "push_to_hub", "train.log_every", "train.save_total_limit",  # about what it leaves
    "device", "batching.num_workers", "batching.worker_timeout", "corpus.store", "strict",  # change no number
    "model.pretrained", "model.revision", "model.family", "model.size",  # the card's own sections on the model
}  # fmt: skip


def hyperparameters(config: Config, results: dict[str, Any], model_config: dict[str, Any]) -> str:
    """All hyper-parameters as Markdown. Those of the reference card come first, under its names, then all others.

    `model_config` is the exported model's configuration. It has the values that the options left to the checkpoint.
    """
    lines = _of_the_reference_card(config, results) | _others(config, model_config, TOLD_UNDER_OTHER_NAMES)
    lines["ctc_loss_reduction"] = "each utterance's loss over its units, then the mean over the step's utterances"
    return _as_list(lines)


def options_of(config: Config, model_config: dict[str, Any]) -> str:
    """All hyper-parameters under the names of the options; for weights of a run that is not over."""
    return _as_list(_others(config, model_config, set()))


def _others(config: Config, model_config: dict[str, Any], told: set[str]) -> dict[str, Any]:
    lines = {}
    places = {f"corpus.{name}" for name in options_marked("place", config.corpus)}  # the card's own sections on data
    for name, value in flatten(config).items():
        if name in told | NOT_HYPERPARAMETERS | places:
            continue
        if value is None and name.startswith("model."):
            value = model_config.get(name.removeprefix("model."))
        lines[name.removeprefix("model.")] = _shown(value)
    return lines


def _as_list(lines: dict[str, Any]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in lines.items())


def _of_the_reference_card(config: Config, results: dict[str, Any]) -> dict[str, Any]:
    t, b, o, e = config.train, config.batching, config.optim, config.eval
    batch = "any number" if b.batch_size is None else f"{b.batch_size}"
    batch += "" if b.max_batch_seconds is None else f", at most {b.max_batch_seconds:g} s padded"
    return {
        "learning_rate": o.lr,
        "train_batch_size": batch,
        "gradient_accumulation_steps": t.grad_accum_steps,
        "eval_batch_size": f"{e.batch_size}, at most {e.max_batch_seconds:g} s padded",
        "seed": config.seed,
        "optimizer": f"AdamW with betas=(0.9,0.999) and epsilon=1e-08, "
        f"weight_decay={o.weight_decay:g} (not on biases and norms)",
        "lr_scheduler_type": "linear",
        "lr_scheduler_warmup_steps": o.warmup_steps,
        "num_epochs": t.epochs,
        "training_steps": f"{results['steps']} ({results['epochs']:.2f} epochs, {results['num_skipped']} skipped)",
        "max_grad_norm": o.max_grad_norm,
        "mixed_precision_training": PRECISIONS[results["precision"]],
        "speed_perturbation": _shown(config.augment.speeds),
        "eval_steps": t.eval_every or "at the end only",
        "save_steps": t.save_every or "at the end only",
        "patience": "none" if t.patience is None else f"{t.patience} evaluations",
    }  # fmt: skip


def _shown(value: Any) -> Any:
    match value:
        case None | ():
            return "none"
        case bool():
            return "yes" if value else "no"
        case tuple():
            return ", ".join(str(_shown(part)) for part in value)
    return value
