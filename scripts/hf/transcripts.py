"""Score the same weights twice: with our evaluate(), and with transformers.Trainer as in its CTC example."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import jiwer
import numpy as np
import torch
from torch import Tensor
from transformers import (
    AutoModelForCTC,
    EvalPrediction,
    Trainer,
    TrainingArguments,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
)

from data.batches.collate import Frontend
from data.examples.prepare import Example
from data.text.normalise import collapse_spaces
from models.ctc import CTCModel
from scripts.hf.equality import VOCAB, Recipe, load_hf, silent
from trainer.config.schema import EvalConfig
from trainer.scoring.evaluate import EvalSet, evaluate


class Transcripts(NamedTuple):
    """What one side wrote, in the order of the utterances, and its scores."""

    texts: list[str]
    wer: float
    loss: float


def transcribe_ours(folder: Path, examples: Sequence[Example], batch_size: int) -> Transcripts:
    """Our evaluate() on the checkpoint."""
    model = CTCModel(load_hf(folder, Recipe()), freeze_feature_encoder=True)
    config = EvalConfig(batch_size=batch_size)
    eval_set = EvalSet("eval", examples, Frontend(model.num_frames), VOCAB, config, num_workers=0)
    scores = evaluate(model, eval_set, torch.device("cpu"), nullcontext)
    return Transcripts([h.hypothesis for h in scores.hypotheses], scores.words.rate, scores.loss)


def transcribe_hf(folder: Path, examples: Sequence[Example], batch_size: int) -> Transcripts:
    """Trainer.evaluate() on the checkpoint: argmax, batch_decode, jiwer."""
    texts: list[str] = []
    with silent(), tempfile.TemporaryDirectory() as scratch:
        model = AutoModelForCTC.from_pretrained(folder, dtype=torch.float32)
        tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(folder)
        extractor = Wav2Vec2FeatureExtractor.from_pretrained(folder)

        def collate(features: list[dict[str, Any]]) -> dict[str, Tensor]:
            alone = [{"input_values": extractor(f["waveform"], sampling_rate=16_000).input_values[0]} for f in features]
            inputs = extractor.pad(alone, padding=True, return_tensors="pt")
            labels = tokenizer.pad([{"input_ids": f["labels"]} for f in features], return_tensors="pt")
            inputs["labels"] = labels["input_ids"].masked_fill(labels["attention_mask"].ne(1), -100)
            return dict(inputs)

        def compute_metrics(predicted: EvalPrediction) -> dict[str, float]:
            labels = np.where(predicted.label_ids == -100, tokenizer.pad_token_id, predicted.label_ids)
            texts.extend(tokenizer.batch_decode(predicted.predictions.argmax(-1)))
            references = tokenizer.batch_decode(labels, group_tokens=False)
            return {"wer": jiwer.wer(references, texts)}

        arguments = TrainingArguments(
            output_dir=scratch, use_cpu=True, per_device_eval_batch_size=batch_size, remove_unused_columns=False,
            dataloader_pin_memory=False, report_to="none", disable_tqdm=True,
        )  # fmt: skip
        rows = [{"waveform": e.load(), "labels": tokenizer(e.text).input_ids} for e in examples]
        trainer = Trainer(model, arguments, data_collator=collate, eval_dataset=rows, compute_metrics=compute_metrics)
        metrics = trainer.evaluate()
    return Transcripts([collapse_spaces(t) for t in texts], metrics["eval_wer"], metrics["eval_loss"])
