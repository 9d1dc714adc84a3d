"""Several sequences as one, without a copy."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from typing import TypeVar

import pyarrow as pa

from data.audio.segments import find_overshoots
from data.lazy import Lazy
from data.utterance import Utterance
from data.utterance_table import UtteranceTable, first_twice
from trainer.errors import CorpusError

T = TypeVar("T")


class Chain(Lazy[T]):
    """The items of each of `parts`, one part after the other."""

    def __init__(self, parts: Sequence[Sequence[T]]) -> None:
        self.parts = parts
        self._ends = list(itertools.accumulate(map(len, parts)))

    def __iter__(self) -> Iterator[T]:
        return itertools.chain.from_iterable(self.parts)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def at(self, i: int) -> T:
        part = bisect.bisect_right(self._ends, i)
        return self.parts[part][i - (self._ends[part - 1] if part else 0)]


def chain_utterances(parts: Sequence[Sequence[Utterance]]) -> Sequence[Utterance]:
    """All of them in order; CorpusError names both places of an id that two of them have."""
    if len(parts) == 1:
        return parts[0]
    chain = Chain(parts)
    ids = pa.chunked_array([chunk for part in parts for chunk in _ids(part)], pa.string())
    if (twice := first_twice(ids)) is not None:
        again, before = (chain[i] for i in twice)
        raise CorpusError(
            f"{again.origin}: id {again.id!r} stands already at {before.origin}. Ids must be unique in a split: give "
            'each row an "id".'
        )
    return chain


def _ids(utterances: Sequence[Utterance]) -> list[pa.Array]:
    if isinstance(utterances, UtteranceTable):
        return utterances.rows["id"].chunks
    return [pa.array([utterance.id for utterance in utterances], pa.string())]


def once_each(parts: Sequence[Sequence[Utterance]]) -> Chain[Utterance]:
    """All utterances; one that several lists hold only once."""
    seen: dict[int, Utterance] = {}
    tables: list[Sequence[Utterance]] = []
    for part in parts:
        if isinstance(part, UtteranceTable):
            tables.append(part)
        else:
            seen.update((id(u), u) for u in part)
    return Chain([list(seen.values()), *tables])


def overshoots_of(utterances: Sequence[Utterance]) -> list[tuple[float, str]]:
    """data.audio.segments.find_overshoots, asked of a table where it is one."""
    return utterances.overshoots() if isinstance(utterances, UtteranceTable) else find_overshoots(utterances)


def is_checked(utterances: Sequence[Utterance]) -> bool:
    """Whether all audio is known to decode."""
    return isinstance(utterances, UtteranceTable) and utterances.is_checked
