"""How loud a recording is from moment to moment, and what that tells: is there speech, where does it begin and end.

Figures of one recording; what is too much is for whoever knows the others to say (trainer.signs.recording).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.utterance import SAMPLE_RATE

FRAME = SAMPLE_RATE // 100
"""Samples of 10 ms. A level is of two neighbouring frames."""
BELOW_SPEECH = 25.0
"""dB below the loudest twentieth of the frames: what is as quiet is no speech, or its very end."""
ZERO = 2e-5
"""Less than a step of 16 bits."""
FLOOR = 1e-12
"""The power of silence, so that it has a logarithm."""


@dataclass(frozen=True)
class Envelope:
    """Measures of one recording.

    Levels are of the first difference, which takes hum and offset away, and makes of the noise of wind and traffic the
    steady sound that it is to the ear; at the two ends of the samples themselves, since vowels are cut off too."""

    modulation: float
    """dB between the loudest twentieth of the frames and the quietest tenth: 0.5 for noise, 20 and more for speech."""
    lead: float
    """Seconds before the first frame that is as loud as speech."""
    trail: float
    """Seconds after the last one."""
    start_level: float
    """dB of the first 20 ms, relative to the loudest twentieth of all: far below 0, but where speech is cut off."""
    end_level: float
    """The same of the last 20 ms."""
    hole: float
    """Seconds of the longest run of zeros with speech just before and just after it; 0 where there is none."""
    hole_start: float
    """Seconds from the beginning."""


def measure_envelope(samples: np.ndarray) -> Envelope:
    """Of float32 (n,) samples, n > 0, mono, at SAMPLE_RATE."""
    steps = _powers(np.diff(samples, append=samples[-1:]))
    levels = 10 * np.log10(steps + FLOOR)
    plain = 10 * np.log10(_powers(samples - samples.mean(dtype=np.float64)) + FLOOR)
    quiet, loud = np.quantile(levels, (0.1, 0.95))
    plain -= np.quantile(plain, 0.95)
    is_speech = levels > loud - BELOW_SPEECH
    frames = np.flatnonzero(is_speech)
    hole_start, hole_end = _hole(samples, is_speech)
    return Envelope(
        modulation=float(loud - quiet),
        lead=float(frames[0]) * FRAME / SAMPLE_RATE,
        trail=float(len(levels) - 1 - frames[-1]) * FRAME / SAMPLE_RATE,
        start_level=float(plain[0]),
        end_level=float(plain[-1]),
        hole=(hole_end - hole_start) / SAMPLE_RATE,
        hole_start=hole_start / SAMPLE_RATE,
    )


def _powers(samples: np.ndarray) -> np.ndarray:
    """float64 (n,): the mean square of each two neighbouring frames; of all samples, where there is one frame."""
    num_frames = max(1, len(samples) // FRAME)
    frames = np.pad(samples, (0, max(0, FRAME - len(samples))))[: num_frames * FRAME].reshape(num_frames, FRAME)
    power = np.einsum("ij,ij->i", frames, frames, dtype=np.float64) / FRAME
    return (power[1:] + power[:-1]) / 2 if num_frames > 1 else power


def _hole(samples: np.ndarray, is_speech: np.ndarray) -> tuple[int, int]:
    """(First, last + 1) of the longest run of zeros between two sounds of speech; (0, 0) where there is none."""
    is_zero = np.abs(samples) <= ZERO
    if np.count_nonzero(is_zero) < FRAME:
        return 0, 0
    edges = np.flatnonzero(np.diff(is_zero, prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]
    is_long = (ends - starts >= FRAME) & (starts > 0) & (ends < len(samples))
    best = (0, 0)
    for start, end in zip(starts[is_long].tolist(), ends[is_long].tolist(), strict=True):
        before, after = min((start - 1) // FRAME, len(is_speech)) - 1, min(end // FRAME, len(is_speech) - 1)
        if end - start > best[1] - best[0] and is_speech[max(0, before)] and is_speech[after]:
            best = start, end
    return best
