"""Low-rank updates of linear layers (LoRA): W x + b + (alpha / rank) B A x, where W and b are frozen.

Hu et al. 2021. A starts as small random numbers and B as zeros, so training begins at the checkpoint. The modules are
peft's, which models.checkpoints.lora puts into the model; the arithmetic is here. Parameters of a layer `q_proj`:

    q_proj.base_layer.weight (O, I)    q_proj.lora_A.default.weight (R, I)    q_proj.lora_B.default.weight (O, R)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

NAME = "default"
"""What peft calls the only adapter of a model."""
BASE, DOWN, UP = ".base_layer.", f".lora_A.{NAME}.weight", f".lora_B.{NAME}.weight"


def base_of(layer: Any) -> Any:
    """The nn.Linear under the update of `layer`, or `layer` itself, which then is one."""
    return getattr(layer, "base_layer", layer)


def is_updated(layer: nn.Module) -> bool:
    """Whether `layer` has a low-rank update."""
    return hasattr(layer, "lora_A")


def add_update(layer: Any, x: Tensor, y: Tensor) -> Tensor:
    """y (..., O), what the base of `layer` makes of x (..., I), with the update added; y itself if there is none."""
    if not is_updated(layer):
        return y
    down, up, dropout = layer.lora_A[NAME], layer.lora_B[NAME], layer.lora_dropout[NAME]
    return y + up(down(dropout(x))) * layer.scaling[NAME]


@torch.no_grad()
def merged(weight: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """weight (O, I) plus scale times up (O, R) @ down (R, I), on the CPU in weight's precision.

    The product is a sum of R outer products in a fixed order. A library's product adds in an order of its own, so
    another machine would merge the same weights to other bits.
    """
    weight, down, up = weight.detach().cpu(), down.detach().cpu(), up.detach().cpu()
    delta = torch.zeros_like(weight)
    for column, row in zip(up.T, down, strict=True):
        delta += column[:, None] * row
    return weight + delta * scale


def merged_state(state: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """The tensors of a model with low-rank updates under the names of the model without, each update in its weight."""
    plain: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.endswith((DOWN, UP)):
            continue
        layer, mark, rest = name.rpartition(BASE)
        if mark and rest == "weight":
            tensor = merged(tensor, state[layer + DOWN], state[layer + UP], scale)
        plain[f"{layer}.{rest}" if mark else name] = tensor
    return plain


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Put every update into the weight under it, and take the updates out of `model`."""
    for name, layer in list(model.named_modules()):
        if not is_updated(layer):
            continue
        updated: Any = layer
        base = base_of(updated)
        down, up = updated.lora_A[NAME].weight, updated.lora_B[NAME].weight
        base.weight.copy_(merged(base.weight, down, up, updated.scaling[NAME]))
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, base)
