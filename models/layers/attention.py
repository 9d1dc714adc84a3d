"""Which of torch's attention kernels computes. On CUDA they differ in speed, and none is the fastest everywhere.

    flash        takes no mask, so it serves batches without padding, and encoders without a mask of it
    efficient    takes every mask; its gradient also goes to an added bias (WavLM's positions)
    cudnn        takes masks; it builds a plan for every new shape, which takes 0.1 s on an H100

`time_kernels` finds out on one shape. Kernels round differently, so a run keeps the one that it began with.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
ROUNDS = 5


@dataclass(frozen=True)
class AttentionShape:
    """What decides which kernels are possible, and how long they take."""

    batch_size: int
    num_heads: int
    num_frames: int
    head_dim: int
    is_masked: bool
    """Whether padding is masked."""
    has_bias: bool
    """Whether a bias (B, heads, T, T) is added that needs a gradient."""
    dropout: float
    dtype: torch.dtype

    def __str__(self) -> str:
        return f"{self.batch_size} x {self.num_frames} frames"


def preferring(kernel: str | None) -> AbstractContextManager:
    """Within this context attention runs on `kernel`, or on torch's next one where that cannot; None: torch's choice.

    Under activation checkpointing the backward pass computes attention again, so the context belongs around attention
    itself.
    """
    if kernel is None:
        return contextlib.nullcontext()
    others = [backend for name, backend in KERNELS.items() if name != kernel]
    return sdpa_kernel([KERNELS[kernel], *others, SDPBackend.MATH], set_priority=True)


def time_kernels(
    shape: AttentionShape,
    device: torch.device,
    clock: Callable[[Callable[[], object], torch.device], float] | None = None,
) -> dict[str, float]:
    """Kernel -> milliseconds that it takes forward and backward, the fastest first; those that cannot are left out.

    `clock` returns the milliseconds of a call.
    """
    clock = clock or milliseconds
    generator = torch.Generator(device).manual_seed(0)

    def noise(*size: int) -> Tensor:
        return torch.randn(*size, device=device, generator=generator).to(shape.dtype).requires_grad_()

    b, t = shape.batch_size, shape.num_frames
    query, key, value = (noise(b, shape.num_heads, t, shape.head_dim) for _ in range(3))
    leaves, mask = [query, key, value], None
    if shape.is_masked:  # every other utterance is a little shorter than the batch
        lengths = torch.tensor([t, max(1, t - t // 8)], device=device).repeat(b // 2 + 1)[:b, None, None, None]
        mask = torch.arange(t, device=device) < lengths  # (B, 1, 1, T)
    if shape.has_bias:
        bias = noise(b, shape.num_heads, t, t)
        leaves.append(bias)
        mask = bias if mask is None else bias.masked_fill(~mask, -math.inf)
        mask = mask.detach().requires_grad_()
        leaves[-1] = mask
    gradient = noise(*query.shape).detach()

    def both_ways() -> tuple[Tensor, ...]:
        with torch.enable_grad():
            context = F.scaled_dot_product_attention(query, key, value, mask, shape.dropout)
            return torch.autograd.grad(context, leaves, gradient)

    found: dict[str, float] = {}
    for kernel, backend in KERNELS.items():
        with contextlib.suppress(RuntimeError), warnings.catch_warnings():  # why it cannot is a warning of torch's
            warnings.simplefilter("ignore")
            with sdpa_kernel(backend):
                both_ways()  # cuDNN builds its plan
                found[kernel] = statistics.median(clock(both_ways, device) for _ in range(ROUNDS))
    return dict(sorted(found.items(), key=lambda item: item[1]))


def milliseconds(work: Callable[[], object], device: torch.device) -> float:
    """The time of one call, on the device's own clock where it is a GPU."""
    if device.type != "cuda":
        begin = time.perf_counter()
        work()
        return 1000 * (time.perf_counter() - begin)
    begin_event, end_event = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin_event.record()
    work()
    end_event.record()
    end_event.synchronize()
    return begin_event.elapsed_time(end_event)


def describe_kernels(kernel: str, times: Mapping[str, float], shape: AttentionShape) -> str:
    """The choice in one line.

    >>> shape = AttentionShape(32, 16, 304, 64, True, False, 0.0, torch.float16)
    >>> describe_kernels("cudnn", {"cudnn": 0.177, "efficient": 0.249}, shape)
    'cudnn, 0.18 ms a layer forward and backward at 32 x 304 frames (efficient 0.25)'
    """
    others = ", ".join(f"{name} {ms:.2f}" for name, ms in times.items() if name != kernel)
    chosen = f"{kernel}, {times[kernel]:.2f} ms a layer forward and backward at {shape}"
    return f"{chosen} ({others})" if others else chosen


def attention_shape(model: Any, batch_size: int, num_frames: int, dtype: torch.dtype) -> AttentionShape:
    """The attention of `model`, a models.ctc.CTCModel, on padded batches of that size in training."""
    config = model.hf.config
    heads = config.num_attention_heads
    return AttentionShape(
        batch_size, heads, num_frames, config.hidden_size // heads, model.uses_attention_mask,
        config.model_type == "wavlm", config.attention_dropout, dtype,
    )  # fmt: skip
