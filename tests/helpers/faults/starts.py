"""Which processes a torchrun has started, how far they came; and kill -9 for some of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.helpers.faults.harness import Victim


class Starts:
    """Which processes were started in a folder, and how far they came."""

    def __init__(self, runs: Path, torchrun: Victim) -> None:
        self.runs, self.torchrun = runs, torchrun

    def wait_for(self, holds: Callable[[], bool], what: str) -> None:
        wait_until(holds, self.torchrun.log, what)

    @property
    def all(self) -> list[dict]:
        return _records(self.runs / "starts.jsonl")

    @property
    def latest(self) -> int:
        """Processes of the latest start."""
        return self.all[-1]["ranks"] if self.all else 0

    @property
    def step(self) -> int:
        """The last step that was begun."""
        return max([note["step"] for note in _records(self.runs / "rank0.jsonl")], default=0)

    def reached(self, step: int) -> bool:
        return self.step >= step


class Killer(Starts):
    """Kills workers of a torchrun on one host, each time after all were started anew."""

    def __init__(self, runs: Path, torchrun: Victim, num_ranks: int) -> None:
        super().__init__(runs, torchrun)
        self.num_ranks, self.num_starts = num_ranks, 0

    def kill(self, rank: int, steps_later: int | None, delay: float = 0.0) -> None:
        """kill -9 of `rank`, `delay` seconds after so many further steps were begun; None: after it was started."""
        self.num_starts += self.num_ranks
        self.wait_for(lambda: len(self.all) >= self.num_starts, f"{self.num_starts} starts")
        step = self.step + (steps_later or 0)
        self.wait_for(lambda: steps_later is None or self.reached(step), f"step {step}")
        time.sleep(delay)
        os.kill(next(s["pid"] for s in self.all[-self.num_ranks :] if s["rank"] == rank), signal.SIGKILL)


def children_of(pid: int) -> list[int]:
    """Process ids of those that `pid` started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _records(path: Path) -> list[dict]:
    lines = path.read_text().split("\n")[:-1] if path.exists() else []  # the last one may be half written
    return [json.loads(line) for line in lines]


def wait_until(holds: Callable[[], bool], log: Path, what: str = "", seconds: float = 180.0) -> None:
    """Until something holds; what was said by then is shown if it never does."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"{what}: never\n{log.read_text()}"
        time.sleep(0.005)


def last_step(run_dir: Path) -> int:
    """The step of the newest checkpoint that is whole."""
    return max((int(p.parent.name[5:]) for p in run_dir.glob("checkpoints/step-????????/manifest.json")), default=0)


def rank_1(torchrun: int) -> int:
    """The process id of rank 1, 0 if there is none now."""
    for pid in children_of(torchrun):
        with contextlib.suppress(OSError):
            if b"RANK=1" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                return pid
    return 0
