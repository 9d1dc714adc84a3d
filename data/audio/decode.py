"""From an encoded file to samples: float32, full scale 1, mono, 16 kHz. libsndfile decodes, soxr resamples.

A file is what its content is, whatever its name: see data.audio.formats.containers. Channels are averaged, unless one
is asked for.
Normalisation to zero mean and unit variance is not here but where a batch is made (data.batches.collate): it depends on
the encoder.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from data.audio.files import open_regular, stat_regular
from data.audio.formats.containers import examine
from data.audio.formats.parts import Part, reason_of
from data.audio.quiet import quiet_mpg123
from data.utterance import SAMPLE_RATE, AudioHeader
from trainer.errors import AudioError

MIN_RATE, MAX_RATE = 4000, 768_000
"""Samples per second that a header may say; another one is damaged, or no speech."""
_BLOCK_VALUES = 2**20
"""Values, of all channels together, that are decoded at once."""


class EncodedAudio(abc.ABC):
    """An AudioSource over one encoded file; subclasses say where its bytes are."""

    name: str
    identity: str

    @abc.abstractmethod
    def open(self) -> BinaryIO:
        """The encoded bytes, from their beginning."""

    def raw(self) -> bytes:
        with self.open() as file:
            return file.read()

    @functools.cached_property
    def header(self) -> AudioHeader:
        with self.open() as file:
            return read_header(file, self.name)

    @property
    def num_samples(self) -> int:
        return resampled_length(self.header.num_frames, self.header.rate)

    def mono(self) -> np.ndarray:
        with self.open() as file:
            return decode_mono(file, self.name, self.header)

    def load(self) -> np.ndarray:
        return at_16_khz(self.mono(), self.name, self.header)


class FileAudio(EncodedAudio):
    """Audio in a file of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)

    @functools.cached_property
    def identity(self) -> str:  # type: ignore[override]
        try:
            stat = stat_regular(self.path)
        except OSError as error:
            raise AudioError(f"{self.name}: {error.strerror or error}.") from None
        return f"{os.path.abspath(self.path)}|{stat.st_size}|{stat.st_mtime_ns}"

    def open(self) -> BinaryIO:
        try:
            return open_regular(self.path)
        except OSError as error:
            raise AudioError(f"{self.name}: {error.strerror or error}.") from None


def read_header(file: BinaryIO, name: str) -> AudioHeader:
    """What `file` holds; AudioError when it is no audio that is read here, or shorter than it says."""
    header = examine(file, name).header
    if not MIN_RATE <= header.rate <= MAX_RATE:
        raise AudioError(f"{name}: a rate of {header.rate} Hz; {MIN_RATE} to {MAX_RATE} Hz are read.")
    return header


def decode(file: BinaryIO, name: str, header: AudioHeader) -> np.ndarray:
    """float32 (num_samples,), mono at SAMPLE_RATE; AudioError when it is not as long as `header` says, or no sound."""
    return at_16_khz(decode_mono(file, name, header), name, header)


def decode_mono(file: BinaryIO, name: str, header: AudioHeader, channel: int | None = None) -> np.ndarray:
    """float32 (num_frames,), one channel (0 the first) or the mean of all, at the file's own rate; AudioError when it
    is shorter than it says.

    Memory holds one channel of the whole, and of the others a block at a time.
    """
    contents = examine(file, name, thorough=True)
    try:
        blocks = [to_one_channel(block, channel) for part in contents.parts for block in _blocks(part)]
    except (soundfile.SoundFileError, TypeError) as error:
        raise AudioError(f"{name}: decoding failed ({reason_of(error)}).") from None
    num_frames = sum(map(len, blocks))
    if num_frames != header.num_frames:
        raise AudioError(f"{name}: its header says {header.num_frames} samples, it holds {num_frames}: truncated?")
    return np.concatenate(blocks) if len(blocks) > 1 else blocks[0] if blocks else np.zeros(0, np.float32)


def decode_beginning(file: BinaryIO, name: str, num_frames: int) -> np.ndarray:
    """float32 (n, channels): at most so many samples, all channels, at the file's own rate. What comes later is not
    looked at; AudioError where nothing can be decoded."""
    blocks, left = list[np.ndarray](), num_frames
    try:
        for block in (block for part in examine(file, name).parts for block in _blocks(part)):
            blocks.append(block[:left])
            left -= len(blocks[-1])
            if not left:
                break
    except (soundfile.SoundFileError, TypeError) as error:
        raise AudioError(f"{name}: decoding failed ({reason_of(error)}).") from None
    if not blocks:
        raise AudioError(f"{name}: holds no samples.")
    return np.concatenate(blocks)


def _blocks(part: Part) -> Iterator[np.ndarray]:
    """The part's samples (n, channels), some at a time."""
    quiet = quiet_mpg123() if part.is_mpeg else contextlib.nullcontext(lambda: None)
    with quiet as pass_on, soundfile.SoundFile(part.open(), **part.raw) as sound:
        skip, left = part.skip, part.num_frames
        while left:
            # MP3 cannot be entered in its middle: what is skipped is decoded too
            block = sound.read(min(skip + left, _BLOCK_VALUES // sound.channels), dtype="float32", always_2d=True)
            if not len(block):
                return
            skipped, skip = min(skip, len(block)), max(0, skip - len(block))
            left -= len(block) - skipped
            pass_on()
            yield block[skipped:]


def to_one_channel(samples: np.ndarray, channel: int | None = None) -> np.ndarray:
    """float32 (n,): a channel of `samples` (n, channels), 0 the first; None: the mean of all."""
    if channel is not None:
        return np.ascontiguousarray(samples[:, channel])  # a view would keep the others in memory
    return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)


def refuse_no_channel(name: str, channel: int | None, num_channels: int) -> None:
    """AudioError when `channel`, 0 the first, is none of these."""
    if channel is not None and channel >= num_channels:
        has = "one channel" if num_channels == 1 else f"{num_channels} channels"
        raise AudioError(f"{name}: it has {has}, so there is no channel {channel + 1}.")


def at_16_khz(mono: np.ndarray, name: str, header: AudioHeader) -> np.ndarray:
    """float32 (num_samples,) of `mono` (num_frames,) at the header's rate; AudioError when it is no sound."""
    refuse_no_sound(mono, name, header.num_channels)
    if header.rate != SAMPLE_RATE:
        mono = fit_length(soxr.resample(mono, header.rate, SAMPLE_RATE), resampled_length(len(mono), header.rate))
    return np.ascontiguousarray(mono, dtype=np.float32)


def refuse_no_sound(mono: np.ndarray, name: str, num_channels: int) -> None:
    """AudioError when there are no samples, when all are zero, or when they are not numbers."""
    if not len(mono):
        raise AudioError(f"{name}: holds no samples.")
    with np.errstate(over="ignore", invalid="ignore"):
        energy = float(mono @ mono)  # one pass finds NaN, infinity, and values whose variance would overflow
    if not math.isfinite(energy):
        raise AudioError(f"{name}: holds samples that are not numbers (NaN, infinity or beyond all measure).")
    if not mono.any():
        averaged = " once its channels are averaged" if num_channels > 1 else ""
        raise AudioError(f"{name}: all its samples are zero{averaged}.")


def resampled_length(num_frames: int, rate: int) -> int:
    """Samples at SAMPLE_RATE for `num_frames` at `rate`, rounded half up.

    >>> resampled_length(8000, 8000), resampled_length(44101, 44100)
    (16000, 16000)
    """
    return (2 * num_frames * SAMPLE_RATE + rate) // (2 * rate)


def fit_length(samples: np.ndarray, length: int) -> np.ndarray:
    """`samples` cut or zero-padded to `length`; resamplers may differ from the rounded length by a sample."""
    if len(samples) >= length:
        return samples[:length]
    return np.pad(samples, (0, length - len(samples)))


def change_speed(samples: np.ndarray, factor: float) -> np.ndarray:
    """`samples` played `factor` times as fast (tempo and pitch both), `speed_length` of them."""
    if factor == 1.0:
        return samples
    faster = soxr.resample(samples, SAMPLE_RATE, SAMPLE_RATE / factor, quality="LQ")
    return fit_length(faster, speed_length(len(samples), factor))


def speed_length(num_samples: int, factor: float) -> int:
    """Samples left of `num_samples` when they are played `factor` times as fast."""
    return num_samples if factor == 1.0 else max(1, round(num_samples / factor))


def normalize(samples: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance over the whole utterance, as Wav2Vec2FeatureExtractor's `do_normalize`."""
    return (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
