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

from data.machine.limits import control_groups, core_quota, num_cores
from data.plural import counted
from trainer.errors import ConfigError, is_out_of_memory


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
        _compute_on(device)
    except (RuntimeError, AssertionError) as error:
        reason = re.split(r"\n|\.\s", str(error))[0].rstrip(".")  # a sentence: torch goes on to list all its backends
        instead = " --device cpu does without it." if name.startswith("cuda") else ""
        raise ConfigError(f"--device {name}: not usable here ({reason}).{instead}") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device {name}: give cpu, cuda, cuda:1, ... or auto.")
    if (
        device.type == "cuda" and device.index is not None
    ):  # else streams, events and libraries' handles would be those of GPU 0
        torch.cuda.set_device(device)
    return device


DRIVER = "proc/driver/nvidia/version"
"""Where Linux says which driver of NVIDIA it has loaded."""


def why_no_gpu(root: Path = Path("/")) -> str | None:
    """Why --device auto takes the CPU although a driver for GPUs is loaded. None without one, where torch sees a GPU,
    and where the user hides them."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if hidden or torch.cuda.is_available() or torch.version.hip or not (root / DRIVER).exists():
        return None
    if torch.version.cuda is None:
        return f"NVIDIA's driver is loaded, but torch {torch.__version__} is built without CUDA"
    found = re.search(r"\s(\d+\.\d+[.\d]*)\s", (root / DRIVER).read_text(encoding="utf-8", errors="replace"))
    return (
        f"NVIDIA's driver{f' {found[1]}' if found else ''} is loaded, but torch sees no GPU: is the driver too old for "
        f"CUDA {torch.version.cuda}, or this a container without --gpus all?"
    )


def _compute_on(device: torch.device) -> None:
    """Launch a kernel and wait for it: a GPU that is older than all that this torch was built for, or one that another
    program has for itself, would be found to be there, and fail much later."""
    torch.empty(0, device=device)
    if device.type == "cuda":
        torch.ones(1, device=device).add_(1).item()


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
    return f" with {counted(number, 'thread')}, since its quota of CPU time is {quota:g} cores"


@contextmanager
def out_of_memory_by_name() -> Iterator[None]:
    """Within this context memory that CUDA, a library of it or the host lacks is torch's OutOfMemoryError too.

    Under a limit on a process' memory (`ulimit -v`, h_vmem of a scheduler) torch raises a plain RuntimeError on a CPU,
    and Python a MemoryError.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = (str(error) or "MemoryError").splitlines()[0]
        raise torch.OutOfMemoryError(reason.rpartition("DefaultCPUAllocator: ")[2]) from None


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
    "H200 NVL": 835e12,
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
    """The peak that utilisation in `precision` is a share of; None for another GPU or a part of one, a CPU, and fp32.

    >>> peak_flops("NVIDIA H100 80GB HBM3", "bf16") / 1e12
    989.0
    """
    if precision == "fp32":  # without TF32 no tensor core takes part
        return None
    words = name.replace("-", " ").split()
    if "MIG" in words:
        return None
    return next((peak for part, peak in PEAK_FLOPS.items() if set(part.split()) <= set(words)), None)


def choose_precision(asked: str, auto: str, device: torch.device) -> str:
    """The precision that --precision `asked` means on `device`: "auto" means `auto` on CUDA and fp32 elsewhere.

    A GPU without bf16 takes fp16 in its place; ConfigError where bf16 is asked for. torch would imitate it, which is
    slower than fp32.
    """
    lacks_bf16 = device.type == "cuda" and torch.cuda.is_available() and not torch.cuda.is_bf16_supported(False)
    if asked == "auto":
        wanted = auto if device.type == "cuda" else "fp32"
        return "fp16" if wanted == "bf16" and lacks_bf16 else wanted
    if asked == "fp16" and device.type == "cpu":
        raise ConfigError("--precision fp16 needs CUDA: on a CPU use fp32.")
    if asked == "bf16" and lacks_bf16:
        raise ConfigError(f"--precision bf16: {device_model(device)} does not compute in it. Give fp16, or auto.")
    return asked


HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast_for(precision: str, device: torch.device) -> Callable[[], AbstractContextManager]:
    """A function that makes an autocast context; for fp32 the context does nothing."""
    if precision == "fp32":
        return contextlib.nullcontext
    return partial(torch.autocast, device.type, dtype=HALF[precision])
