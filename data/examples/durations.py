"""The length that a list gives of its audio, held against the audio itself: a second witness, where there is one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data.utterance import SAMPLE_RATE, Utterance
from data.utterance_table import UtteranceTable
from trainer.errors import AudioError

MOST_DIFFERENCE = 0.1
"""Share of the audio's length by which the list may be off: rounding, trimmed silence."""
_SEGMENT_SHARE, _SEGMENT_SECONDS = 0.5, 0.5


def compare_durations(utterances: Sequence[Utterance]) -> dict[int, tuple[float, float]]:
    """(Seconds said, seconds of audio) by position, where both are known and differ by over 10 %."""
    return _differing(*_measured(utterances))


def _differing(positions: np.ndarray, said: np.ndarray, seconds: np.ndarray) -> dict[int, tuple[float, float]]:
    found = np.flatnonzero(np.abs(said - seconds) > MOST_DIFFERENCE * seconds)
    return {int(positions[k]): (float(said[k]), float(seconds[k])) for k in found}


def find_segments(utterances: Sequence[Utterance]) -> dict[int, tuple[float, float]]:
    """Those that clearly mean a part of their file: under half of it, and over 0.5 s less.

    Where most rows are off by one and the same factor, their durations are in another unit, and none is a segment.
    """
    return segments_among(*_measured(utterances))


def segments_among(positions: np.ndarray, said: np.ndarray, seconds: np.ndarray) -> dict[int, tuple[float, float]]:
    """The same from arrays (n,): (seconds said, seconds of audio) by position."""
    differing = _differing(positions, said, seconds)
    if not differing:
        return {}
    ratios = said / seconds
    middle = float(np.median(ratios))
    num_alike = int((np.abs(ratios - middle) <= MOST_DIFFERENCE * middle).sum())
    is_other_unit = len(ratios) >= 3 and num_alike > len(ratios) / 2 and abs(middle - 1) > MOST_DIFFERENCE
    return {
        i: (of_list, of_audio)
        for i, (of_list, of_audio) in differing.items()
        if not is_other_unit and of_list < _SEGMENT_SHARE * of_audio and of_audio - of_list > _SEGMENT_SECONDS
    }


def describe_segment(said: float, seconds: float) -> str:
    """What is wrong with one of them, and the remedy."""
    return (
        f"its duration is {said:g} s, its audio lasts {seconds:.2f} s: a part of the file? Say where it begins "
        '("offset"), or cut the audio, or mend the duration'
    )


def describe_durations(split: str, utterances: Sequence[Utterance]) -> str:
    """`eval: the durations of 2 of 90 utterances are over 10 % off (a: 1.2 s said, 2.4 s found; b: ...)`, or empty."""
    differing = compare_durations(utterances)
    if not differing:
        return ""
    shown = [
        f"{utterances[i].id}: {said:g} s said, {seconds:.2f} s found"
        for i, (said, seconds) in list(differing.items())[:3]
    ]
    more = "; ..." if len(differing) > 3 else ""
    return (
        f"{split}: the durations of {len(differing)} of {len(utterances)} utterances are over 10 % off their audio "
        f"({'; '.join(shown)}{more})"
    )


def _measured(utterances: Sequence[Utterance]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(Positions, seconds said, seconds of audio), where a duration is said and the audio readable and not empty."""
    if isinstance(utterances, UtteranceTable):
        return utterances.stated_durations()
    found = []
    for i, utterance in enumerate(utterances):
        if utterance.stated_duration is None:
            continue
        try:
            num_samples = utterance.audio.num_samples
        except AudioError:
            continue
        if num_samples:
            found.append((i, utterance.stated_duration, num_samples / SAMPLE_RATE))
    rows = np.array(found, np.float64).reshape(-1, 3)
    return rows[:, 0].astype(np.int64), rows[:, 1], rows[:, 2]
