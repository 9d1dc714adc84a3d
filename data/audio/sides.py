"""Whether the two channels of a recording are two sides of a call, which an average would mix into one.

One sound in two channels, near or far, is loud in both at the same moments. Two speakers take turns, or talk at once
without keeping time; so the loudness of the channels from moment to moment tells them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from data.audio.decode import EncodedAudio, FileAudio, decode_beginning
from data.audio.segments import AudioSegment, file_of
from data.utterance import AudioSource, Utterance
from trainer.errors import AudioError

MOST_SECONDS = 120.0
"""Of a file that are looked at, from its beginning."""
MOST_FILES, MOST_HEADERS = 20, 2000
"""Of a corpus that are looked at, evenly spread: recordings of two channels, and headers to find them."""
_FRAME_SECONDS = 0.05
_ACTIVE = 10 ** (-25 / 20)
"""Of a channel's loud level (95 % of its frames are below it): what is quieter is no speech."""
_LEAST_ACTIVE = 40
"""Frames: two seconds of sound."""
_LEAST_LEVEL = 10 ** (-26 / 20)
"""Of the louder channel's level: a quieter one is empty, or an echo."""
_SAME = 0.5
"""A correlation of envelopes above it is one sound."""
_WORTH_TELLING = 0.25
"""A share of the recordings that were looked at."""


def are_apart(audio: AudioSource) -> bool:
    """Whether its file has two channels with different sound, both about as loud, which it averages.

    AudioError when it cannot be read. Less than two seconds of sound are too short to tell, and are not apart.
    """
    whole = audio.whole if isinstance(audio, AudioSegment) else audio
    if audio.header.num_channels != 2 or not isinstance(whole, EncodedAudio):
        return False
    rate = whole.header.rate
    with whole.open() as file:
        samples = decode_beginning(file, whole.name, round(MOST_SECONDS * rate))
    return samples.shape[1] == 2 and _differ(samples[:, 0], samples[:, 1], rate)


def _differ(left: np.ndarray, right: np.ndarray, rate: int) -> bool:
    frame = round(_FRAME_SECONDS * rate)
    count = len(left) // frame
    if not count:
        return False
    a, b = (np.sqrt(np.square(x[: count * frame].reshape(count, frame)).mean(axis=1)) for x in (left, right))
    loud_a, loud_b = np.quantile(a, 0.95), np.quantile(b, 0.95)
    if not min(loud_a, loud_b) > _LEAST_LEVEL * max(loud_a, loud_b):
        return False
    active = (a > _ACTIVE * loud_a) | (b > _ACTIVE * loud_b)
    a, b = a[active] - a[active].mean(), b[active] - b[active].mean()
    if len(a) < _LEAST_ACTIVE:
        return False
    power = np.sqrt(np.square(a).sum() * np.square(b).sum())
    return bool(power > 0 and (a * b).sum() < _SAME * power)


def describe_sides(utterances: Sequence[Utterance]) -> str:
    """What is to be said of recordings whose channels are averaged though they are apart; empty where few are."""
    some = (utterances[i] for i in _spread(range(len(utterances)), MOST_HEADERS))
    by_file: dict[str, Utterance] = {}  # a call may be cut into hundreds
    for utterance in some:
        if _num_channels(utterance) == 2:
            by_file.setdefault(file_of(utterance.audio), utterance)
    chosen = _spread(list(by_file.values()), MOST_FILES)
    found = [utterance.id for utterance in chosen if _are_apart(utterance)]
    if not found or len(found) < _WORTH_TELLING * len(chosen):
        return ""
    return (
        f"in {len(found)} of {len(chosen)} stereo recordings that were looked at each channel has its own sound, as in "
        f"{found[0]}: a speaker on either side? Averaged they are read as neither: say which channel each row is "
        "(docs/howto-own-data.md, Channels)"
    )


class FirstApart:
    """Which of many files is the first whose channels are apart."""

    def __init__(self) -> None:
        self.left = MOST_FILES
        """Files of two channels that are still looked at."""

    def of_file(self, path: Path) -> bool:
        """Whether it is this one; False for what is no file, and once some files were looked at."""
        if not self.left:
            return False
        try:
            audio = FileAudio(path)
            if audio.header.num_channels != 2:
                return False
            self.left -= 1
            found = are_apart(audio)
        except AudioError:  # no file, or one that ffmpeg reads
            return False
        if found:
            self.left = 0
        return found


_T = TypeVar("_T")


def _spread(items: Sequence[_T], most: int) -> Sequence[_T]:
    """At most so many of them, evenly spread.

    >>> _spread([1, 2, 3, 4, 5], 2), _spread([1, 2], 4)
    ([1, 4], [1, 2])
    """
    return items[:: max(1, -(-len(items) // most))]


def _num_channels(utterance: Utterance) -> int:
    try:
        return utterance.audio.header.num_channels
    except AudioError:  # is told elsewhere
        return 0


def _are_apart(utterance: Utterance) -> bool:
    try:
        return are_apart(utterance.audio)
    except AudioError:
        return False
