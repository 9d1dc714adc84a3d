"""Linear layers on CUDA: one product for query, key and value, and bias gradients as products.

torch takes the gradient of a bias by a sum over all rows. On an H100 a product with a vector of ones takes 0.6 of the
time. Three products of a hidden state by three square weights are one product by all of them, which fills the device
better and needs no sum of three gradients. Together they spare 1.6 of 37 ms of a large model's step, or more where
weights lie one behind the other in memory, as models.layers.half_copies puts them: then nothing is copied to bring them
together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def linear(x: Tensor, *layers: Any) -> tuple[Tensor, ...]:
    """What each of `layers`, nn.Linear of the same size, makes of x (..., I): a tensor (..., O) for each, by one
    product. Weights and biases are of x's precision already."""
    weights, biases = [layer.weight for layer in layers], [layer.bias for layer in layers]
    return _Linear.apply(x, *weights, *biases).chunk(len(layers), dim=-1)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *weights_and_biases: Tensor) -> Tensor:
        number = len(weights_and_biases) // 2
        weight, bias = (one_behind_the_other(w) for w in (weights_and_biases[:number], weights_and_biases[number:]))
        ctx.number = number
        # The gradient of frozen weights is not asked for, and it alone needs x. Not the weights as one, which may be a
        # copy of them: it would live until the backward pass
        is_trained = any(ctx.needs_input_grad[1 : 1 + number])
        ctx.save_for_backward(x if is_trained else None, *weights_and_biases[:number])
        return F.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        needed, number = ctx.needs_input_grad, ctx.number
        rows = dy.reshape(-1, dy.shape[-1])
        dx = dy @ one_behind_the_other(weights) if needed[0] else None
        dweights: Sequence[Tensor | None] = [None] * number
        dbiases: Sequence[Tensor | None] = [None] * number
        if any(needed[1 : 1 + number]):
            dweights = (rows.T @ x.reshape(-1, x.shape[-1])).chunk(number)
        if any(needed[1 + number :]):
            # New ones each time: kept ones would be memory that a CUDA graph reads after it was given to others
            dbiases = (rows.new_ones(len(rows)) @ rows).chunk(number)
        return dx, *dweights, *dbiases


def one_behind_the_other(tensors: Sequence[Tensor]) -> Tensor:
    """Contiguous tensors of one shape as one, along their first dimension. It is a view if they lie so in memory."""
    first = tensors[0]
    if len(tensors) == 1:
        return first
    places = [first.storage_offset() + i * first.numel() for i in range(len(tensors))]
    memory = first.untyped_storage().data_ptr()
    if all(
        t.untyped_storage().data_ptr() == memory and t.storage_offset() == place and t.is_contiguous()
        for t, place in zip(tensors, places, strict=True)
    ):
        return first.as_strided((len(tensors) * len(first), *first.shape[1:]), first.stride())
    return torch.cat(list(tensors))
