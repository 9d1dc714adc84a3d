"""Several readings of utterances as one sequence, without a copy."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from typing import overload

import pyarrow as pa

from data.utterance import Utterance
from data.utterance_table import UtteranceTable, first_twice
from trainer.errors import CorpusError


class UtteranceChain(Sequence[Utterance]):
    """The utterances of each of `parts`, one part after the other."""

    def __init__(self, parts: Sequence[Sequence[Utterance]]) -> None:
        self.parts = parts
        self._ends = list(itertools.accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, i: int) -> Utterance: ...

    @overload
    def __getitem__(self, i: slice) -> Sequence[Utterance]: ...

    def __getitem__(self, i: int | slice) -> Utterance | Sequence[Utterance]:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        i %= len(self)
        part = bisect.bisect_right(self._ends, i)
        return self.parts[part][i - (self._ends[part - 1] if part else 0)]


def chain_utterances(parts: Sequence[Sequence[Utterance]]) -> Sequence[Utterance]:
    """All of them in order; CorpusError names both places of an id that two of them have."""
    if len(parts) == 1:
        return parts[0]
    chain = UtteranceChain(parts)
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
