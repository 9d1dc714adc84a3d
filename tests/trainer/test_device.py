"""Where a model computes (trainer.device), as far as a machine without CUDA can show it.

pytest tests/trainer/test_device.py
"""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
import torch

from trainer.device import (
    _free_host_memory,
    choose_device,
    choose_precision,
    describe_threads,
    free_memory,
    out_of_memory_by_name,
    peak_flops,
    why_no_gpu,
)
from trainer.errors import ConfigError


@pytest.mark.parametrize(("name", "chosen"), [("cuda:1", [1]), ("cuda", []), ("cpu", []), ("cpu:0", [])])
def test_a_numbered_gpu_becomes_the_processs_own(name: str, chosen: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams, events and handles of libraries belong to torch's current device, which is GPU 0 unless it is told."""
    told: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: told.append(device.index))
    monkeypatch.setattr("trainer.device._compute_on", lambda device: None)  # is it usable? here: yes
    assert choose_device(name) == torch.device(name)
    assert told == chosen


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:1"])
def test_a_gpu_that_cannot_compute_is_refused_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch says it for a Pascal card and a build for CUDA 13; it finds such a card, and puts tensors on it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    lines = "CUDA error: no kernel image is available for execution on the device\nSearch for cudaErrorNoKernelImage"
    monkeypatch.setattr("trainer.device._compute_on", mock.Mock(side_effect=RuntimeError(lines)))
    said = r"--device cuda(:1)?: not usable here \(CUDA error: no kernel .* device\)\. --device cpu does without it\."
    with pytest.raises(ConfigError, match=f"{said}$"):
        choose_device(name)


@pytest.mark.parametrize(
    ("asked", "auto", "has_bf16", "chosen"),
    [("auto", "bf16", True, "bf16"), ("auto", "bf16", False, "fp16"), ("auto", "fp32", False, "fp32"),
     ("auto", "fp16", True, "fp16"), ("bf16", "fp16", True, "bf16"), ("fp16", "bf16", False, "fp16")],
)  # fmt: skip
def test_a_gpu_without_bf16_takes_fp16(
    asked: str, auto: str, has_bf16: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turing, of compute capability 7.5, has fp16 alone; torch says True for it where imitation counts."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: has_bf16)
    assert choose_precision(asked, auto, torch.device("cuda")) == chosen


def test_bf16_is_refused_where_a_gpu_would_imitate_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    with pytest.raises(ConfigError, match=r"--precision bf16: Tesla T4 does not compute in it\. Give fp16, or auto\."):
        choose_precision("bf16", "bf16", torch.device("cuda"))


def test_without_a_gpu_a_precision_is_planned_as_it_is_asked_for() -> None:
    """--check --card-memory judges a card that is not here."""
    assert torch.cuda.is_available() or choose_precision("auto", "bf16", torch.device("cuda")) == "bf16"


@pytest.mark.parametrize(
    ("said", "is_memory"),
    [
        ("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported", True),
        ("CUDA driver error: out of memory", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("cuFFT error: CUFFT_ALLOC_FAILED", True),
        ("could not create a primitive", True),
        ("could not create a primitive descriptor for a convolution", False),
        ("CUDA error: an illegal memory access was encountered", False),
        ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`", False),
    ],
)
def test_memory_that_a_library_lacks_is_out_of_memory_too(said: str, is_memory: bool) -> None:
    """Messages of torch, from its users' reports. cuBLAS and cuFFT take memory that torch's allocator may hold."""
    with pytest.raises(RuntimeError) as raised, out_of_memory_by_name():
        raise RuntimeError(said)
    assert isinstance(raised.value, torch.OutOfMemoryError) is is_memory
    assert str(raised.value) == (said.splitlines()[0] if is_memory else said)


@pytest.mark.parametrize(
    ("name", "peak"),
    [("NVIDIA A100-SXM4-80GB", 312e12), ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", None), ("NVIDIA H200 NVL", 835e12),
     ("NVIDIA H200", 989e12), ("NVIDIA GeForce RTX 3060", None)],
)  # fmt: skip
def test_a_part_of_a_gpu_has_no_known_peak(name: str, peak: float | None) -> None:
    assert peak_flops(name, "bf16") == peak


NVRM = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\nGCC version: 12"


@pytest.mark.parametrize(
    ("driver", "cuda", "visible", "said"),
    [
        (NVRM, "13.0", None, "driver 535.183.01 is loaded, but torch sees no GPU: is the driver too old for CUDA 13.0"),
        ("odd", "13.0", "0", "NVIDIA's driver is loaded, but torch sees no GPU"),
        (NVRM, None, None, "is built without CUDA"),
        (NVRM, "13.0", "", None),
        (None, "13.0", None, None),
    ],
)
def test_a_gpu_that_torch_does_not_see_is_told(
    driver: str | None, cuda: str | None, visible: str | None, said: str | None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """torch alone warns, once and among other lines, and training then takes days on the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    if driver is not None:
        (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
        (tmp_path / "proc/driver/nvidia/version").write_text(driver)
    found = why_no_gpu(tmp_path)
    assert found is None if said is None else said in str(found)


def test_a_device_of_another_kind_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="--device meta: give cpu, cuda"):
        choose_device("meta")


@pytest.mark.parametrize(
    ("asked", "cores", "threads"),
    [("", 1, 1), ("", 3, 3), ("", 64, 4), ("4", 1, 4)],
)
def test_torch_has_no_more_threads_than_the_process_has_cores(
    asked: str, cores: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch began with 4. What OMP_NUM_THREADS asks for holds."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    monkeypatch.setattr("trainer.device.num_cores", lambda: cores)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        choose_device("cpu")
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("quota", "asked", "told"),
    [(None, "", ""), (2.5, "2", ""), (2.5, "", " with 2 threads, since its quota of CPU time is 2.5 cores")],
)
def test_a_quota_that_decides_the_number_of_threads_is_told(
    quota: float | None, asked: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    monkeypatch.setattr("trainer.device.core_quota", lambda: quota)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert describe_threads() == told


def test_a_backend_that_is_not_built_in_is_refused_in_a_sentence() -> None:
    """torch's own message goes on to list all its backends, about 800 characters."""
    with pytest.raises(ConfigError, match=r"--device xla: not usable here \(.*\)\.$") as caught:
        choose_device("xla")
    assert len(str(caught.value)) < 200


MEMINFO = "MemTotal: 9000 kB\nMemFree: 100 kB\nMemAvailable: 8000 kB\n"


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({"proc/self/cgroup": "0::/\n"}, 8000 * 1024),
        # version 2: a group's limit holds for the groups in it; the cache of files can be given back
        ({"proc/self/cgroup": "0::/job/step\n", "sys/fs/cgroup/job/memory.max": "5000\n",
          "sys/fs/cgroup/job/memory.current": "3000\n",
          "sys/fs/cgroup/job/memory.stat": "anon 2000\ninactive_file 1000\n",
          "sys/fs/cgroup/job/step/memory.max": "max\n", "sys/fs/cgroup/job/step/memory.current": "2900\n",
          "sys/fs/cgroup/job/step/memory.stat": "inactive_file 7\n"}, 3000),
        # version 1 in a container: the group's own name is that of the host, the mounted folder is the group
        ({"proc/self/cgroup": "5:cpu:/x\n4:memory:/docker/abc\n0::/\n",
          "sys/fs/cgroup/memory/memory.limit_in_bytes": "7000\n",
          "sys/fs/cgroup/memory/memory.usage_in_bytes": "6000\n",
          "sys/fs/cgroup/memory/memory.stat": "inactive_file 5\ntotal_inactive_file 400\n"}, 1400),
        # over its limit
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "10\n",
          "sys/fs/cgroup/a/memory.current": "30\n", "sys/fs/cgroup/a/memory.stat": ""}, 0),
    ],
)  # fmt: skip
def test_free_memory_is_what_the_system_and_the_control_group_leave(
    files: dict[str, str], free: int, tmp_path: Path
) -> None:
    """By hand, from https://docs.kernel.org/admin-guide/cgroup-v2.html and .../cgroup-v1/memory.html."""
    for name, content in (files | {"proc/meminfo": MEMINFO}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert _free_host_memory(tmp_path) == free


def test_a_system_that_does_not_tell_its_memory_has_none_free(tmp_path: Path) -> None:
    assert _free_host_memory(tmp_path) == 0
    assert free_memory(torch.device("cpu")) > 2**20 or not Path("/proc/meminfo").exists()
