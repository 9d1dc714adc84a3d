"""A part of a recording as an utterance of its own: a stretch of it, one of its channels, or both.

Its samples are those of the whole file, cut at the sample. The bounds are seconds; frame 0 of a part is the file's
frame nearest to its start. What libsndfile can seek in exactly is read from there; MP3 and Opus, whose decoders
remember what came before, are decoded whole.
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

from data.audio.decode import (
    EncodedAudio,
    at_16_khz,
    decode_mono,
    refuse_no_channel,
    resampled_length,
    to_one_channel,
)
from data.audio.formats.sphere_header import SphereHeader, read_sphere_header
from data.utterance import AudioHeader, AudioSource, Utterance
from trainer.errors import AudioError

SLACK_SECONDS, SLACK_SHARE, ROUNDING = 0.5, 0.05, 0.0101
"""How far a part may end behind its file: seconds, share of the part; and what is but a rounded bound."""
_EXACT = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "VORBIS")
"""libsndfile's subtypes in which reading from a frame gives what reading from the start gives (tests)."""


@dataclass(frozen=True)
class AudioSegment:
    """The part of `whole` from `start` to `end` seconds; an AudioSource."""

    whole: EncodedAudio
    start: float = 0.0
    end: float | None = None
    """None: to the end of the file."""
    channel: int | None = None
    """0 is the first; None: the mean of all."""

    @property
    def name(self) -> str:
        channel = "" if self.channel is None else f", channel {self.channel + 1}"
        if self.is_all_of_it:
            return f"{self.whole.name}{channel}"
        end = "its end" if self.end is None else f"{self.end:g} s"
        return f"{self.whole.name} from {self.start:g} to {end}{channel}"

    @property
    def identity(self) -> str:
        channel = "" if self.channel is None else f"|channel {self.channel}"
        return f"{self.whole.identity}|{self.start}|{self.end}{channel}"

    @property
    def is_all_of_it(self) -> bool:
        """Whether it is the file from beginning to end."""
        return self.start == 0 and self.end is None

    @property
    def is_the_file(self) -> bool:
        """Whether it is the only channel of its file, from beginning to end."""
        return self.channel == 0 and self.is_all_of_it and self.whole.header.num_channels == 1

    @cached_property
    def frames(self) -> tuple[int, int]:
        """First frame and the one behind the last, at the file's own rate; AudioError when they, or the channel, are
        not in it."""
        rate, num_frames = self.whole.header.rate, self.whole.header.num_frames
        refuse_no_channel(self.whole.name, self.channel, self.whole.header.num_channels)
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
        num_channels = self.whole.header.num_channels if self.channel is None else 1
        return replace(self.whole.header, num_frames=last - first, num_channels=num_channels)

    @property
    def num_samples(self) -> int:
        return resampled_length(self.header.num_frames, self.whole.header.rate)

    def raw(self) -> bytes:
        return self.whole.raw()

    def mono(self) -> np.ndarray:
        first, last = self.frames
        with self.whole.open() as file:
            samples = _read_part(file, self.whole, first, last, self.channel)
        if samples is None:
            samples = _last_decoded.samples_of(self.whole, self.channel)[first:last]
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


def _read_part(file: BinaryIO, whole: EncodedAudio, first: int, last: int, channel: int | None) -> np.ndarray | None:
    """float32 (last - first,); None where only reading from the start gives these samples."""
    sphere = read_sphere_header(file, whole.name)
    try:
        if sphere is not None:
            return _read_sphere_part(file, sphere, first, last, channel)
        with soundfile.SoundFile(file) as sound:
            if sound.subtype not in _EXACT or sound.frames != whole.header.num_frames:
                return None
            sound.seek(first)
            return to_one_channel(sound.read(last - first, dtype="float32", always_2d=True), channel)
    except (soundfile.SoundFileError, TypeError):
        return None  # reading the whole says what is wrong


def _read_sphere_part(file: BinaryIO, sphere: SphereHeader, first: int, last: int, channel: int | None) -> np.ndarray:
    num_bytes = sphere.width * sphere.num_channels  # of a frame
    file.seek(sphere.num_bytes + first * num_bytes)
    part = io.BytesIO(file.read((last - first) * num_bytes))
    samples, _ = soundfile.read(part, dtype="float32", always_2d=True, **sphere.raw_format)
    return to_one_channel(samples, channel)


class _LastDecoded:
    """The samples of the file that was decoded last: in a corpus a file's parts follow one another."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Free the memory: an hour of 44.1 kHz mono takes 635 MB."""
        self.identity, self.of_channel = "", dict[int | None, np.ndarray]()

    def samples_of(self, whole: EncodedAudio, channel: int | None) -> np.ndarray:
        with self.lock:
            if whole.identity != self.identity:
                self.forget()
            if channel not in self.of_channel:  # the two sides of a call take turns
                with whole.open() as file:
                    self.of_channel[channel] = decode_mono(file, whole.name, whole.header, channel)
                self.identity = whole.identity
            return self.of_channel[channel]


_last_decoded = _LastDecoded()


def forget_decoded() -> None:
    """Free the file that is kept while its parts are read."""
    _last_decoded.forget()


def part_digest(digest: str, audio: object) -> str:
    """`digest` of a file's bytes; of a part of it with its channel and frames. AudioError when they are not in it."""
    if not isinstance(audio, AudioSegment) or audio.is_the_file:
        return digest
    return f"{channel_digest(bytes.fromhex(digest), audio).hex()}:{audio.frames[0]}-{audio.frames[1]}"


FILE_BYTES = 14
"""Of the 16 of a digest: those that all channels of a file share, and their mean."""


def channel_digest(digest: bytes, audio: AudioSegment) -> bytes:
    """16 bytes that stand for the channel that `audio` is of the file whose bytes have this digest; the digest itself
    where it is the mean of all, or the only one."""
    if audio.channel is None or audio.whole.header.num_channels == 1:
        return digest
    number = int.from_bytes(digest[FILE_BYTES:], "big") + 1 + audio.channel
    return digest[:FILE_BYTES] + (number % 2**16).to_bytes(2, "big")


def file_of(audio: AudioSource) -> str:
    """The name of the file that it is, or is a part of."""
    return audio.whole.name if isinstance(audio, AudioSegment) else audio.name


def channel_of(audio: AudioSource) -> int | None:
    """The channel of its file that it is, 0 the first; None: the mean of all."""
    return audio.channel if isinstance(audio, AudioSegment) else None


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
