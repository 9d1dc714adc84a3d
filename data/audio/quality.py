"""What can be heard to be wrong with decoded speech, measured: cut peaks, an offset, its level, the band it fills.

Figures of one recording; what is too much is for whoever knows the others to say (trainer.signs.recording).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.utterance import SAMPLE_RATE

FRAME = 512
"""Samples of a spectrum: 31.25 Hz a bin."""
EMPTY = 1e-6
"""Of the power (-60 dB): a band that holds less is empty. The noise of a room is more than that; of what a resampler
cuts off, about 1e-10 is left, and the steps of 16 bits under speech of -25 dB are 1e-7."""


@dataclass(frozen=True)
class Quality:
    """Measures of one recording."""

    num_flat_tops: int
    """Runs of three or more samples that are as loud as the loudest one of their sign, but for rounding: peaks that
    were cut off. The peaks of a tone below 50 Hz look like that too."""
    share_at_limit: float
    """Of samples within 2 % of full scale, or beyond: peaks that were cut off before resampling, which rounds them."""
    crowding: float
    """Share of samples beyond four fifths of the level that one in a thousand exceeds: below 0.02 for speech, more
    where peaks were cut off and a resampler, codec or volume control came after it."""
    offset: float
    """The mean, in standard deviations."""
    level: float
    """Root mean square without the offset, in dB of full scale."""
    band: float
    """Hz above which all frequencies together hold less than EMPTY of the power."""


def measure_quality(samples: np.ndarray) -> Quality:
    """Of float32 (n,) samples, n > 0, mono, at SAMPLE_RATE."""
    mean = float(samples.mean(dtype=np.float64))
    deviation = float(samples.std(dtype=np.float64))
    return Quality(
        num_flat_tops=_flat_tops(samples) + _flat_tops(-samples),
        share_at_limit=float((np.abs(samples) >= 0.98).mean()),
        crowding=_crowding(samples - np.float32(mean)),
        offset=mean / max(deviation, 1e-9),
        level=20 * float(np.log10(max(deviation, 1e-9))),
        band=_band(samples - np.float32(mean)),
    )


def _flat_tops(samples: np.ndarray) -> int:
    top = float(samples.max())
    if top < 0.05:  # so quiet that in 16 bits the top of every wave is a plateau
        return 0
    at_top = samples >= np.float32(0.9998 * top)
    if np.count_nonzero(at_top) < 3:
        return 0
    runs = at_top[2:] & at_top[1:-1] & at_top[:-2]
    return int(runs[0]) + int(np.count_nonzero(runs[1:] & ~runs[:-1])) if len(runs) else 0


def _crowding(samples: np.ndarray) -> float:
    loudness = np.abs(samples)
    nearly_all = len(loudness) - 1 - len(loudness) // 1000
    return float(np.mean(loudness > 0.8 * np.partition(loudness, nearly_all)[nearly_all]))


_WINDOW = np.hanning(FRAME).astype(np.float32)


def _band(samples: np.ndarray) -> float:
    if len(samples) < FRAME:
        samples = np.pad(samples, (0, FRAME - len(samples)))
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    spectrum = np.fft.rfft(frames * _WINDOW)
    power = (spectrum.real**2 + spectrum.imag**2).sum(0, dtype=np.float64)
    above = power[::-1].cumsum()[::-1]  # at each bin the power there and above
    edge = int(np.searchsorted(-above, -EMPTY * above[0]))  # the first bin with less
    return edge * SAMPLE_RATE / FRAME
