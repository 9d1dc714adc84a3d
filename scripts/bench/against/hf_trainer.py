"""transformers' Trainer on a manifest, for scripts.bench.against.hf_side.

There are two settings. The first is that of the reference run: the public CTC example's data set of Python lists,
padding by the feature extractor, batches grouped by lengths that the Trainer computes itself, evaluation one utterance
at a time, whole logits kept. The second is tuned: NumPy rows from memory-mapped Arrow, lengths in a column, fused
AdamW, SDPA, non-blocking copies, argmax on the device before logits are gathered, large evaluation batches, no check of
every loss. The only code of this project that it uses is the text normaliser, and the clock, which counts every second
from the start of the process for one phase. "decoding" is then all of the data's preparation.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import datasets
import jiwer
import numpy as np
import soundfile
import soxr
import torch
import transformers
from transformers import (
    AutoModelForCTC,
    EvalPrediction,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
)

from data.text.normalise import plain
from trainer.cli.clock import Clock, Phase

RATE = 16_000


class Moments(TrainerCallback):
    """Notes when training begins and ends, and when each loss is logged."""

    def __init__(self) -> None:
        self.begin = self.end = 0.0
        self.logged: list[tuple[int, float]] = []

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.begin = time.perf_counter()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if logs and "grad_norm" in logs:
            self.logged.append((state.global_step, time.perf_counter()))

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        synchronize()
        self.end = time.perf_counter()


class TimedTrainer(Trainer):
    """The Trainer, which also measures its evaluations and saves and counts the audio that it sees."""

    tuned: bool
    clock: Clock
    evaluating: Phase = "evaluations"
    eval_seconds: list[float]
    save_seconds = 0.0
    audio_samples = padded_samples = 0

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        self.audio_samples += inputs.pop("num_samples")
        self.padded_samples += inputs["input_values"].numel()
        return super().training_step(model, inputs, *args, **kwargs)

    def prediction_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        inputs.pop("num_samples")
        loss, logits, labels = super().prediction_step(model, inputs, *args, **kwargs)
        if self.tuned and "attention_mask" in inputs:
            # the Trainer decodes padded frames too, so put the blank there
            frames = model._get_feat_extract_output_lengths(inputs["attention_mask"].sum(-1))
            padded = torch.arange(logits.shape[1], device=logits.device) >= frames[:, None]
            logits[..., model.config.pad_token_id].masked_fill_(padded, float("inf"))
        return loss, logits, labels

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        synchronize()
        begin = time.perf_counter()
        with self.clock.phase(self.evaluating):
            metrics = super().evaluate(*args, **kwargs)
        self.eval_seconds.append(time.perf_counter() - begin)
        return metrics

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        synchronize()
        begin = time.perf_counter()
        with self.clock.phase("saves"):
            super()._save_checkpoint(*args, **kwargs)
        self.save_seconds += time.perf_counter() - begin


class Collator:
    """Puts features into padded tensors."""

    def __init__(self, processor: Wav2Vec2Processor, tuned: bool) -> None:
        self.processor, self.tuned = processor, tuned

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        lengths = [len(f["input_values"]) for f in features]
        if self.tuned:
            batch = self._pad_arrays([f["input_values"] for f in features], lengths)
        else:
            rows = [{"input_values": f["input_values"]} for f in features]
            batch = dict(self.processor.feature_extractor.pad(rows, padding=True, return_tensors="pt"))
        labels = self.processor.tokenizer.pad([{"input_ids": f["labels"]} for f in features], return_tensors="pt")
        batch["labels"] = labels["input_ids"].masked_fill(labels["attention_mask"].ne(1), -100)
        batch["num_samples"] = sum(lengths)
        return batch

    def _pad_arrays(self, rows: list[np.ndarray], lengths: list[int]) -> dict[str, Any]:
        padded = np.zeros((len(rows), max(lengths)), np.float32)
        for padded_row, row, n in zip(padded, rows, lengths, strict=True):
            padded_row[:n] = row
        batch: dict[str, Any] = {"input_values": torch.from_numpy(padded)}
        if self.processor.feature_extractor.return_attention_mask:
            batch["attention_mask"] = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
        return batch


def read_split(manifest: Path, processor: Wav2Vec2Processor, scratch: Path, tuned: bool) -> datasets.Dataset:
    """A manifest as a data set of input_values, labels and, if tuned, lengths. It is an Arrow file on the disk."""

    def prepare(row: dict[str, Any]) -> dict[str, Any]:
        wave, rate = soundfile.read(manifest.parent / row["audio_filepath"], dtype="float32")
        if rate != RATE:
            wave = soxr.resample(wave, rate, RATE)
        values = processor.feature_extractor(wave, sampling_rate=RATE).input_values[0]
        length = {"length": len(values)} if tuned else {}
        return {"input_values": values, "labels": processor.tokenizer(plain(row["text"])).input_ids, **length}

    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    rows = [{k: row[k] for k in ("audio_filepath", "text")} for row in rows]
    raw = datasets.Dataset.from_list(rows)
    cache = str(scratch / f"{manifest.stem}.arrow")
    prepared = raw.map(prepare, remove_columns=raw.column_names, cache_file_name=cache)
    return prepared.with_format("numpy", columns=["input_values"], output_all_columns=True) if tuned else prepared


def word_error_rate(processor: Wav2Vec2Processor, predicted: EvalPrediction) -> dict[str, float]:
    """The WER as the public example computes it. Predictions are ids or logits."""
    tokenizer, ids = processor.tokenizer, predicted.predictions
    ids = ids.argmax(-1) if ids.ndim == 3 else np.where(ids == -100, tokenizer.pad_token_id, ids)
    labels = np.where(predicted.label_ids == -100, tokenizer.pad_token_id, predicted.label_ids)
    references = tokenizer.batch_decode(labels, group_tokens=False)
    return {"wer": jiwer.wer(references, tokenizer.batch_decode(ids))}


def training_arguments(spec: dict[str, Any], scratch: Path) -> TrainingArguments:
    """The Trainer's options for this run."""
    on_cuda, tuned = spec["device"] != "cpu", spec["tuned"]
    options: dict[str, Any] = dict(
        output_dir=str(scratch / "out"), use_cpu=not on_cuda, seed=spec["seed"],
        num_train_epochs=spec["epochs"], max_steps=spec["max_steps"] or -1,
        per_device_train_batch_size=spec["batch_size"], learning_rate=spec["lr"], warmup_steps=spec["warmup_steps"],
        weight_decay=spec["weight_decay"], lr_scheduler_type="linear",
        fp16=spec["precision"] == "fp16", bf16=spec["precision"] == "bf16",
        train_sampling_strategy="group_by_length", per_device_eval_batch_size=1,
        logging_steps=spec["log_every"], eval_strategy="steps" if spec["eval_every"] else "no",
        eval_steps=spec["eval_every"] or None, save_strategy="steps" if spec["save_every"] else "no",
        save_steps=spec["save_every"] or 500, save_total_limit=3, report_to="tensorboard", disable_tqdm=True,
        dataloader_pin_memory=on_cuda,
    )  # fmt: skip
    if tuned:
        options |= dict(
            optim="adamw_torch_fused", per_device_eval_batch_size=32, logging_nan_inf_filter=False,
            length_column_name="length", dataloader_num_workers=spec["num_workers"],
            dataloader_persistent_workers=spec["num_workers"] > 0,
            accelerator_config={"non_blocking": on_cuda}, tf32=on_cuda or None,
        )  # fmt: skip
    return TrainingArguments(**options)


def train(spec: dict[str, Any], clock: Clock) -> dict[str, Any]:
    """Train (or only evaluate) and return the figures."""
    scratch, tuned = Path(spec["scratch"]), spec["tuned"]
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    with clock.phase("model"):
        feature_extractor = Wav2Vec2FeatureExtractor.from_pretrained(spec["weights"])
        processor = Wav2Vec2Processor(feature_extractor, Wav2Vec2CTCTokenizer.from_pretrained(spec["weights"]))
        attention = {"attn_implementation": "sdpa"} if tuned and spec["has_sdpa"] else {}
        model = AutoModelForCTC.from_pretrained(spec["weights"], dtype=torch.float32, **attention)
        if spec["freeze"]:
            model.freeze_feature_encoder()
    with clock.phase("decoding"):
        training = None if spec["only_evaluate"] else read_split(Path(spec["train"]), processor, scratch, tuned)
        evaluation = read_split(Path(spec["eval"]), processor, scratch, tuned)
    moments = Moments()
    with clock.phase("model"):  # it goes to the device here
        trainer = TimedTrainer(
            model, training_arguments(spec, scratch), data_collator=Collator(processor, tuned), train_dataset=training,
            eval_dataset=evaluation, processing_class=processor.feature_extractor, callbacks=[moments],
            compute_metrics=lambda predicted: word_error_rate(processor, predicted),
            preprocess_logits_for_metrics=(lambda logits, labels: logits.argmax(-1)) if tuned else None,
        )  # fmt: skip
    trainer.tuned, trainer.clock, trainer.eval_seconds = tuned, clock, []
    if training is not None:
        with clock.phase("training"):
            trainer.train()
        with clock.phase("export"):
            trainer.save_model()
            processor.save_pretrained(str(scratch / "out"))
    in_training = sum(trainer.eval_seconds) + trainer.save_seconds
    trainer.evaluating = "closing_evaluation"
    wer = trainer.evaluate()["eval_wer"]
    return {
        "logged": moments.logged,
        "num_steps": trainer.state.global_step,
        "train_seconds": moments.end - moments.begin - in_training if training is not None else 0.0,
        "audio_seconds": trainer.audio_samples / RATE,
        "padded_seconds": trainer.padded_samples / RATE,
        "eval_seconds": trainer.eval_seconds,
        "wer": wer,
        "clock": clock.seconds(),
    }


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
