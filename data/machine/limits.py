"""What of the machine this process may use: a container has a share of its cores and of its memory.

Neither os.cpu_count nor the affinity mask shows a quota of CPU time (`docker run --cpus 2`, a limit of Kubernetes): the
process sees every core. Once its threads have used the quota up, all of them stop until the next tenth of a second.
Linux tells such limits in the files of control groups: https://docs.kernel.org/admin-guide/cgroup-v2.html.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def num_cores(root: Path = ROOT) -> int:
    """Cores that this process may use: those that it may run on, and no more than its quota of CPU time pays for.

    A quota of 2.5 cores is 2: with a third thread all three would be stopped, and at work they wait for each other.
    """
    visible = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = core_quota(root)
    return visible if quota is None else min(visible, max(1, int(quota)))


def core_quota(root: Path = ROOT) -> float | None:
    """Seconds of CPU time that this process gets in each second, over all cores; None without a quota."""
    quotas = []
    with contextlib.suppress(OSError, ValueError):
        for folder, version in control_groups("cpu", root):
            with contextlib.suppress(OSError, ValueError):  # no quota: no file, -1, or the word "max"
                if version == 1:
                    texts = [(folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")]
                else:
                    texts = (folder / "cpu.max").read_text().split()
                time, period = map(int, texts)
                if time > 0 and period > 0:
                    quotas.append(time / period)
    return min(quotas, default=None)


def control_groups(controller: str, root: Path = ROOT) -> Iterator[tuple[Path, int]]:
    """(folder, version of control groups) of each group that limits `controller` for this process, the innermost first.

    A limit holds for all groups in a group. In a container the innermost may not be there, since its name is that of
    the host. OSError or ValueError where the system does not tell.
    """
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        _, controllers, name = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / (controller if controllers else "")
        group = base / name.lstrip("/")
        for folder in (group, *group.parents):
            yield folder, 1 if controllers else 2
            if folder == base:
                break
