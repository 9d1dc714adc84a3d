"""The lock on a run's folder: one process at a time. In the lock's file stands which torchrun runs in the folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from data.machine.filesystems import describe_no_locks, lock
from trainer.errors import ConfigError

SECONDS_OF_A_LOOK = 0.3
"""How long `lock_run` tries: whoever looks with `is_held` holds the lock for an instant."""
_locks: list[TextIO] = []
"""The locks of this process. A forked loader worker shares the open file and so the flock; it closes the file."""


@contextmanager
def lock_run(run_dir: Path, warn: Callable[[str], None]) -> Iterator[None]:
    """Hold runs/NAME/lock while the run goes on; ConfigError when another process holds it.

    It is an flock: the kernel frees it however the process dies, so no lock is ever stale. Where the file system has no
    locks, `warn` is told, and the run goes on.
    """
    file: TextIO | None = None
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        file = open(run_dir / "lock", "a", encoding="utf-8")  # noqa: SIM115
        if reason := _take(file):
            warn(describe_no_locks(run_dir, reason))
    except BlockingIOError:
        if file is not None:
            file.close()
        raise ConfigError(f"{run_dir} is in use by another process. Wait for it, or choose another --name.") from None
    except OSError as error:
        raise ConfigError(f"{run_dir}: {error.strerror or error}. Choose another --runs-dir.") from None
    _locks.append(file)
    try:
        yield
    finally:
        _locks.remove(file)
        file.close()


def _take(file: TextIO) -> str:
    """Take the lock, or say why there are none; BlockingIOError when another process keeps it for longer than a look at
    it takes."""
    end = time.monotonic() + SECONDS_OF_A_LOOK
    while True:
        try:
            return lock(file)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
        time.sleep(0.02)


def is_held(run_dir: Path) -> bool:
    """Whether a process holds the lock of this run. False where there are no locks, or where it may not be read."""
    try:
        with open(run_dir / "lock", encoding="utf-8") as file:
            lock(file, is_shared=True)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def was_begun_by(run_dir: Path, agents: Sequence[str]) -> bool:
    """Whether one of these torchruns, or of those that went on with them, has begun or resumed the run in `run_dir`."""
    return any(agent in _agents(run_dir) for agent in agents if agent)


def note_agents(run_dir: Path, agents: Sequence[str]) -> None:
    """Note that these torchruns run in `run_dir` from now on, whose lock this process holds."""
    known = _agents(run_dir)
    new = [agent for agent in dict.fromkeys(agents) if agent and agent not in known]
    if not new:
        return
    with open(run_dir / "lock", "a" if was_begun_by(run_dir, agents) else "w", encoding="utf-8") as file:
        file.write("".join(f"{agent}\n" for agent in new))


def _agents(run_dir: Path) -> list[str]:
    try:
        return (run_dir / "lock").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _let_go_of_locks() -> None:
    while _locks:
        _locks.pop().close()


os.register_at_fork(after_in_child=_let_go_of_locks)
