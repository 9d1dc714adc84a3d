"""The model card: the sections and the table of the reference card, filled from what the run knows.

Metadata goes through huggingface_hub's own classes, so that `model-index` reads back as it was written.
"""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from data.prepare import Example
from data.utterance import SAMPLE_RATE
from models.pretrained import LoadReport
from trainer.reading import Data
from trainer.config import Config
from trainer.disk import write_text
from trainer.runlog import read_records

PRECISIONS = {"fp32": "none (fp32)", "bf16": "bf16 autocast", "fp16": "Native AMP (fp16, GradScaler)"}
PACKAGES = ("torch", "transformers", "datasets", "tokenizers", "jiwer", "soundfile", "soxr")


def write_card(
    run_dir: Path,
    config: Config,
    data: Data,
    results: dict[str, Any],
    load_report: LoadReport | None,
    argv: Sequence[str],
) -> None:
    """Write model/README.md; `results` is what results.json will hold."""
    records = read_records(run_dir / "metrics.jsonl")
    card_data = ModelCardData(
        library_name="transformers",
        pipeline_tag="automatic-speech-recognition",
        tags=["automatic-speech-recognition", "ctc", "speech"],
        base_model=config.model.pretrained
        if config.model.pretrained and not Path(config.model.pretrained).exists()
        else None,
        metrics=["wer", "cer"],
        model_name=config.name,
        eval_results=_eval_results(data.corpus.title, results),
    )
    sections = [
        f"---\n{card_data.to_yaml()}\n---",
        f"# {config.name}",
        _summary(config, data, results),
        "## Model description",
        _description(config, data, results, load_report),
        "## Intended uses & limitations",
        _limits(config, data),
        "## Training and evaluation data",
        _data(data),
        "## Training procedure",
        f"Command:\n\n```\npython -m trainer.run {shlex.join(argv)}".rstrip() + "\n```",
        "### Training hyperparameters",
        _hyperparameters(config, results),
        "### Training results",
        _table(records),
        "### Results by split",
        _splits(results),
        "### Framework versions",
        "\n".join(f"- {name} {importlib.metadata.version(name)}" for name in PACKAGES)
        + f"\n- Python {platform.python_version()}",
    ]
    card = ModelCard("\n\n".join(sections) + "\n")
    write_text(run_dir / "model" / "README.md", card.content)


def _eval_results(title: str, results: dict[str, Any]) -> list[EvalResult]:
    found = []
    for split, record in results["splits"].items():
        if record["weights"] != results["weights"]:
            continue  # other weights than those in this folder
        for metric in ("wer", "cer"):
            if record[metric] is not None:
                found.append(EvalResult(
                    task_type="automatic-speech-recognition", task_name="Speech Recognition", dataset_type="speech",
                    dataset_name=title, dataset_split=split, metric_type=metric, metric_name=metric.upper(),
                    metric_value=record[metric],
                ))  # fmt: skip
    return found


def _summary(config: Config, data: Data, results: dict[str, Any]) -> str:
    tuned = config.model.pretrained is not None
    origin = f"is a fine-tuned version of {_origin(config)}" if tuned else "was trained from random weights"
    loss = "none" if results["loss"] is None else f"{results['loss']:.4f}"
    return (
        f"This model {origin} on {data.corpus.title}.\n"
        f"It achieves the following results on the evaluation set ({results['headline']}, "
        f"{results['splits'][results['headline']]['num_utterances']} utterances):\n\n"
        f"- Loss: {loss}\n- Wer: {_rate(results['wer'])} ({results['num_errors']} errors of "
        f"{results['num_reference_words']} words)\n- Cer: {_rate(results['cer'])}"
    )


def _origin(config: Config) -> str:
    name = str(config.model.pretrained)
    if Path(name).exists():
        return f"the local checkpoint `{Path(name).name}`"
    commit = f" (commit {config.model.revision})" if config.model.revision else ""
    return f"[{name}](https://huggingface.co/{name}){commit}"


def _description(config: Config, data: Data, results: dict[str, Any], report: LoadReport | None) -> str:
    model, vocab = config.model, data.vocab
    encoder = model.family if model.pretrained is None else Path(str(model.pretrained)).name
    frozen = "not trained (frozen)" if model.freeze_feature_encoder else "trained with the rest"
    lines = [
        f"A {encoder} encoder of {results['num_parameters']:,} parameters with a linear CTC head of {len(vocab)} "
        f"units: {_units(data)}. Frames are 20 ms apart; the best path is decoded greedily, without a language model.",
        f"The convolutional feature encoder was {frozen}.",
    ]
    if report is not None:
        lines.append(f"From the checkpoint: {report.describe()}.")
    return "\n\n".join(lines)


def _units(data: Data) -> str:
    shown = " ".join(f"`{token}`" for token in data.vocab.tokens[:48])
    return shown + (" ..." if len(data.vocab) > 48 else "") + f"; `{data.vocab.blank}` is the blank"


def _limits(config: Config, data: Data) -> str:
    lengths = sorted(e.num_samples / SAMPLE_RATE for e in data.train)
    kind = "synthetic speech, so expect little of human voices" if "synthetic" in data.corpus.title else "this corpus"
    return (
        f"For 16 kHz mono speech like the training data: {kind}, utterances of {lengths[0]:.1f} to {lengths[-1]:.1f} s "
        f"(median {lengths[len(lengths) // 2]:.1f} s). It writes text as the normaliser "
        f"`{config.corpus.normalizer}` does: no punctuation, one case. Other languages, channels, noise and spelling "
        "conventions were not tested. Words are spelled from sound alone: without a language "
        "model, rare words come out as they are heard."
    )


def _data(data: Data) -> str:
    rows = ["| Split | Used for | Utterances | Hours | Speakers |", "|---|---|---|---|---|"]
    rows.append(_data_row(data.corpus.splits.train, "training", data.train))
    rows += [_data_row(split, "evaluation", examples) for split, examples in data.evaluation.items()]
    text = f"{data.corpus.title[0].upper()}{data.corpus.title[1:]}.\n\n" + "\n".join(rows)
    text += f"\n\n{data.drops.describe()}." if data.drops.num_dropped else "\n\nNo training utterance was left out."
    for leak in data.leaks:
        text += f" {leak}."
    for split, unseen in data.unseen.items():
        if unseen:
            text += f" In {split}, {unseen.total()} characters never occur in training: they count as errors."
    return text


def _data_row(split: str, use: str, examples: Sequence[Example]) -> str:
    speakers = {e.utterance.speaker for e in examples if e.utterance.speaker is not None}
    hours = sum(e.num_samples for e in examples) / SAMPLE_RATE / 3600
    return f"| {split} | {use} | {len(examples)} | {hours:.2f} | {len(speakers) or 'not known'} |"


def _hyperparameters(config: Config, results: dict[str, Any]) -> str:
    t, b, o = config.train, config.batching, config.optim
    batch = b.batch_size if b.max_batch_seconds is None else f"{b.batch_size}, at most {b.max_batch_seconds:g} s padded"
    lines = {
        "learning_rate": o.lr,
        "train_batch_size": batch,
        "gradient_accumulation_steps": t.grad_accum_steps,
        "eval_batch_size": config.eval.batch_size,
        "seed": config.seed,
        "optimizer": f"AdamW with betas=(0.9,0.999) and epsilon=1e-08, "
        f"weight_decay={o.weight_decay:g} (not on biases and norms)",
        "lr_scheduler_type": "linear",
        "lr_scheduler_warmup_steps": o.warmup_steps,
        "num_epochs": t.epochs,
        "training_steps": f"{results['steps']} ({results['num_skipped']} skipped)",
        "max_grad_norm": o.max_grad_norm,
        "mixed_precision_training": PRECISIONS[results["precision"]],
        "speed_perturbation": ", ".join(f"{s:g}" for s in config.augment.speeds) or "none",
        "device": results["device"],
        "train_seconds": round(results["train_seconds"], 1),
        "audio_seconds_per_second": round(results["audio_seconds_per_second"], 1),
    }  # fmt: skip
    return "\n".join(f"- {name}: {value}" for name, value in lines.items())


def _table(records: Sequence[dict[str, Any]]) -> str:
    """The reference card's table: the last logged training loss beside each evaluation."""
    rows = ["| Training Loss | Epoch | Step | Validation Loss | Wer |", "|:---:|:---:|:---:|:---:|:---:|"]
    shown = "No log"
    for record in records:
        shown = _rate(record["train/loss"]) if "train/loss" in record else shown
        if "eval/wer" in record:
            scores = f"{_rate(record['eval/loss'])} | {_rate(record['eval/wer'])}"
            rows.append(f"| {shown} | {record['epoch']:.2f} | {record['step']} | {scores} |")
    return "\n".join(rows)


def _splits(results: dict[str, Any]) -> str:
    rows = ["| Split | Utterances | WER | CER | Errors | Words | Weights |", "|---|---|---|---|---|---|---|"]
    for split, r in results["splits"].items():
        note = f" ({r['note']})" if "note" in r else ""
        figures = f"{_rate(r['wer'])} | {_rate(r['cer'])} | {r['num_errors']} | {r['num_reference_words']}"
        rows.append(f"| {split}{note} | {r['num_utterances']} | {figures} | {r['weights']} |")
    return "\n".join(rows)


def _rate(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


def versions() -> dict[str, str]:
    """What ran: packages, Python, CUDA."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {**found, "python": platform.python_version(), "cuda": str(torch.version.cuda)}
