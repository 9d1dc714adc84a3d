"""How high a voice is, for comparing recordings of one speaker: a recording played too fast has a voice too high."""

from __future__ import annotations

import numpy as np

from data.utterance import SAMPLE_RATE

_DECIMATION = 4
_RATE = SAMPLE_RATE // _DECIMATION
_WINDOW, _HOP = _RATE * 5 // 100, _RATE // 50
"""Of 50 ms, every 20 ms."""
LOWEST, HIGHEST = 45.0, 600.0
"""Hz that are looked for: men at half the speed, and women at twice the speed."""
PERIODIC = 0.6
"""Autocorrelation relative to the frame's power from which on it is voiced."""
FEWEST = 5
"""Voiced frames of which a median is taken."""


def measure_pitch(samples: np.ndarray) -> float:
    """Hz, the median of the voiced frames; NaN where hardly anything is voiced.

    samples float32 (n,), mono, at SAMPLE_RATE. By autocorrelation, normalised by that of the window (Boersma 1993); of
    the peaks that are nearly as high as the highest the shortest period counts, which is the voice's own.
    """
    whole = len(samples) // _DECIMATION * _DECIMATION
    low = samples[:whole].reshape(-1, _DECIMATION).mean(1, dtype=np.float32)
    if len(low) < _WINDOW + _HOP:
        return float("nan")
    frames = np.lib.stride_tricks.sliding_window_view(low, _WINDOW)[::_HOP]
    frames = (frames - frames.mean(1, keepdims=True)) * _TAPER
    power = np.einsum("ij,ij->i", frames, frames)
    frames = frames[power > 0.03 * np.quantile(power, 0.9)]
    if len(frames) < FEWEST:
        return float("nan")
    size = 2 * _WINDOW
    spectrum = np.fft.rfft(frames, size)
    correlation = np.fft.irfft(spectrum.real**2 + spectrum.imag**2, size)[:, : _LAST + 2]
    correlation = correlation / (correlation[:, :1] + 1e-12) / _OF_WINDOW
    inner = correlation[:, _FIRST : _LAST + 1]
    is_peak = (inner >= correlation[:, _FIRST - 1 : _LAST]) & (inner >= correlation[:, _FIRST + 1 : _LAST + 2])
    heights = np.where(is_peak, inner, 0.0)
    highest = heights.max(1)
    voiced = highest > PERIODIC
    if np.count_nonzero(voiced) < FEWEST:
        return float("nan")
    lags = (heights[voiced] >= 0.85 * highest[voiced, None]).argmax(1) + _FIRST
    return float(_RATE / np.median(lags))


_TAPER = np.hanning(_WINDOW).astype(np.float32)
_FIRST, _LAST = round(_RATE / HIGHEST), round(_RATE / LOWEST)
_spectrum = np.abs(np.fft.rfft(_TAPER, 2 * _WINDOW)) ** 2
_OF_WINDOW = (np.fft.irfft(_spectrum, 2 * _WINDOW) / (_TAPER @ _TAPER))[: _LAST + 2]
