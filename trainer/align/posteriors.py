"""Log posteriors of the units that a transcript has, for audio of any length, in the windows of a transcription.

A vocabulary may have thousands of units and a recording hundreds of thousands of frames, so no others are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainer.recognize.transcribe import LoadedModel, Windows, read_frames


@dataclass(frozen=True)
class Posteriors:
    """What the model hears in one recording of T frames."""

    best: np.ndarray
    """int64 (T,): each frame's best unit."""
    log_probs: np.ndarray
    """float32 (T, K + 1): log posteriors of the K units that were asked for, and of the best unit last."""


def read_posteriors(model: LoadedModel, waveform: np.ndarray, units: Sequence[int], windows: Windows) -> Posteriors:
    """Posteriors of `units` in `waveform`, float32 (num_samples,), mono at SAMPLE_RATE and not normalised."""
    kept = torch.tensor(units, dtype=torch.long)

    def keep(logits: Tensor) -> Tensor:
        log_probs = logits.log_softmax(-1)
        return torch.cat([log_probs[..., kept.to(logits.device)], log_probs.amax(-1, keepdim=True)], -1)

    return Posteriors(*read_frames(model, waveform, windows, keep=keep))
