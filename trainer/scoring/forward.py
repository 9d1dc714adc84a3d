"""Run the model on a batch, for training, for evaluation and for the followed utterances."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from data.batches.collate import Batch
from models.ctc import CTCModel
from models.feature_table import FeatureTable


def batch_logits(
    model: CTCModel,
    batch: Batch,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager],
    features: FeatureTable | None = None,
) -> tuple[Batch, Tensor]:
    """(`batch` on `device`, its logits (B, T, V) under `autocast`). SpecAugment's masks are applied if there are any.

    With `features` the batch holds row numbers of that table instead of audio.
    """
    b = batch.to(device)
    inputs = b.waveforms
    if features is not None:
        assert batch.feature_rows is not None
        inputs = features.gather(batch.feature_rows, device)
    with autocast():
        logits = model(
            inputs, b.frame_lengths, is_padded=b.is_padded, time_mask=b.time_mask, feature_mask=b.feature_mask
        )
    return b, logits
