"""Where and how a model computes: device, precision, autocast, and copies to the host that run in the background."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from data.limits import control_groups, core_quota, num_cores
from trainer.errors import ConfigError, is_about_memory


class HostCopy:
    """Copies of tensors into pinned host memory, started here and waited for in `wait`. On a CPU nothing is copied."""

    def __init__(self, *tensors: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._tensors = tensors
        if tensors[0].is_cuda:
            self._tensors = tuple(torch.empty_like(t, device="cpu", pin_memory=True) for t in tensors)
            for on_host, on_device in zip(self._tensors, tensors, strict=True):
                on_host.copy_(on_device, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(tensors[0].device))

    def wait(self) -> tuple[Tensor, ...]:
        """The tensors on the host. Waits until the copies are complete."""
        if self._event is not None:
            self._event.synchronize()
        return self._tensors


def choose_device(name: str, local_rank: int | None = None) -> torch.device:
    """The device that --device names; ConfigError when it is not there.

    One of several processes of a host takes the GPU of its `local_rank`. From here on torch computes with the threads
    of `keep_to_cores`.
    """
    keep_to_cores()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if local_rank is None or name == "cpu":
            return torch.device(name)
    if local_rank is not None and name.startswith("cuda"):
        if name != "cuda":
            raise ConfigError(f"--device {name}: each process takes the GPU of its own number. Give --device cuda.")
        num_gpus = torch.cuda.device_count()
        if local_rank >= num_gpus:
            raise ConfigError(
                f"--device {name}: no GPU is left for local rank {local_rank}, since this host shows {num_gpus}. Start "
                f"{num_gpus or 'no'} processes on it (torchrun --nproc-per-node), or see CUDA_VISIBLE_DEVICES."
            )
        name = f"cuda:{local_rank}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(f"--device {name}: not usable here ({reason}).") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device {name}: give cpu, cuda, cuda:1, ... or auto.")
    if (
        device.type == "cuda" and device.index is not None
    ):  # else streams, events and libraries' handles would be those of GPU 0
        torch.cuda.set_device(device)
    return device


def keep_to_cores() -> None:
    """Let torch have no more threads than this process may use cores. Where OMP_NUM_THREADS is set, that holds.

    torch starts one for each core that it sees, which in a container with a quota of CPU time are all of the machine's.
    """
    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > num_cores():
        torch.set_num_threads(num_cores())


def describe_threads() -> str:
    """With how many threads torch computes on a CPU, where a quota of CPU time has decided it; else ""."""
    quota = core_quota()
    if quota is None or "OMP_NUM_THREADS" in os.environ:
        return ""
    number = torch.get_num_threads()
    return f" with {number} thread{'s' * (number > 1)}, since its quota of CPU time is {quota:g} cores"


@contextmanager
def one_error_without_memory() -> Iterator[None]:
    """Within this context, or a function that it decorates, a host without memory is torch.OutOfMemoryError too.

    Under a limit on a process' memory (`ulimit -v`, h_vmem of a scheduler) torch raises a plain RuntimeError on a CPU,
    and Python a MemoryError.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError) or not is_about_memory(error):
            raise
        reason = str(error).partition("DefaultCPUAllocator: ")[2] or str(error) or "MemoryError"
        raise torch.OutOfMemoryError(reason) from None


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on `device`; for a CPU, as Linux and the process's control group say.

    0 where the system does not say it.
    """
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _free_host_memory(Path("/"))


def _free_host_memory(root: Path) -> int:
    try:
        meminfo = (root / "proc/meminfo").read_text()
        free = next(1024 * int(line.split()[1]) for line in meminfo.splitlines() if line.startswith("MemAvailable:"))
        groups = list(control_groups("memory", root))
    except (OSError, StopIteration, ValueError):
        return 0
    for folder, version in groups:
        limit, used, statistic = "memory.max", "memory.current", r"^inactive_file (\d+)"
        if version == 1:
            limit, used, statistic = "memory.limit_in_bytes", "memory.usage_in_bytes", r"^total_inactive_file (\d+)"
        with contextlib.suppress(OSError, ValueError):  # no limit: no file, or the word "max"
            cached = re.search(statistic, (folder / "memory.stat").read_text(), re.M)
            in_use = int((folder / used).read_text()) - int(cached[1] if cached else 0)
            free = min(free, max(0, int((folder / limit).read_text()) - in_use))
    return free


def device_model(device: torch.device) -> str:
    """The GPU's name, such as "NVIDIA H100 80GB HBM3"; "cpu" for a CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


PEAK_FLOPS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10G": 125e12,
    "T4": 65e12,
    "V100": 125e12,
}
"""Part of a GPU's name -> dense FLOP/s of its tensor cores in half precision with fp32 sums, from NVIDIA's data sheets.

The first that fits is taken. A multiplication and an addition count as two.
"""


def peak_flops(name: str, precision: str) -> float | None:
    """The peak that utilisation in `precision` is a share of; None for another GPU, a CPU, and fp32.

    >>> peak_flops("NVIDIA H100 80GB HBM3", "bf16") / 1e12
    989.0
    """
    if precision == "fp32":  # without TF32 no tensor core takes part
        return None
    words = name.replace("-", " ").split()
    return next((peak for part, peak in PEAK_FLOPS.items() if set(part.split()) <= set(words)), None)


def choose_precision(asked: str, auto: str, device: torch.device) -> str:
    """The precision that --precision `asked` means on `device`: "auto" means `auto` on CUDA and fp32 elsewhere."""
    if asked == "auto":
        return auto if device.type == "cuda" else "fp32"
    if asked == "fp16" and device.type == "cpu":
        raise ConfigError("--precision fp16 needs CUDA: on a CPU use fp32.")
    return asked


HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast_for(precision: str, device: torch.device) -> Callable[[], AbstractContextManager]:
    """A function that makes an autocast context; for fp32 the context does nothing."""
    if precision == "fp32":
        return contextlib.nullcontext
    return partial(torch.autocast, device.type, dtype=HALF[precision])
