"""How far aligned words begin and end from where they are known to, and spike times learned from such words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from data.utterance import SAMPLE_RATE, Segment
from trainer.align.alignment import Alignment
from trainer.align.times import Sides, SpikeTimes, WordSpikes, learn_times
from trainer.errors import CorpusError

WITHIN_MS = (10, 20, 50)
FEWEST = 200
"""Boundaries of each kind below which nothing is learned."""


@dataclass
class BoundaryErrors:
    """Errors of word beginnings and ends in milliseconds, positive where the alignment is late."""

    begins: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    num_missing: int = 0
    """Known words that were not aligned; they have no error."""

    def add(self, alignment: Alignment, known: Sequence[Segment]) -> None:
        """The words of an alignment whose text was the known labels."""
        for word, segment in zip(alignment.words, known, strict=True):
            if word.status != "aligned":
                self.num_missing += 1
                continue
            self.begins.append(1000 * (word.start - segment.start) / SAMPLE_RATE)
            self.ends.append(1000 * (word.end - segment.end) / SAMPLE_RATE)

    def figures(self) -> dict[str, float | int]:
        """Over beginnings and ends alike: means in ms, shares from 0 to 1."""
        both = np.array(self.begins + self.ends)
        if len(both) == 0:
            return {"num_words": 0, "num_missing": self.num_missing}
        size = np.abs(both)
        shares = {f"share_within_{limit}_ms": float((size <= limit).mean()) for limit in WITHIN_MS}
        return {
            "num_words": len(self.begins),
            "num_missing": self.num_missing,
            "mean_ms": float(size.mean()),
            "median_ms": float(np.median(size)),
            **shares,
            "mean_begin_shift_ms": float(np.mean(self.begins)),
            "mean_end_shift_ms": float(np.mean(self.ends)),
        }


HEADER = "times       words  missing     mean   median   <= 10 ms  <= 20 ms  <= 50 ms   shift of begin, end"


def describe(name: str, errors: BoundaryErrors) -> str:
    """A row under HEADER; milliseconds."""
    found = errors.figures()
    if not found["num_words"]:
        return f"{name:10}{0:7}{errors.num_missing:9}"
    shares = "".join(f"{100 * found[f'share_within_{limit}_ms']:8.1f} %" for limit in WITHIN_MS)
    size = f"{found['mean_ms']:9.1f}{found['median_ms']:9.1f}"
    return (
        f"{name:10}{found['num_words']:7}{errors.num_missing:9}{size} {shares}"
        f"   {found['mean_begin_shift_ms']:+.1f}, {found['mean_end_shift_ms']:+.1f}"
    )


def learn(aligned: Iterable[tuple[dict[int, WordSpikes], Sequence[Segment]]], source: str) -> SpikeTimes:
    """Times from each recording's aligned words and all its known ones; CorpusError where they are too few."""
    begins, ends = list[tuple[Sides, float]](), list[tuple[Sides, float]]()
    for words, known in aligned:
        for i, word in words.items():
            begins.append((word.at_start, known[i].start))
            ends.append((word.at_end, known[i].end))
    if len(begins) < FEWEST:
        raise CorpusError(
            f"{source}: {len(begins)} words with known times were aligned. Times are learned from {FEWEST} at least."
        )
    return learn_times(begins, ends, f"{source}, {len(begins)} words")
