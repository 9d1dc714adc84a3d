"""A part of a recording as an utterance of its own: its samples are those of the whole file, cut at the sample.

The bounds are seconds; frame 0 of a part is the file's frame nearest to its start. What libsndfile can seek in
exactly is read from there; MP3 and Opus, whose decoders remember what came before, are decoded whole.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import BinaryIO

import numpy as np
import soundfile

from data.audio.decode import EncodedAudio, at_16_khz, average_channels, decode_mono, resampled_length
from data.audio.formats.sphere_header import SphereHeader, read_sphere_header
from data.utterance import AudioHeader, Utterance
from trainer.errors import AudioError

SLACK_SECONDS, SLACK_SHARE, ROUNDING = 0.5, 0.05, 0.0101
"""How far a part may end behind its file: seconds, share of the part; and what is but a rounded bound."""
_EXACT = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "VORBIS")
"""libsndfile's subtypes in which reading from a frame gives what reading from the start gives (tests)."""


@dataclass(frozen=True)
class AudioSegment:
    """The part of `whole` from `start` to `end` seconds; an AudioSource."""

    whole: EncodedAudio
    start: float
    end: float | None = None
    """None: to the end of the file."""

    @property
    def name(self) -> str:
        end = "its end" if self.end is None else f"{self.end:g} s"
        return f"{self.whole.name} from {self.start:g} to {end}"

    @property
    def identity(self) -> str:
        return f"{self.whole.identity}|{self.start}|{self.end}"

    @cached_property
    def frames(self) -> tuple[int, int]:
        """First frame and the one behind the last, at the file's own rate; AudioError when they are not in it."""
        rate, num_frames = self.whole.header.rate, self.whole.header.num_frames
        first = _nearest_frame(self.start, rate)
        last = num_frames if self.end is None else _nearest_frame(self.end, rate)
        if first >= num_frames or self.overshoot > self._slack:
            raise AudioError(
                f"{self.name}: the file ends at {num_frames / rate:.2f} s. Mend the bounds (seconds), or take them out "
                "if the file is this utterance alone."
            )
        return first, min(last, num_frames)

    @property
    def overshoot(self) -> float:
        """Seconds by which it is said to end behind the file's end; 0 when it does not."""
        seconds = self.whole.header.num_frames / self.whole.header.rate
        return 0.0 if self.end is None else max(0.0, self.end - seconds)

    @property
    def _slack(self) -> float:
        length = 0.0 if self.end is None else self.end - self.start
        return max(ROUNDING, min(SLACK_SECONDS, SLACK_SHARE * length))

    @property
    def header(self) -> AudioHeader:
        first, last = self.frames
        return replace(self.whole.header, num_frames=last - first)

    @property
    def num_samples(self) -> int:
        return resampled_length(self.header.num_frames, self.whole.header.rate)

    def raw(self) -> bytes:
        return self.whole.raw()

    def mono(self) -> np.ndarray:
        first, last = self.frames
        with self.whole.open() as file:
            samples = _read_part(file, self.whole, first, last)
        if samples is None:
            samples = _last_decoded.samples_of(self.whole)[first:last]
        if len(samples) != last - first:
            raise AudioError(
                f"{self.name}: {last - first} samples were asked for, {len(samples)} are there: truncated?"
            )
        return samples

    def load(self) -> np.ndarray:
        return at_16_khz(self.mono(), self.name, self.header)


def _nearest_frame(seconds: float, rate: int) -> int:
    """Rounded half up, on the decimal that was written: 0.7 s is frame 11,200 at 16 kHz."""
    return int(Fraction(repr(round(seconds, 9))) * rate + Fraction(1, 2))


def _read_part(file: BinaryIO, whole: EncodedAudio, first: int, last: int) -> np.ndarray | None:
    """float32 (last - first,), channels averaged; None where only reading from the start gives these samples."""
    sphere = read_sphere_header(file, whole.name)
    try:
        if sphere is not None:
            return _read_sphere_part(file, sphere, first, last)
        with soundfile.SoundFile(file) as sound:
            if sound.subtype not in _EXACT or sound.frames != whole.header.num_frames:
                return None
            sound.seek(first)
            return average_channels(sound.read(last - first, dtype="float32", always_2d=True))
    except (soundfile.SoundFileError, TypeError):
        return None  # reading the whole says what is wrong


def _read_sphere_part(file: BinaryIO, sphere: SphereHeader, first: int, last: int) -> np.ndarray:
    num_bytes = sphere.width * sphere.num_channels  # of a frame
    file.seek(sphere.num_bytes + first * num_bytes)
    part = io.BytesIO(file.read((last - first) * num_bytes))
    samples, _ = soundfile.read(part, dtype="float32", always_2d=True, **sphere.raw_format)
    return average_channels(samples)


class _LastDecoded:
    """The samples of the file that was decoded last: in a corpus a file's parts follow one another."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Free the memory: an hour of 44.1 kHz mono takes 635 MB."""
        self.identity, self.samples = "", np.zeros(0, np.float32)

    def samples_of(self, whole: EncodedAudio) -> np.ndarray:
        with self.lock:
            if whole.identity != self.identity:
                self.forget()
                with whole.open() as file:
                    self.samples = decode_mono(file, whole.name, whole.header)
                self.identity = whole.identity
            return self.samples


_last_decoded = _LastDecoded()


def forget_decoded() -> None:
    """Free the file that is kept while its parts are read."""
    _last_decoded.forget()


def part_digest(digest: str, audio: object) -> str:
    """`digest` of a file's bytes, with the frames if `audio` is a part of it; AudioError when they are not in it."""
    return f"{digest}:{audio.frames[0]}-{audio.frames[1]}" if isinstance(audio, AudioSegment) else digest


def find_overshoots(utterances: Iterable[Utterance]) -> list[tuple[float, str]]:
    """(Seconds, id) of each part that is said to end behind its file's end, and so ends with it."""
    found = []
    for utterance in utterances:
        audio = utterance.audio
        try:
            if isinstance(audio, AudioSegment) and audio.overshoot > ROUNDING and audio.frames:
                found.append((audio.overshoot, utterance.id))
        except AudioError:
            continue  # told as unreadable
    return found


def describe_overshoots(found: list[tuple[float, str]]) -> str:
    """All of `find_overshoots` in one line; empty when there is none."""
    if not found:
        return ""
    names = ", ".join(name for _, name in found[:3]) + (", ..." if len(found) > 3 else "")
    return f"{len(found)} segments end up to {max(found)[0]:.2f} s behind their file's end and are cut there ({names})"
