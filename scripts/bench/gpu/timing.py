"""Clocks that know the GPU: it goes on working after a call has returned."""

from __future__ import annotations

import time

import torch


def synchronize(device: torch.device) -> None:
    """Wait for the GPU; nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_tflops(device: torch.device, size: int = 8192, repeats: int = 50) -> float:
    """The speed of a dense bf16 product of random matrices on this device, in TFLOP/s."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        a @ b
    synchronize(device)
    begin = time.perf_counter()
    for _ in range(repeats):
        a @ b
    synchronize(device)
    return 2 * size**3 * repeats / (time.perf_counter() - begin) / 1e12


def launch_microseconds(device: torch.device, repeats: int = 2000) -> float:
    """Microseconds that the host needs to launch one small kernel (on a CPU: to compute it)."""
    x = torch.zeros(1, device=device)
    for _ in range(100):
        x.add_(1)
    synchronize(device)
    begin = time.perf_counter()
    for _ in range(repeats):
        x.add_(1)
    seconds = time.perf_counter() - begin  # without waiting: the GPU is faster than the host here
    synchronize(device)
    return 1e6 * seconds / repeats
