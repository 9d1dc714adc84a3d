"""Run the model on a batch, for training and for evaluation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from data.batches.collate import Batch
from models.ctc import CTCModel
from models.feature_table import FeatureTable


@dataclass(frozen=True)
class ModelInputs:
    """What the model reads of a batch, on its device. Shapes are those of data.batches.collate.Batch."""

    inputs: Tensor
    """Waveforms (B, S), or features (B, T, C) from a table."""
    frame_lengths: Tensor
    time_mask: Tensor | None
    feature_mask: Tensor | None
    is_padded: bool

    @property
    def shape(self) -> tuple:
        """What decides which operations run, in which sizes."""
        return tuple(v.shape if isinstance(v, Tensor) else v for v in vars(self).values())

    def clone(self) -> ModelInputs:
        """The same in memory of its own."""
        copies: dict[str, Any] = {name: v.clone() for name, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **copies)

    def fill(self, other: ModelInputs) -> None:
        """Copy the tensors of `other`, which have the same shapes, into these."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                value.copy_(getattr(other, field.name), non_blocking=True)


class Replays(Protocol):
    """Logits from captured passes, where a batch's shape has come before. trainer.loop.graphs implements it."""

    def logits(self, inputs: ModelInputs) -> Tensor:
        """Logits (B, T, V), which hold until the next call."""


def model_inputs(batch: Batch, on_device: Batch, features: FeatureTable | None) -> ModelInputs:
    """What the model reads of `batch`, of which `on_device` is the copy on the model's device.

    With `features` the batch holds row numbers of that table instead of audio, or the rows themselves.
    """
    inputs = on_device.waveforms
    if on_device.features is not None:
        inputs = on_device.features
    elif features is not None:
        is_there = features.rows.device == on_device.frame_lengths.device
        rows = on_device.feature_rows if is_there else batch.feature_rows
        assert rows is not None
        inputs = features.gather(rows, on_device.frame_lengths.device)
    b = on_device
    return ModelInputs(inputs, b.frame_lengths, b.time_mask, b.feature_mask, b.is_padded)


def logits_of(
    model: CTCModel,
    x: ModelInputs,
    autocast: Callable[[], AbstractContextManager],
    *,
    kept_layers: Tensor | None = None,
) -> Tensor:
    """Logits (B, T, V), operation by operation. `kept_layers`: see CTCModel.forward."""
    with autocast():
        return model(
            x.inputs, x.frame_lengths, is_padded=x.is_padded, time_mask=x.time_mask, feature_mask=x.feature_mask,
            kept_layers=kept_layers,
        )  # fmt: skip


def batch_logits(
    model: CTCModel,
    batch: Batch,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager],
    features: FeatureTable | None = None,
    replays: Replays | None = None,
) -> tuple[Batch, Tensor]:
    """(`batch` on `device`, its logits (B, T, V) under `autocast`). SpecAugment's masks are applied if there are any.

    With `features` the batch holds row numbers of that table, or rows of it, instead of audio. `replays` gives the
    logits, if there is one; they hold until its next batch.
    """
    b = batch.to(device)
    x = model_inputs(batch, b, features)
    return b, logits_of(model, x, autocast) if replays is None else replays.logits(x)
