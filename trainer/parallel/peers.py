"""Who of a run's processes is still there, as one of them sees it: by what the store says, and by the host's list."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence

import torch.distributed as dist

from trainer.parallel.alive import is_running
from trainer.parallel.launch import Launch
from trainer.parallel.store import LONGEST_NAP, SHORTEST_NAP

FOLLOWS = "follows"
"""What a process says that ends because another one is gone."""
SECONDS_BETWEEN_LOOKS = 0.25
"""Between two looks at whether somebody is gone, or has asked to stop."""


class Peers:
    """The processes of a run."""

    def __init__(self, store: dist.Store, launch: Launch, present: Sequence[dict]) -> None:
        """`present` is what each has said of itself, in the order of ranks: rank, host, machine, process id."""
        self.store, self.launch, self.present = store, launch, present

    def name_of(self, rank: int) -> str:
        """What a process is called in messages."""
        return f"rank {rank} on {self.present[rank]['host']}"

    def say_gone(self, *, follows: bool) -> None:
        """Let all others know that this process has failed; `follows`: only because another one is gone."""
        with contextlib.suppress(RuntimeError):
            self.store.set(f"gone/{self.launch.rank}", FOLLOWS if follows else "")

    def causes(self, gone: Sequence[int]) -> Sequence[int]:
        """Those of the ranks that are gone which did not merely follow another one; all where none is known."""
        found = [rank for rank in gone if not self._followed(rank)]
        return found or gone

    def _followed(self, rank: int) -> bool:
        key = f"gone/{rank}"
        with contextlib.suppress(RuntimeError):
            return self.store.check([key]) and self.store.get(key) == FOLLOWS.encode()
        return False

    def are_gone(self, ranks: Iterable[int], patience: float = 0.0) -> list[int]:
        """Those that have said that they failed, or are no longer there. Each is watched for `patience` seconds."""
        return [rank for rank in ranks if self._is_gone(rank, patience)]

    def others(self) -> list[int]:
        """All ranks but this one."""
        return [rank for rank in range(self.launch.size) if rank != self.launch.rank]

    def _is_gone(self, rank: int, patience: float) -> bool:
        end = time.monotonic() + patience
        while True:
            with contextlib.suppress(RuntimeError):
                if self.store.check([f"gone/{rank}"]):
                    return True
            if self.has_died(rank):
                return True
            if time.monotonic() >= end:
                return False
            time.sleep(0.1)

    def has_died(self, rank: int) -> bool:
        """Whether a process of this host is no longer there; False for other hosts' processes."""
        is_near = self.present[rank]["machine"] == self.present[self.launch.rank]["machine"]
        return is_near and not is_running(self.present[rank]["pid"])

    def is_far(self, rank: int) -> bool:
        """Whether that process runs on another host, and this is the first of its own."""
        host = self.present[self.launch.rank]["host"]
        return self.present[rank]["host"] != host and self.launch.local_rank == 0

    def wait_for(self, keys: dict[int, str]) -> list[int]:
        """Wait until each of these ranks has set its key, however long it takes. Returns those that are gone instead.

        The store is asked again and again: its own wait would print warnings when it ends without an answer.
        """
        nap, begin, next_look = SHORTEST_NAP, time.monotonic(), SECONDS_BETWEEN_LOOKS
        while missing := [rank for rank, key in keys.items() if not self.store.check([key])]:
            if time.monotonic() - begin > next_look:
                next_look += SECONDS_BETWEEN_LOOKS
                if lost := [rank for rank in self.are_gone(missing) if not self.store.check([keys[rank]])]:
                    return lost
            time.sleep(nap)
            nap = min(2 * nap, LONGEST_NAP)
        return []
