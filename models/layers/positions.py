"""The convolutional position embedding by Fourier transform.

Convolution kernels are slow for 32 to 128 frames in narrow groups. On a CPU the transform takes half of their time. On
an H100 it takes 1.6 ms of a large model's step, forward and backward; cuDNN takes 8, since it has no good kernel for
most lengths. The transform is in fp32 also where the rest is in half precision. The parameters are transformers'. The
sums have another order, so results are equal up to rounding (relative 1e-6 in fp32, 1e-12 in fp64).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def embed_positions(module: Any, hidden: Tensor) -> Tensor:
    """The position embedding (B, T, H) for hidden (B, T, H), with a family's *PositionalConvEmbedding as `module`."""
    conv, has_batch_norm = module.conv, getattr(module, "batch_norm", None) is not None
    if has_batch_norm or torch.compiler.is_exporting():
        return module(hidden)
    if not hidden.is_cuda and torch.is_autocast_enabled(hidden.device.type):
        return module(hidden)
    weight = normalized_weight(conv) if hidden.is_cuda else conv.weight
    with torch.autocast(hidden.device.type, enabled=False):  # there is no transform in half precision
        grouped = hidden.to(weight.dtype).unflatten(2, (conv.groups, -1))  # (B, T, G, I)
        kernels = weight.unflatten(0, (conv.groups, -1))  # (G, O, I, K)
        embedded = _Correlate.apply(grouped, kernels, conv.padding[0]).flatten(2) + conv.bias
        return module.activation(embedded.to(hidden.dtype))


def normalized_weight(conv: Any) -> Tensor:
    """The weight (O, I, K) of a weight-normalised convolution: each of its K slices has a norm of its own.

    torch's kernel for it takes 1.5 ms on an H100, forward and backward, for a large model; these operations take 0.4.
    """
    magnitude, direction = conv.parametrizations.weight.original0, conv.parametrizations.weight.original1
    return direction * (magnitude / torch.linalg.vector_norm(direction, dim=(0, 1), keepdim=True))


class _Correlate(torch.autograd.Function):
    """y[t] = sum over k of x[t + k - padding] . w[k]: x (B, T, G, I), w (G, O, I, K), y (B, T, G, O).

    The transform is circular over n >= T + K - 1 frames, so nothing wraps around into a frame that is kept.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, padding: int) -> Tensor:
        num_frames = x.shape[1]
        n = _fast_length(num_frames + w.shape[3] - 1)
        x_hat = torch.fft.rfft(x, n=n, dim=1).permute(1, 2, 0, 3).contiguous()  # (F, G, B, I)
        w_hat = torch.fft.rfft(w, n=n, dim=3).permute(3, 0, 2, 1).contiguous()  # (F, G, I, O)
        ctx.save_for_backward(x_hat, w_hat)
        ctx.sizes = num_frames, w.shape[3], n, padding
        y = torch.fft.irfft((x_hat @ w_hat.conj()).permute(2, 0, 1, 3), n=n, dim=1)
        return torch.cat([y[:, n - padding :], y[:, : num_frames - padding]], dim=1)[:, :num_frames]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x_hat, w_hat = ctx.saved_tensors
        num_frames, kernel, n, padding = ctx.sizes
        dx = dw = None
        # put the frames of y into their circular places: the first `padding` of them stand at the end
        shifted = torch.roll(F.pad(dy, (0, 0, 0, 0, 0, n - num_frames)), -padding, dims=1)
        dy_hat = torch.fft.rfft(shifted, dim=1).permute(1, 2, 0, 3).contiguous()  # (F, G, B, O)
        if ctx.needs_input_grad[0]:
            dx_hat = (dy_hat @ w_hat.transpose(2, 3)).permute(2, 0, 1, 3)
            dx = torch.fft.irfft(dx_hat, n=n, dim=1)[:, :num_frames]
        if ctx.needs_input_grad[1]:
            dw_hat = (x_hat.transpose(2, 3) @ dy_hat.conj()).permute(1, 3, 2, 0)
            dw = torch.fft.irfft(dw_hat, n=n, dim=3)[..., :kernel]
        return dx, dw, None


def _fast_length(at_least: int) -> int:
    """The smallest even number with no prime factor over 5."""
    n = at_least + at_least % 2
    while not _is_smooth(n):
        n += 2
    return n


def _is_smooth(n: int) -> bool:
    for prime in (2, 3, 5):
        while n % prime == 0:
            n //= prime
    return n == 1
