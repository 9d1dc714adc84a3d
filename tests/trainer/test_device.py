"""Where a model computes (trainer.device), as far as a machine without CUDA can show it.

pytest tests/trainer/test_device.py
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trainer.device import _free_host_memory, choose_device, describe_threads, free_memory
from trainer.errors import ConfigError


@pytest.mark.parametrize(("name", "chosen"), [("cuda:1", [1]), ("cuda", []), ("cpu", []), ("cpu:0", [])])
def test_a_numbered_gpu_becomes_the_processs_own(name: str, chosen: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams, events and handles of libraries belong to torch's current device, which is GPU 0 unless it is told."""
    told: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: told.append(device.index))
    monkeypatch.setattr(torch, "empty", lambda *size, device: None)  # is it usable? here: yes
    assert choose_device(name) == torch.device(name)
    assert told == chosen


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
