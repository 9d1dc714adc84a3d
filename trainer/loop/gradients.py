"""The norm of the gradient in each part of the model. It shows which part moves, explodes or is frozen."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

PARTS = {
    "feature_encoder": ".feature_extractor.",
    "projection": ".feature_projection.",
    "transformer": ".encoder.",
}
"""Part -> what its parameters' names contain. The embedding of masked frames counts as projection; the rest is the
head."""


def part_of(name: str) -> str:
    """The part that a parameter belongs to.

    >>> part_of("hf.unispeech.encoder.layers.0.attention.k_proj.weight")
    'transformer'
    """
    if name.endswith("masked_spec_embed"):
        return "projection"
    return next((part for part, mark in PARTS.items() if mark in name), "head")


def norms_by_part(parameters: Iterable[tuple[str, nn.Parameter]]) -> dict[str, Tensor]:
    """L2 norm of each part's gradient, scalars on the device; parts without a gradient are left out.

    The sum of their squares is the square of the whole gradient's norm.
    """
    gradients: dict[str, list[Tensor]] = {part: [] for part in (*PARTS, "head")}
    for name, parameter in parameters:
        if parameter.grad is not None:
            gradients[part_of(name)].append(parameter.grad)
    return {part: torch.nn.utils.get_total_norm(those) for part, those in gradients.items() if those}
