"""Who of a run's processes is still there (trainer.parallel.peers), on one store and without any of them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch.distributed as dist

from trainer.parallel.alive import machine
from trainer.parallel.launch import Launch
from trainer.parallel.peers import Peers


def peers_of(pids: list[int], hosts: list[str] | None = None) -> list[Peers]:
    """Those of each rank; a host of its own name is a machine of its own."""
    store, size = dist.HashStore(), len(pids)
    hosts = hosts or ["here"] * size
    present = [
        {"rank": rank, "host": host, "machine": machine() if host == "here" else host, "pid": pid}
        for rank, (pid, host) in enumerate(zip(pids, hosts, strict=True))
    ]
    return [Peers(store, Launch(rank, size, rank, size), present) for rank in range(size)]


@pytest.fixture
def ended() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_process_that_says_it_failed_counts_as_gone_though_it_runs() -> None:
    here = peers_of([os.getpid()] * 3)
    assert here[0].are_gone(here[0].others()) == []
    here[2].say_gone(follows=False)
    assert here[0].are_gone(here[0].others()) == [2]
    assert here[1].are_gone([0, 2]) == [2]


def test_a_process_that_ended_is_gone_on_its_own_host_alone(ended: int) -> None:
    """Another host's process number says nothing here."""
    assert peers_of([os.getpid(), ended])[0].are_gone([1]) == [1]
    assert peers_of([os.getpid(), ended], ["here", "far"])[0].are_gone([1]) == []


def test_waiting_ends_when_all_are_there_or_names_those_who_never_will_be(ended: int) -> None:
    here = peers_of([os.getpid(), os.getpid(), ended])[0]
    here.store.set("a", "")
    here.store.set("b", "")
    assert here.wait_for({0: "a", 1: "b"}) == []
    assert here.wait_for({0: "a", 2: "c"}) == [2]
    here.store.set("c", "")  # it was there, and went then
    assert here.wait_for({2: "c"}) == []
