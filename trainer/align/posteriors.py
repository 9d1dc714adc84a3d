"""Log posteriors of the units that a transcript has, for audio of any length, in the windows of a transcription.

A vocabulary may have thousands of units and a recording hundreds of thousands of frames, so no others are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from data.audio.decode import normalize
from data.utterance import SAMPLE_RATE
from trainer.recognize.transcribe import Recognizer, Windows, stitch, window_starts


@dataclass(frozen=True)
class Posteriors:
    """What the model hears in one recording of T frames."""

    best: np.ndarray
    """int64 (T,): each frame's best unit."""
    log_probs: np.ndarray
    """float32 (T, K + 1): log posteriors of the K units that were asked for, and of the best unit last."""


@torch.inference_mode()
def read_posteriors(recognizer: Recognizer, waveform: np.ndarray, units: Sequence[int], windows: Windows) -> Posteriors:
    """Posteriors of `units` in `waveform`, float32 (num_samples,), mono at SAMPLE_RATE and not normalised."""
    model, geometry = recognizer.model, recognizer.geometry
    num_frames = model.num_frames(len(waveform))
    if num_frames == 0:
        return Posteriors(np.zeros(0, np.int64), np.zeros((0, len(units) + 1), np.float32))
    if recognizer.do_normalize:
        waveform = normalize(waveform)
    frame_rate = SAMPLE_RATE / geometry.stride
    overlap = max(2, round(windows.overlap_seconds * frame_rate))
    window = min(num_frames, max(2 * overlap, round(windows.seconds * frame_rate)))
    starts = window_starts(num_frames, window, overlap)
    kept = torch.tensor(units, device=recognizer.device)
    read: list[tuple[np.ndarray, np.ndarray]] = []
    for i in range(0, len(starts), windows.batch_size):
        some = starts[i : i + windows.batch_size]
        rows = waveform[None] if window == num_frames else np.stack(
            [waveform[geometry.seen(start, start + window)] for start in some]
        )  # fmt: skip
        log_probs = model.read(torch.from_numpy(rows).to(recognizer.device)).log_softmax(-1)
        best = log_probs.max(-1)
        columns = torch.cat([log_probs[..., kept], best.values[..., None]], -1)
        read += zip(best.indices.cpu().numpy(), columns.cpu().numpy(), strict=True)
    ids, log_probs_of_all = stitch(starts, read)
    return Posteriors(ids, log_probs_of_all)
