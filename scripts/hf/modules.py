"""Put transformers' own modules in place of ours, inside our model, to compare with them and to time them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor

import models.ctc
import models.layers.transformer


@contextmanager
def hf_modules() -> Iterator[None]:
    """Uses transformers' modules instead of models.layers.frontend and models.layers.transformer, and its precision of
    the CTC loss."""
    with hf_front_end(), hf_encoder(), hf_loss():
        yield


@contextmanager
def hf_front_end() -> Iterator[None]:
    """Uses transformers' feature encoder instead of models.layers.frontend."""

    def extract(extractor: Any, waveforms: Tensor, **_: Any) -> Tensor:
        return extractor(waveforms).transpose(1, 2)

    with mock.patch.object(models.ctc, "extract_features", extract):
        yield


@contextmanager
def hf_encoder() -> Iterator[None]:
    """Uses transformers' encoder instead of models.layers.transformer."""

    def encode(encoder: Any, hidden: Tensor, real: Tensor | None, **_: bool) -> Tensor:
        return encoder(hidden, attention_mask=real).last_hidden_state

    with mock.patch.object(models.ctc, "encode", encode):
        yield


def hf_loss() -> AbstractContextManager:
    """Computes the CTC loss in float32, as transformers does."""
    return mock.patch.object(models.ctc, "LOSS_DTYPE", torch.float32)


@contextmanager
def hf_positions() -> Iterator[None]:
    """Uses the grouped convolution instead of models.layers.positions."""
    with mock.patch.object(models.layers.transformer, "embed_positions", lambda module, hidden: module(hidden)):
        yield
