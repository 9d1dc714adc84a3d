"""Who is there: the processes of a run find each other in torchrun's store, and nobody takes an earlier start for now.

torchrun's store outlives the processes: when it starts them again, all that the earlier ones wrote is still in it, and
neither its restart count (each node counts its own) nor a change of membership tells the two apart. So rank 0 calls
the names that it finds; every process answers a call that has its own name in it, which no earlier process had.

    here/RANK          what a process says of itself, its name included
    call               what rank 0 found at every rank
    answer/CALL/RANK   set by each process that finds itself in the call
    go/CALL            set by rank 0 when all have answered

What follows happens under a prefix of this call alone.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from typing import Any

import torch.distributed as dist

from trainer.parallel.launch import Launch
from trainer.parallel.store import LONGEST_NAP


def call_the_roll(
    store: dist.Store, launch: Launch, own: dict[str, Any], seconds: float
) -> tuple[dist.Store, list[dict[str, Any]]]:
    """A part of `store` that only these processes know, and what each said of itself, in the order of ranks.

    `own` says it of this process: anything that JSON can hold. After `seconds` there are only those that have come.
    """
    roll = _Roll(store, launch, own)
    end = time.monotonic() + seconds
    while not roll.is_complete():
        if time.monotonic() > end:
            return store, roll.who_came()
        time.sleep(LONGEST_NAP)
    return dist.PrefixStore(f"start/{roll.call}", store), roll.called


class _Roll:
    """The roll, as one process sees it."""

    def __init__(self, store: dist.Store, launch: Launch, own: dict[str, Any]) -> None:
        self.store, self.launch = store, launch
        self.name = uuid.uuid4().hex
        self.keys = [f"here/{rank}" for rank in range(launch.size)]
        self.called: list[dict[str, Any]] = []
        """What all said of themselves, in the last call that has this process in it."""
        self.call = ""
        """A digest of that call."""
        store.set(self.keys[launch.rank], json.dumps(own | {"name": self.name}))

    def is_complete(self) -> bool:
        """Whether all have answered, as far as is known now. Does what this process has to do for it."""
        if self.launch.is_first and self.store.check(self.keys):
            self._publish([json.loads(value) for value in self.store.multi_get(self.keys)])
        self._answer()
        if self.launch.is_first and self.call and self.store.check(self._answers()):
            self.store.set(f"go/{self.call}", "")
        return bool(self.call) and self.store.check([f"go/{self.call}"])

    def _publish(self, found: list[dict[str, Any]]) -> None:
        if found != self.called:
            self.store.set("call", json.dumps(found))

    def _answer(self) -> None:
        if not self.store.check(["call"]):
            return
        found = json.loads(self.store.get("call"))
        names = [one["name"] for one in found]
        if len(names) != self.launch.size or names[self.launch.rank] != self.name:
            return  # of an earlier start
        call = hashlib.blake2b(json.dumps(names).encode(), digest_size=8).hexdigest()
        if call != self.call:
            self.called, self.call = found, call
            self.store.set(f"answer/{call}/{self.launch.rank}", "")

    def _answers(self) -> list[str]:
        return [f"answer/{self.call}/{rank}" for rank in range(self.launch.size)]

    def who_came(self) -> list[dict[str, Any]]:
        """What those said who have answered, or, before there was a call, who have left a word."""
        keys = self._answers() if self.call else self.keys
        came = [rank for rank, key in enumerate(keys) if self.store.check([key])]
        if len(came) == self.launch.size:  # the words of an earlier start are there, but nobody calls
            came.remove(0)
        return [json.loads(self.store.get(self.keys[rank])) for rank in came]
