"""Audio that a Python program hands over as samples: an AudioSource without a file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from data.audio.decode import MAX_RATE, MIN_RATE, at_16_khz, resampled_length
from data.utterance import SAMPLE_RATE, AudioHeader
from trainer.errors import AudioError


@dataclass(frozen=True)
class SampledAudio:
    """Samples that `read` returns whenever they are wanted, the same every time."""

    name: str
    read: Callable[[], np.ndarray]
    """float32 (num_frames,), mono at `rate`."""
    num_frames: int
    digest: str
    """Of the samples, see `digest_of`."""
    rate: int = SAMPLE_RATE

    @property
    def identity(self) -> str:
        return f"samples {self.digest} at {self.rate}"

    @cached_property
    def header(self) -> AudioHeader:
        return AudioHeader(whole_rate(self.rate, self.name), 1, self.num_frames, is_pcm16=False)

    @property
    def num_samples(self) -> int:
        return resampled_length(self.num_frames, self.header.rate)

    def raw(self) -> bytes:
        """What stands for a file's bytes: it is hashed to tell recordings apart, which the samples' digest does."""
        return self.identity.encode()

    def load(self) -> np.ndarray:
        return at_16_khz(self.mono(), self.name, self.header)

    def mono(self) -> np.ndarray:
        samples = self.read()
        if digest_of(samples) != self.digest:
            raise AudioError(
                f"{self.name}: it returned other samples than when it was first read. A data set must return the same "
                "item every time: augmentation belongs to training (Config.augment, SpecAugment)."
            )
        return samples


def recording_of(waveform: Any, rate: int, name: str) -> np.ndarray:
    """float32 (num_samples,), mono at SAMPLE_RATE, of samples at `rate` as `to_mono` takes them. AudioError when they
    are no sound; `name` begins the message."""
    samples = to_mono(waveform, name)
    whole = whole_rate(rate, name)
    return SampledAudio(name, lambda: samples, len(samples), digest_of(samples), whole).load()


def whole_rate(rate: Any, name: str) -> int:
    """`rate`, samples a second, as an int: other libraries hand it over as 16000.0. AudioError, which begins with
    `name`, when it is no whole number, or none that is read."""
    if not isinstance(rate, int | float | np.integer | np.floating) or isinstance(rate, bool):
        raise AudioError(f"{name}: a rate of {rate!r}. Give the number of samples a second.")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioError(f"{name}: a rate of {rate} Hz; {MIN_RATE} to {MAX_RATE} Hz are read.")
    if rate != int(rate):
        raise AudioError(f"{name}: a rate of {rate} Hz. Give a whole number of samples a second.")
    return int(rate)


def digest_of(samples: np.ndarray) -> str:
    return hashlib.blake2b(samples.tobytes(), digest_size=16).hexdigest()


def to_mono(waveform: Any, name: str) -> np.ndarray:
    """float32 (n,) of a tensor or an array: (n,), or (channels, n) as torchaudio has it, whose channels are averaged.

    Full scale is 1 for floating-point samples; integers of at most 32 bits are divided by the largest of their type.
    AudioError for anything else; `name` begins the message.
    """
    samples = _to_array(waveform, name)
    if samples.dtype.kind in "OSUV" and samples.ndim == 0:
        raise AudioError(
            f"{name}: a {type(waveform).__name__} is no array of samples. Give floating-point or signed integer "
            "samples, (n,) or (channels, n), and the rate beside them."
        )
    if samples.dtype.kind not in "fi" or samples.ndim not in (1, 2):
        raise AudioError(
            f"{name}: a waveform of shape {samples.shape} and type {samples.dtype}. Give floating-point or signed "
            "integer samples, (n,) or (channels, n)."
        )
    if samples.dtype.kind == "i" and samples.dtype.itemsize > 4 and samples.size:
        raise AudioError(
            f"{name}: integers of {8 * samples.dtype.itemsize} bits, as numpy makes of a list, do not tell their full "
            "scale. Convert them to the type that they were recorded in, such as numpy.int16."
        )
    if samples.dtype.kind == "i" and samples.dtype.itemsize == 4 and 0 < _peak(samples) < 2**15:
        raise AudioError(
            f"{name}: integers of 32 bits, none above {_peak(samples)}: 96 dB below their full scale, so these are "
            "samples of 16 bits. Convert them to numpy.int16."
        )
    scale = -float(np.iinfo(samples.dtype).min) if samples.dtype.kind == "i" else 1.0
    if samples.ndim == 2:
        if not len(samples):
            raise AudioError(f"{name}: holds no samples.")
        if samples.shape[0] > max(32, samples.shape[1]):
            raise AudioError(
                f"{name}: a waveform of shape {samples.shape}: channels come first, (channels, n). Give its transpose."
            )
        samples = samples[0] if len(samples) == 1 else samples.mean(axis=0)
    with np.errstate(over="ignore"):  # infinity, which is refused where the samples are used
        return np.ascontiguousarray(samples / scale if scale != 1.0 else samples, dtype=np.float32)


def _peak(samples: np.ndarray) -> int:
    """The largest magnitude of integers; 0 without any."""
    return max(int(samples.max()), -int(samples.min())) if samples.size else 0


def _to_array(waveform: Any, name: str) -> np.ndarray:
    if np.ma.isMaskedArray(waveform) and np.ma.getmaskarray(waveform).any():
        raise AudioError(f"{name}: a masked array, some samples of which are masked. Fill or cut them out first.")
    if hasattr(waveform, "detach") and hasattr(waveform, "cpu"):  # a tensor, perhaps on a device
        is_odd = any(getattr(waveform, name, False) for name in ("is_meta", "is_quantized"))
        if is_odd or str(getattr(waveform, "layout", "torch.strided")) != "torch.strided":
            raise AudioError(f"{name}: a tensor that does not hold its samples one by one. Give a dense one.")
        tensor = waveform.detach().cpu()
        # numpy has no bfloat16
        return np.asarray(tensor.float().numpy() if "bfloat16" in str(tensor.dtype) else tensor.numpy())
    try:
        return np.asarray(waveform)
    except (TypeError, ValueError):  # a tuple of samples and rate, rows of several lengths
        raise AudioError(
            f"{name}: a {type(waveform).__name__} whose items are not all samples. Give floating-point or signed "
            "integer samples, (n,) or (channels, n), and the rate beside them."
        ) from None
