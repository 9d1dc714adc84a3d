"""The strided convolutions from waveforms to features. Parameters are transformers'; the arithmetic is our own.

transformers keeps (B, C, T) and transposes around every layer norm. On a CPU, copies and a strided GELU then take half
of a small model's step. Here every tensor is a matrix of frames by channels, and one matrix holds the whole batch:

    waveforms (B, S) -> pad S to a multiple of all strides -> (B * S, 1)
    each layer: (N, C), rows by channels, viewed as (N / stride, stride * C) without a copy
        kernel 3, stride 2:  y[t] = [x[2t], x[2t+1]] @ W[:2] + x[2t+2] @ W[2]     two matrix products, no im2col
    -> (B, T, C)

Some rows at the end of an utterance are wrong, because their kernel reaches into the next utterance. They lie behind
the utterance's last frame, no frame depends on them, and they are cut off in the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.geometry import convolved_length
from models.layers.checkpointing import Recomputing, run_twice

CACHED_SAMPLES = 150_000
"""Samples of a batch whose first, wide layers fit into a CPU's caches. Without a gradient, larger batches are split."""


def extract_features(
    extractor: Any, waveforms: Tensor, *, again: Recomputing | None = None, taps: Sequence[Tensor] | None = None
) -> Tensor:
    """Features (B, T, C) of waveforms (B, S), with the weights of a transformers feature encoder.

    With `again`, only each layer's input is kept, and the backward pass computes the layer again in that context.
    `taps` are those of `layer_taps`, where many calls have the same weights.
    """
    if torch.compiler.is_exporting():
        return extractor(waveforms).transpose(1, 2)  # an exported graph needs plain convolutions
    taps = layer_taps(extractor) if taps is None else taps
    needs_gradient = torch.is_grad_enabled() and any(p.requires_grad for p in extractor.parameters())
    if not needs_gradient and not waveforms.is_cuda:
        parts = waveforms.split(max(1, CACHED_SAMPLES // waveforms.shape[1]))
        return torch.cat([_extract(extractor, taps, part, None) for part in parts])
    return _extract(extractor, taps, waveforms, again if needs_gradient else None)


def layer_taps(extractor: Any) -> list[Tensor]:
    """The weight of each layer as a matrix (kernel * C, D), as `convolve` wants it.

    It is a copy in another order. In a small model's calls of two seconds that took a quarter of the time.
    """
    return [_taps(layer.conv.weight) for layer in extractor.conv_layers]


def _taps(weight: Tensor) -> Tensor:
    return weight.permute(2, 1, 0).reshape(-1, weight.shape[0])


def _extract(extractor: Any, taps: Sequence[Tensor], waveforms: Tensor, again: Recomputing | None) -> Tensor:
    convs: list[nn.Conv1d] = [layer.conv for layer in extractor.conv_layers]
    batch_size, num_frames = waveforms.shape
    padding = -num_frames % math.prod(conv.stride[0] for conv in convs)
    rows = F.pad(waveforms, (0, padding)).view(-1, 1)  # (B * S, 1)
    for layer, conv, of_layer in zip(extractor.conv_layers, convs, taps, strict=True):
        num_frames = convolved_length(num_frames, conv.kernel_size[0], conv.stride[0])
        if again is not None:
            rows = run_twice(again, _layer, layer, of_layer, rows, batch_size, num_frames)
        else:
            rows = _layer(layer, of_layer, rows, batch_size, num_frames)
    return rows.view(batch_size, -1, rows.shape[1])[:, :num_frames]


def _layer(layer: Any, taps: Tensor, rows: Tensor, batch_size: int, num_frames: int) -> Tensor:
    """Apply one layer: rows (N, C) to rows (N / stride, D). Each utterance's first num_frames rows are its frames."""
    rows = _convolve(rows, taps, layer.conv.bias, layer.conv.stride[0])
    norm = getattr(layer, "layer_norm", None)
    if isinstance(norm, nn.LayerNorm):
        rows = norm(rows)
    elif norm is not None:
        rows = _norm_over_time(rows.view(batch_size, -1, rows.shape[1]), num_frames, norm).flatten(0, 1)
    return layer.activation(rows)


def convolve(rows: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """Strided convolution of rows (N, C) to (N / stride, D), with weight (D, C, kernel) as in nn.Conv1d and bias (D,).

    The last kernel / stride - 1 rows are incomplete: their kernel reaches behind the last input row.
    """
    return _convolve(rows, _taps(weight), bias, stride)


def _convolve(rows: Tensor, taps: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    if torch.is_autocast_enabled(rows.device.type):
        dtype = torch.get_autocast_dtype(rows.device.type)
        rows, taps, bias = rows.to(dtype), taps.to(dtype), None if bias is None else bias.to(dtype)
    return _Convolve.apply(rows.view(-1, stride * rows.shape[1]), taps, bias)


class _Convolve(torch.autograd.Function):
    """x (N, W) with W = stride * C; taps (kernel * C, D). Taps are cut into slabs of W rows; row t of the result is the
    sum over slabs g of x[t + g] @ slab g."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, taps)
        ctx.has_bias = bias is not None
        first, *others = taps.split(x.shape[1])
        y = x[:, : len(first)] @ first if bias is None else torch.addmm(bias, x[:, : len(first)], first)
        for g, slab in enumerate(others, 1):
            y[:-g].addmm_(x[g:, : len(slab)], slab)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, taps = ctx.saved_tensors
        dx = dtaps = None
        slabs = taps.split(x.shape[1])
        if ctx.needs_input_grad[0]:
            dx = dy @ slabs[0].T if len(slabs[0]) == x.shape[1] else F.pad(dy @ slabs[0].T, (0, x.shape[1] - len(taps)))
            for g, slab in enumerate(slabs[1:], 1):
                dx[g:, : len(slab)].addmm_(dy[:-g], slab.T)
        if ctx.needs_input_grad[1]:
            dtaps = torch.cat([x[g:, : len(slab)].T @ dy[: len(dy) - g] for g, slab in enumerate(slabs)])
        return dx, dtaps, dy.sum(0) if ctx.has_bias and ctx.needs_input_grad[2] else None


def _norm_over_time(rows: Tensor, num_frames: int, norm: nn.GroupNorm) -> Tensor:
    """(B, N, C), each channel normalised by mean and variance of its first `num_frames` rows. A channel is a group."""
    assert norm.num_groups == norm.num_channels
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))  # autocast computes group norm in fp32 too
    variance, mean = torch.var_mean(rows[:, :num_frames], dim=1, correction=0, keepdim=True)
    return (rows - mean) * (norm.weight * torch.rsqrt(variance + norm.eps)) + norm.bias
