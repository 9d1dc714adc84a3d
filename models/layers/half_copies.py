"""Weights in half precision for the forward pass, made once an update instead of in every forward pass.

Under autocast torch rounds each weight when a layer reads it: some 300 small kernels for a large model, and as many for
the gradients. Here one call rounds all of them after they have changed. The numbers are autocast's: the forward pass
reads the rounded weight, its gradient is of the same precision, and sums of gradients are in fp32.

There is one difference. The scale and shift of the encoder's layer norms are rounded too. The norm then reads and
writes half precision, and takes its statistics in fp32 inside the kernel; autocast casts its input up and its output
down. On an H100 that is 0.045 ms instead of 0.118 for each of the 48 norms of a large model, forward and backward.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

HEAD = "lm_head"
"""The head stays in fp32: it is a thousandth of the work, and CTC needs its logits in fp32."""


class HalfCopies:
    """Copies of the weights of linear layers and convolutions, and of the encoder's layer norms."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        """`model` lies on its device already. `dtype` is float16 or bfloat16."""
        self.dtype = dtype
        self._places: list[tuple[dict, str]] = []
        self._weights: list[Tensor] = []
        is_update: list[bool] = []
        for path, module in model.named_modules():
            if path.split(".")[-1] == HEAD or not _is_copied(path, module):
                continue
            for name, weight in module._parameters.items():
                if weight is not None:
                    self._places.append((module._parameters, name))
                    self._weights.append(weight)
                    is_update.append(".lora_" in path)
        # One behind the other, matrices first: those of query, key and value are then one matrix (models.layers.linear)
        # Low-rank updates would stand between them
        order = sorted(range(len(self._weights)), key=lambda i: (self._weights[i].ndim == 1, is_update[i]))
        self._places, self._weights = [self._places[i] for i in order], [self._weights[i] for i in order]
        memory = torch.empty(sum(w.numel() for w in self._weights), dtype=dtype, device=self._weights[0].device)
        slices = memory.split([w.numel() for w in self._weights])
        self._copies = [s.view(w.shape) for s, w in zip(slices, self._weights, strict=True)]
        torch._foreach_copy_(self._copies, [w.detach() for w in self._weights])
        self._copies = [
            c.detach().requires_grad_(w.requires_grad) for c, w in zip(self._copies, self._weights, strict=True)
        ]
        self.of: dict[Tensor, Tensor] = dict(zip(self._weights, self._copies, strict=True))
        """Weight -> its copy. The gradient of a forward pass goes to the copies."""
        self._versions: list[int] | None = self._current_versions()

    def outdate(self) -> None:
        """Say that an optimizer has changed the weights: torch's fused ones leave no trace in a tensor's version."""
        self._versions = None

    @torch.no_grad()
    def refresh(self) -> None:
        """Round the weights anew, if they were outdated or written since the last time; a copy is trained if its weight
        is. The host does not wait."""
        for weight, copy in self.of.items():
            if copy.requires_grad is not weight.requires_grad:
                copy.requires_grad_(weight.requires_grad)
        if (versions := self._current_versions()) != self._versions:
            torch._foreach_copy_(self._copies, self._weights)
            self._versions = versions

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within this context the model's layers have the copies as their parameters."""
        for (parameters, name), copy in zip(self._places, self._copies, strict=True):
            parameters[name] = copy
        try:
            yield
        finally:
            for (parameters, name), weight in zip(self._places, self._weights, strict=True):
                parameters[name] = weight

    def _current_versions(self) -> list[int]:
        return [weight._version for weight in self._weights]


def _is_copied(path: str, module: nn.Module) -> bool:
    """Whether a layer's own parameters are copied. A weight-normalised convolution keeps its bias alone there: its
    weight is computed from two parameters, in fp32."""
    if isinstance(module, nn.Linear | nn.Conv1d):
        return True
    return isinstance(module, nn.LayerNorm) and ".encoder.layers." in path
