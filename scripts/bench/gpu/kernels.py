"""What a step launches and what the GPU then does: kernels by kind, launches, and the host's time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEventAvg
from torch.profiler import ProfilerActivity, profile

from scripts.bench.gpu.timing import synchronize
from trainer.rundir.logs.profile import by_kind, times_by_name

NUM_NAMED = 40
"""Kernels that are listed by name, the longest first."""
LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch", "cuGraphLaunch")
WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize", "cudaDeviceSynchronize", "cuStreamSynchronize")


def profile_steps(step: Callable[[], object], num_steps: int, device: torch.device) -> dict[str, Any]:
    """Figures per step of `num_steps` calls of `step`. Profiling slows the host, so its times are upper bounds."""
    on_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    synchronize(device)
    with profile(activities=activities) as running:
        begin = time.perf_counter()
        for _ in range(num_steps):
            step()
        launched = time.perf_counter() - begin
        synchronize(device)
        seconds = time.perf_counter() - begin
    return {
        "num_steps": num_steps,
        "wall_ms": round(1000 * seconds / num_steps, 3),
        "wall_ms_until_launched": round(1000 * launched / num_steps, 3),
        **describe(running.key_averages(), num_steps, device),
    }


def describe(events: Iterable[FunctionEventAvg], num_steps: int, device: torch.device) -> dict[str, Any]:
    """The profiler's averages as figures per step: milliseconds by kind and by name, counts of kernels and launches."""
    named = [(str(e.key), e) for e in events]
    times = times_by_name([e for _, e in named], device)
    launches = {name: e.count / num_steps for name, e in named if name.startswith(LAUNCHES)}
    on_device = [e.count for name, e in named if name in times and e.device_type == DeviceType.CUDA]
    waits = [e.self_cpu_time_total for name, e in named if name.startswith(WAITS)]
    return {
        "launches": sum(launches.values()),
        "launches_by_call": launches,
        "kernels": sum(on_device) / num_steps,
        "waits_ms": round(sum(waits) / 1000 / num_steps, 3),
        "work_ms": round(sum(times.values()) / 1000 / num_steps, 3),
        "kinds_ms": {k: round(us / 1000 / num_steps, 3) for k, us in by_kind(times).most_common() if us > 0},
        "longest_ms": {
            name[:200]: round(us / 1000 / num_steps, 4)
            for name, us in sorted(times.items(), key=lambda item: -item[1])[:NUM_NAMED]
        },
    }
