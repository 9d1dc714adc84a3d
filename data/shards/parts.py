"""K/N: the K-th of N equal stretches of a corpus, so that N processes share the work and nothing is done twice."""

from __future__ import annotations

import re

from trainer.errors import ConfigError


def read_part(text: str) -> tuple[int, int]:
    """(K, N) of "K/N"; ConfigError for anything else.

    >>> read_part("3/16")
    (3, 16)
    """
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise ConfigError(f"--part {text}: give K/N, the K-th of N parts, as in 3/16.")
    return int(found[1]), int(found[2])


def part_bounds(length: int, part: tuple[int, int]) -> tuple[int, int]:
    """First position of a part and the one behind its last. The parts are disjoint, in order, and make up the whole.

    >>> [part_bounds(10, (k, 3)) for k in (1, 2, 3)]
    [(0, 3), (3, 6), (6, 10)]
    """
    number, of = part
    return length * (number - 1) // of, length * number // of
