"""Utterances by the million: their fields lie in Arrow columns, and each is made when somebody asks for it.

A list of Utterances costs about two kB for each. A table costs what its texts cost, and nothing where it is
memory-mapped. `texts_of` and its like read a column without making the utterances.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.lazy import Lazy
from data.utterance import SAMPLE_RATE, AudioHeader, AudioSource, Utterance
from trainer.errors import AudioError


class UtteranceTable(Lazy[Utterance]):
    """Utterances in the rows of an Arrow table with the columns id, text and speaker at least."""

    def __init__(self, rows: pa.Table) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, i: int) -> Utterance:
        return self.utterance(i)

    @abc.abstractmethod
    def utterance(self, i: int) -> Utterance:
        """The utterance of row `i`, made anew at each call."""

    def audio(self, i: int) -> AudioSource:
        """The audio of row `i`."""
        return self.utterance(i).audio

    @abc.abstractmethod
    def with_rows(self, rows: pa.Table, change: str) -> UtteranceTable:
        """The same table with other rows: some are left out, or have another text. `change` tells all that differs."""

    @abc.abstractmethod
    def num_samples(self) -> np.ndarray:
        """int64 (n,): samples at 16 kHz; 0 where the audio cannot be read."""

    def errors(self) -> dict[int, AudioError]:
        """By position, why audio cannot be read."""
        return {}

    @property
    def digest(self) -> str:
        """A hash of everything in the table, audio included; empty where it is not known."""
        return ""

    @property
    def is_checked(self) -> bool:
        """Whether all audio is known to decode, and all ids to be unique."""
        return False

    @property
    def is_remote(self) -> bool:
        """Whether loading audio waits for a network, so that several are worth fetching at once."""
        return False

    def source_digest(self, i: int) -> str:
        """Digest of the file that the audio of row `i` was made from, with the frames of a part; empty: not known."""
        return ""

    def column(self, name: str) -> Iterator[Any]:
        """The values of a column, some thousands at a time."""
        for chunk in self.rows[name].chunks:
            for first in range(0, len(chunk), 16_384):
                yield from chunk.slice(first, 16_384).to_pylist()

    def headers(self) -> list[tuple[AudioHeader, int]] | None:
        """Each different header, without its length, and how many utterances have it; None where they must be asked."""
        return None

    def overshoots(self) -> list[tuple[float, str]]:
        """(Seconds, id) of each part of a file that is said to end behind it."""
        return []

    def stated_durations(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(Positions, seconds said, seconds of audio) where the corpus says how long readable audio lasts."""
        found = self.num_samples()
        positions = np.flatnonzero(pc.is_valid(self.rows["stated"]).to_numpy() & (found > 0))
        return positions, self.rows["stated"].to_numpy()[positions], found[positions] / SAMPLE_RATE


def texts_of(utterances: Sequence[Utterance]) -> Iterator[str]:
    """Every transcript, in order."""
    if isinstance(utterances, UtteranceTable):
        return utterances.column("text")
    return (utterance.text for utterance in utterances)


def speakers_of(utterances: Sequence[Utterance]) -> set[str | None]:
    """Every speaker; None is one of them where an utterance names nobody."""
    if isinstance(utterances, UtteranceTable):
        return set(utterances.rows["speaker"].unique().to_pylist())
    return {utterance.speaker for utterance in utterances}


def first_twice(ids: pa.ChunkedArray) -> tuple[int, int] | None:
    """Positions of the first id that stands twice: where it stands again, and where it stood before."""
    if pc.count_distinct(ids).as_py() == len(ids):
        return None
    counts = pc.value_counts(ids)
    twice = {v["values"] for v in counts.filter(pc.greater(counts.field("counts"), 1)).to_pylist()}
    seen: dict[str, int] = {}
    for i, name in enumerate(value for chunk in ids.chunks for value in chunk.to_pylist()):
        if name in twice and (before := seen.setdefault(name, i)) != i:
            return i, before
    raise AssertionError("an id stands twice")
