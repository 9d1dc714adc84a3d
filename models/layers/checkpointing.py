"""Activation checkpointing: a layer whose input alone is kept, and which the backward pass computes again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor
from torch.utils.checkpoint import checkpoint

Recomputing = Callable[[], AbstractContextManager[None]]
"""Makes what must hold while a layer is computed again. The forward pass may have read half copies of the weights in
the weights' place (models.layers.half_copies): without them the second pass would read others."""


def run_twice(again: Recomputing, layer: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """layer(*inputs), of which only the inputs are kept; random numbers are the same both times."""
    # the context is made here, where autocast tells which weights are read now
    context = again()
    return checkpoint(layer, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), context))
