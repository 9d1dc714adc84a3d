"""The prose of the model card: what the model is, what it was trained on and how. Every function returns Markdown."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from data.examples.example import Example
from data.examples.leaks import describe_leaks
from data.examples.table import lengths_of, speakers_in, texts_in
from data.text.spelling import AS_IS
from data.utterance import SAMPLE_RATE
from models.checkpoints.lora import lora_of
from models.checkpoints.weights import LoadReport
from trainer.config.schema import Config
from trainer.prepare.corpus import PreparedCorpus
from trainer.prepare.vocabulary.unseen import pieces_of
from trainer.rundir.model_source import model_name
from trainer.scoring.metrics import units_of, units_written

PACKAGES = ("torch", "transformers", "datasets", "tokenizers", "jiwer", "soundfile", "soxr")


def summary(config: Config, data: PreparedCorpus, results: dict[str, Any]) -> str:
    tuned = config.model.pretrained is not None
    origin = f"is a fine-tuned version of {_origin(config)}" if tuned else "was trained from random weights"
    record = results["splits"][results["headline"]]
    units = units_of(record)
    interval = format_interval(record.get(f"{units.main}_interval"))
    num_unread = record.get("num_undecodable", 0)
    unread = f"; {num_unread} utterances without readable audio count as deletions" if num_unread else ""
    trust = f"; 95 % interval {interval} over {record[f'{units.main}_interval_over']}" if interval else ""
    rule = f" [{record['scoring']}]" if "scoring" in record else ""
    others = "".join(
        f"\n- {metric.capitalize()}: {format_rate(results[metric])}" for metric in ("cer",) if metric in results
    )
    protocol = f"{record['protocol']}, " if "protocol" in record else ""
    return (
        f"This model {origin} on {data.corpus.title}.\n"
        f"It achieves the following results on the evaluation set ({results['headline']}, {protocol}"
        f"{record['num_utterances']} utterances) with {weights_scored(config, data, results)}:\n\n"
        f"- Loss: {format_loss(results['loss'])}\n- {units.main.capitalize()}{rule}: "
        f"{format_rate(results[units.main])} ({results['num_errors']} errors "
        f"of {results[f'num_reference_{units.name}']} {units.name}){trust}{unread}{others}"
    )


def weights_scored(config: Config, data: PreparedCorpus, results: dict[str, Any]) -> str:
    """Which weights the figures are of, and whether the split that selected them flatters them."""
    if results["weights"] != "best":
        return "the weights of the last step"
    monitor, label = data.corpus.splits.monitor, units_of(results).label
    said = f"the weights of step {results['best']['step']}, which had the lowest {label} on {monitor} during training"
    if monitor == results["headline"]:
        return f"{said}. The same split selected the weights, so these figures are optimistic"
    return said


def _origin(config: Config) -> str:
    name = str(config.model.pretrained)
    if Path(name).exists():
        return f"the local checkpoint `{model_name(name)}`"
    commit = f" (commit {config.model.revision})" if config.model.revision else ""
    return f"[{name}](https://huggingface.co/{name}){commit}"


def description(config: Config, data: PreparedCorpus, results: dict[str, Any], report: LoadReport | None) -> str:
    model, vocab = config.model, data.vocab
    encoder = model.family if model.pretrained is None else Path(str(model.pretrained)).name
    frozen = "not trained (frozen)" if model.freeze_feature_encoder else "trained with the rest"
    lines = [
        f"A {encoder} encoder of {results['num_parameters']:,} parameters with a linear CTC head of {len(vocab)} "
        f"units: {_units(data)}. Frames are 20 ms apart; the best path is decoded greedily, without a language model.",
        f"The convolutional feature encoder was {frozen}."
        + (" Only the language's adapter and the head were trained." if model.adapter_only else "")
        + (
            f" The first {model.freeze_layers} transformer layers were not trained either."
            if model.freeze_layers
            else ""
        ),
    ]
    if (lora := lora_of(model)) is not None:
        lines.append(
            f"Low-rank updates (LoRA) of rank {lora.rank} and alpha {lora.alpha:g} were trained on "
            f"{', '.join(f'`{name}`' for name in lora.targets)}, together with the head, and merged into these "
            "weights. Nothing else of the checkpoint was changed."
        )
    if vocab.spelling != AS_IS:
        lines.append(f"Text is written {vocab.spelling.describe()}, as the checkpoint's units are.")
    if data.language is not None:
        lines.append(f"The adapter is that of `{data.language}` (`target_lang`).")
    if report is not None:
        lines.append(f"From the checkpoint: {report.describe()}.")
    return "\n\n".join(lines)


def _units(data: PreparedCorpus) -> str:
    shown = " ".join(f"`{token}`" for token in data.vocab.tokens[:48])
    return shown + (" ..." if len(data.vocab) > 48 else "") + f"; `{data.vocab.blank}` is the blank"


def usage(name: str) -> str:
    return (
        "```python\nfrom transformers import pipeline\n\n"
        f'recognise = pipeline("automatic-speech-recognition", "PATH/TO/THIS/FOLDER")  # {name}\n'
        'print(recognise("speech.wav")["text"])\n```'
    )


def limits(config: Config, data: PreparedCorpus) -> str:
    """For which speech the figures hold, as the training data show."""
    lengths = sorted((lengths_of(data.train) / SAMPLE_RATE).tolist())
    if "synthetic" in data.corpus.title:
        kind = "synthetic speech, so expect little of human voices"
    else:
        kind = config.corpus.kind_of_speech()
    code = config.corpus.language_code()
    language = {"en": "English", None: "not stated by the corpus"}.get(code, f"`{code}`")
    return (
        f"For 16 kHz mono speech like the training data: {kind}, utterances of {lengths[0]:.1f} to {lengths[-1]:.1f} s "
        f"(median {lengths[len(lengths) // 2]:.1f} s). Language: {language}. {_what_is_written(config, data)}"
    )


def _what_is_written(config: Config, data: PreparedCorpus) -> str:
    if data.vocab.phonemes:
        written = units_written(data.vocab).name
        return (
            f"It writes {written} with spaces between them, no words. Other languages, channels, noise, longer "
            f"recordings and other sets of {written} were not tested."
        )
    return (
        f"It writes text as the normaliser `{config.corpus.normalizer}` does: no punctuation, one case. Other "
        "languages, channels, noise, longer recordings and spelling conventions were not tested. Words are spelled "
        "from sound alone: without a language model, rare words come out as they are heard."
    )


def describe_data(data: PreparedCorpus) -> str:
    """Counts, hours and speakers of every split; what was dropped, converted, leaked and never seen."""
    rows = [
        f"| Split | Used for | Utterances | Hours | {units_written(data.vocab).name.capitalize()} | Speakers |",
        "|---|---|---|---|---|---|",
    ]
    rows.append(_data_row(data.corpus.splits.train, "training", data.train))
    rows += [_data_row(split, "evaluation", examples) for split, examples in data.evaluation.items()]
    text = f"{data.corpus.title[0].upper()}{data.corpus.title[1:]}.\n\n" + "\n".join(rows)
    train = data.corpus.splits.train
    text += "\n\n" + "".join(f"{split}: {done}. " for split, done in data.corrections.items())
    if data.drops.num_dropped:
        text += f"{data.drops.describe()}."
    else:
        text += f"No {'other ' if train in data.corrections else ''}training utterance was left out."
    if data.conversions:
        text += f" {data.conversions[0].upper()}{data.conversions[1:]}."
    for told in describe_leaks(data.leaks, data.train, data.evaluation):
        text += f" {told}." if told in data.leaks else f" {told[0].upper()}{told[1:]}."
    for split, unseen in data.unseen.items():
        if unseen:
            why = "have no unit" if data.own_tokenizer else "never occur in training"
            text += f" In {split}, {unseen.total()} {pieces_of(data.vocab)} {why}: they count as errors."
    return text


def _data_row(split: str, use: str, examples: Sequence[Example]) -> str:
    speakers = speakers_in(examples)
    hours = int(lengths_of(examples).sum()) / SAMPLE_RATE / 3600
    words = sum(len(text.split()) for text in texts_in(examples))
    return f"| {split} | {use} | {len(examples)} | {hours:.2f} | {words} | {len(speakers) or 'not known'} |"


def speed(results: dict[str, Any]) -> str:
    """How long the run took, how much memory, and on which device."""
    lines = {
        "device": results["device"],
        "train_seconds": round(results["train_seconds"], 1),
        "eval_seconds": round(results["eval_seconds"], 1),
        "audio_seconds_per_second": round(results["audio_seconds_per_second"], 1),
        "padding_share": f"{100 * results['padding_share']:.1f} %",
    }
    if peak := results.get("peak_memory_bytes"):
        what = "of the process" if results["device"] == "cpu" else "of tensors on the device"
        lines["peak_memory"] = f"{peak / 1e9:.2f} GB {what}"
    return "\n".join(f"- {name}: {value}" for name, value in lines.items())


def framework_versions() -> str:
    lines = [f"- {name} {importlib.metadata.version(name)}" for name in PACKAGES]
    return "\n".join([*lines, f"- Python {platform.python_version()}"])


def versions() -> dict[str, str]:
    """Versions of the packages, Python and CUDA that ran."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {**found, "python": platform.python_version(), "cuda": str(torch.version.cuda)}


def format_rate(value: float | None) -> str:
    """A fraction in percent, as everywhere but in the metadata, where the hub's cards have fractions.

    >>> format_rate(0.21955757701054374)
    '21.96 %'
    """
    return "none" if value is None else f"{100 * value:.2f} %"


def format_loss(value: float | None) -> str:
    """Nats per unit."""
    return "none" if value is None else f"{value:.4f}"


def format_interval(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f} %"
