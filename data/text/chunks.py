"""Strings some thousands at a time, so that a pass over millions need not hold them all. Needs no package."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def chunks_of(texts: Iterable[str]) -> Iterator[list[str]]:
    """All of `texts` in lists: those of its method `chunks` if it has one, else one list."""
    chunks = getattr(texts, "chunks", None)
    if chunks is not None:
        yield from chunks()
    else:
        yield texts if isinstance(texts, list) else list(texts)
