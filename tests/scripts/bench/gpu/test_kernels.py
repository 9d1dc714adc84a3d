"""From a profile to figures per step.

pytest tests/scripts/bench/gpu/test_kernels.py
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch.autograd import DeviceType

from scripts.bench.gpu.kernels import describe, profile_steps


def event(key: str, count: int, *, host: float = 0.0, device: float = 0.0, on_gpu: bool = False) -> SimpleNamespace:
    return SimpleNamespace(
        key=key,
        count=count,
        device_type=DeviceType.CUDA if on_gpu else DeviceType.CPU,
        is_user_annotation=key.startswith("Optimizer.step"),
        self_cpu_time_total=host,
        self_device_time_total=device,
    )


def test_figures_are_per_step_and_count_what_ran_on_the_gpu_once() -> None:
    """By hand: two steps; an operator and an annotation carry the time of the kernel that they launched."""
    events = [
        event("aten::mm", 4, host=100, device=3000),
        event("nvjet_sm90_hsh_128x256", 4, device=3000, on_gpu=True),
        event("Optimizer.step#AdamW.step", 2, device=1000, on_gpu=True),
        event("multi_tensor_apply_kernel<FusedAdamMathFunctor>", 6, device=1000, on_gpu=True),
        event("Memcpy DtoH (Device -> Pinned)", 2, device=50, on_gpu=True),
        event("cudaLaunchKernel", 8, host=400),
        event("cudaLaunchKernelExC", 2, host=80),
        event("cudaGraphLaunch", 2, host=200),
        event("cudaMemcpyAsync", 2, host=30),
        event("cudaStreamSynchronize", 2, host=600),
    ]
    figures = describe(events, 2, torch.device("cuda"))  # type: ignore[arg-type]
    assert figures["launches_by_call"] == {"cudaLaunchKernel": 4, "cudaLaunchKernelExC": 1, "cudaGraphLaunch": 1}
    assert figures["launches"] == 6
    assert figures["kernels"] == 6
    assert figures["waits_ms"] == 0.3
    assert figures["work_ms"] == 2.025
    assert figures["kinds_ms"] == {"matrix products": 1.5, "AdamW": 0.5, "casts and copies": 0.025}
    assert list(figures["longest_ms"]) == [
        "nvjet_sm90_hsh_128x256", "multi_tensor_apply_kernel<FusedAdamMathFunctor>", "Memcpy DtoH (Device -> Pinned)",
    ]  # fmt: skip


def test_on_a_cpu_operators_are_counted_by_kind() -> None:
    a = torch.randn(64, 64)
    figures = profile_steps(lambda: torch.nn.functional.gelu(a @ a), 3, torch.device("cpu"))
    assert {"matrix products", "GELU"} <= set(figures["kinds_ms"])
    assert figures["launches"] == figures["kernels"] == 0
    assert figures["wall_ms"] > 0
