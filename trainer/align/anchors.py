"""Where a long recording can be cut so that each piece holds known words: places that are heard exactly as written.

An anchor is a boundary of two words with HALF units on either side that stand once in the transcript and are heard,
exactly so, once in the recording. Anchors that come in the same order in both cut the recording, and every piece is
aligned exactly. So the whole is what one search over everything would give, as long as that path passes through the
anchors.
"""

from __future__ import annotations

import bisect
from collections.abc import Collection, Sequence

import numpy as np

HALF = 12
"""Units on either side of an anchor."""


def find_cuts(
    words: Sequence[Sequence[int]], heard: np.ndarray, ignored: Collection[int], min_frames: int
) -> list[tuple[int, int]]:
    """(Word, frame) of each cut, in order: word and frame are the first behind it.

    words: the unit ids of each word; heard int64 (T,): each frame's best unit; ignored: blank and delimiter. Each piece
    has at least `min_frames` frames.
    """
    spelled = [[unit for unit in word if unit not in ignored] for word in words]
    written = np.array([unit for word in spelled for unit in word], np.int64)
    begins = np.flatnonzero(np.diff(heard, prepend=-1) != 0)  # of the runs of one unit
    ends = np.append(begins[1:], len(heard))
    are_units = ~np.isin(heard[begins], list(ignored))
    said, ends = heard[begins][are_units], ends[are_units]
    in_text, in_audio = _once(written), _once(said)
    boundaries = np.cumsum([len(word) for word in spelled])[:-1]
    pairs = []
    for word, boundary in enumerate(boundaries.tolist(), 1):
        key = _around(written, boundary)
        if key in in_text and key in in_audio:
            pairs.append((word, int(ends[in_audio[key] - 1])))
    cuts, last = list[tuple[int, int]](), 0
    for word, frame in _in_order(pairs):
        if frame - last >= min_frames and len(heard) - frame >= min_frames:
            cuts.append((word, frame))
            last = frame
    return cuts


def _around(units: np.ndarray, at: int) -> bytes:
    """The HALF units before and after the place, as a key; fewer at the ends, where they are no key of `_once`."""
    return units[max(0, at - HALF) : at + HALF].tobytes()


def _once(units: np.ndarray) -> dict[bytes, int]:
    """{Units around a place: the place} of those that stand there only."""
    places: dict[bytes, int] = {}
    for at in range(HALF, len(units) - HALF + 1):
        key = _around(units, at)
        places[key] = -1 if key in places else at
    return {key: at for key, at in places.items() if at >= 0}


def _in_order(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The most of `pairs`, which are sorted by their first, that are sorted by their second too."""
    tops, chosen = list[int](), list[int]()  # for each length: the smallest last frame, and which pair has it
    before = list[int]()
    for i, (_, frame) in enumerate(pairs):
        length = bisect.bisect_left(tops, frame)
        before.append(chosen[length - 1] if length else -1)
        tops[length : length + 1], chosen[length : length + 1] = [frame], [i]
    found, at = list[tuple[int, int]](), chosen[-1] if chosen else -1
    while at >= 0:
        found.append(pairs[at])
        at = before[at]
    return found[::-1]
