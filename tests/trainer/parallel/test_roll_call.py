"""Who is there: nobody of an earlier start is taken for one of now, in a store that outlives them all.

Ranks are threads here. pytest tests/trainer/parallel/test_roll_call.py
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch.distributed as dist

from trainer.parallel.launch import Launch
from trainer.parallel.roll_call import call_the_roll


def start(store: dist.Store, size: int, what: str, absent: tuple[int, ...] = (), seconds: float = 20.0) -> list[Any]:
    """(Their part of the store, what they found) of each rank of one start."""

    def rank(number: int) -> tuple[dist.Store, list[str]]:
        own = {"rank": number, "host": "here", "start": what}
        part, present = call_the_roll(store, Launch(number, size, number, size), own, seconds)
        return part, [f"{one['start']}{one['rank']}" for one in present]

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(rank, [r for r in range(size) if r not in absent]))


def test_all_ranks_find_each_other_and_never_those_of_an_earlier_start() -> None:
    """Three starts in the same store, of three, two and three ranks: each finds its own, and a store without a key."""
    store = dist.HashStore()
    for what, size in (("a", 3), ("b", 2), ("c", 3)):
        found = start(store, size, what)
        assert [names for _, names in found] == [[f"{what}{r}" for r in range(size)]] * size
        parts = [part for part, _ in found]
        assert not parts[0].check(["met"])
        parts[0].set("met", what)
        assert all(part.get("met") == what.encode() for part in parts)


def test_whoever_does_not_come_is_missed_even_if_it_came_to_an_earlier_start() -> None:
    """Rank 1, and rank 0, who would call: the words that they left at the earlier start do not count."""
    store = dist.HashStore()
    start(store, 3, "a")
    for absent, there in ((1, [0, 2]), (0, [1, 2])):
        for _, names in start(store, 3, "b", (absent,), seconds=0.5):
            assert [int(name[1:]) for name in names] == there


def test_a_start_with_nobody_before_names_those_who_came() -> None:
    assert [names for _, names in start(dist.HashStore(), 3, "a", (2,), seconds=0.3)] == [["a0", "a1"]] * 2
