"""The process of torchrun that started this one. It starts its processes again when one of them fails. No torch here.

torchrun's own run id and restart count do not tell whether two starts belong to the same command: the id is "none"
unless somebody chose one, each node counts its own restarts, and a node that comes or goes is not counted. The process
that both starts descend from tells it.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

MARK = "TORCHELASTIC_RUN_ID"
"""torchrun sets it for whatever it starts, and does not have it itself."""


def is_below_torchrun() -> bool:
    """Whether torchrun started this process, directly or through a script."""
    return MARK in os.environ


def find_agent() -> str:
    """Host, process id and start of the torchrun that started this process; "" if none did.

    The same for all that one torchrun starts, one after the other, and for nothing else.
    """
    if not is_below_torchrun():
        return ""
    pid = os.getppid()
    while _has_mark(pid) and (parent := _parent(pid)) > 1:  # a script in between has what torchrun gave it
        pid = parent
    started = _stat(pid)[19:20]  # in ticks since the host was: a process id comes again, this does not
    return " ".join([socket.gethostname(), str(pid), *started])


def _has_mark(pid: int) -> bool:
    try:
        return any(v.startswith(f"{MARK}=".encode()) for v in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    except OSError:
        return False


def _parent(pid: int) -> int:
    return int((_stat(pid) + ["0"] * 2)[1])


def _stat(pid: int) -> list[str]:
    """What the kernel tells of a process, from its state on (proc(5)); empty where there is no /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
