"""Run an exported ONNX graph under onnxruntime, compare it with PyTorch, and measure what int8 weights cost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic

from data.audio.decode import normalize
from data.text.normalise import collapse_spaces
from models.checkpoints.onnx_graph import INPUTS
from trainer.recognize.transcribe import LoadedModel
from trainer.scoring.decode import collapse, written_units
from trainer.scoring.metrics import EditCounts, count_word_errors, pool

Logits = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
"""A function from a batch of waveforms, not normalised, to the logits (T, V) of each."""


def quantize(path: Path, to: Path) -> None:
    """Write the graph `path` to `to`, with int8 matrices in its matrix products and a scale for each column."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it recommends a preparation that the exporter has already done
    try:
        quantize_dynamic(path, to, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8)
    finally:
        logging.disable(before)


def open_graph(path: Path, num_threads: int = 0) -> Logits:
    """The graph on the CPU. 0 threads mean one for each core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = num_threads, 3
    session: Any = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def logits(waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        lengths = np.array([len(w) for w in waveforms], np.int64)
        padded = np.zeros((len(waveforms), lengths.max()), np.float32)
        for row, waveform in zip(padded, waveforms, strict=True):
            row[: len(waveform)] = waveform
        found, frames = session.run(None, dict(zip(INPUTS, (padded, lengths), strict=True)))
        return [row[:n] for row, n in zip(found, frames, strict=True)]

    return logits


def pytorch(recognizer: LoadedModel) -> Logits:
    """The reference: PyTorch, one utterance at a time."""

    def logits(waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        rows = [normalize(w) if recognizer.do_normalize else w for w in waveforms]
        return [recognizer.model.read(torch.from_numpy(r)[None].to(recognizer.device))[0].cpu().numpy() for r in rows]

    return logits


def batched(waveforms: Sequence[np.ndarray], size: int) -> Iterable[Sequence[np.ndarray]]:
    return (waveforms[i : i + size] for i in range(0, len(waveforms), size))


def max_deviation(reference: Logits, graph: Logits, waveforms: Sequence[np.ndarray], batch_size: int) -> float:
    """The largest absolute difference of any logit, NaN if any is NaN. The graph reads padded batches."""
    differences = [
        np.abs(a - b).max()
        for batch in batched(waveforms, batch_size)
        for a, b in zip(reference(batch), graph(batch), strict=True)
    ]
    return float(np.max(differences))  # max() would lose NaN


def word_errors(
    recognizer: LoadedModel, logits: Logits, waveforms: Sequence[np.ndarray], references: Sequence[str]
) -> EditCounts:
    """Word edits, summed over utterances, from greedy decoding of one at a time. Without a frame there are no words.

    `references` are in the form of Vocab.to_compare.
    """
    vocab, found = recognizer.vocab, []
    for waveform, reference in zip(waveforms, references, strict=True):
        ids: tuple[int, ...] = ()
        if (num_frames := recognizer.model.num_frames(len(waveform))) > 0:
            best = torch.from_numpy(logits([waveform])[0].argmax(-1))[None]
            ids = written_units(collapse(best, torch.tensor([num_frames]), vocab.blank_id)[0])
        found.append(count_word_errors(reference, collapse_spaces(vocab.decode_to_compare(ids))))
    return pool(found)
