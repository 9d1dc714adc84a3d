"""What a process may use of its machine (data.machine.limits), in trees of files as Linux and containers show them.

pytest tests/data/machine/test_limits.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from data.machine.limits import core_quota, num_cores


@pytest.mark.parametrize(
    ("files", "quota", "cores"),
    [
        ({"proc/self/cgroup": "0::/\n"}, None, 64),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None, 64),
        # a container of its own cgroup namespace: docker run --cpus 2.5, of 1.5 and of 0.2
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2.5, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "75000 50000\n"}, 1.5, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "20000 100000\n"}, 0.2, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "9600000 100000\n"}, 96.0, 64),
        # the narrowest of the groups around holds
        ({"proc/self/cgroup": "0::/job/step\n", "sys/fs/cgroup/job/cpu.max": "300000 100000\n",
          "sys/fs/cgroup/job/step/cpu.max": "max 100000\n"}, 3.0, 3),
        # version 1, whose cpu and cpuacct share a folder: without a quota it says -1
        ({"proc/self/cgroup": "9:cpuset:/x\n2:cpu,cpuacct:/docker/abc\n0::/\n",
          "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
          "sys/fs/cgroup/cpuset/cpu.cfs_quota_us": "1\n", "sys/fs/cgroup/cpuset/cpu.cfs_period_us": "1\n"}, 4.0, 4),
        ({"proc/self/cgroup": "2:cpu,cpuacct:/\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
          "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, None, 64),
        # what is not understood is no limit
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "\n"}, None, 64),
        ({"proc/self/cgroup": "nonsense\n"}, None, 64),
        ({}, None, 64),
    ],
)  # fmt: skip
def test_a_container_has_the_cores_that_its_quota_pays_for(
    files: dict[str, str], quota: float | None, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand, from https://docs.kernel.org/admin-guide/cgroup-v2.html and .../scheduler/sched-bwc.html."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert core_quota(tmp_path) == quota
    assert num_cores(tmp_path) == cores
