"""data.audio.quality: each measure against a signal that was made to have it, and one that was not."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from data.audio.quality import measure_quality
from tests.helpers.audio import noisy_speech

RNG = np.random.default_rng(0)


def test_what_is_sound_has_none_of_it() -> None:
    q = measure_quality(noisy_speech())
    assert (q.num_flat_tops, q.share_at_limit) == (0, 0.0)
    assert abs(q.offset) < 0.05
    assert q.band > 7900


@pytest.mark.parametrize("frequency", [80, 300, 3000])
@pytest.mark.parametrize("amplitude", [0.001, 0.3, 1.0])
def test_a_tone_is_not_clipped_however_quiet(frequency: float, amplitude: float) -> None:
    """In 16 bits, where the top of a quiet sine is a plateau."""
    samples = amplitude * np.sin(2 * np.pi * frequency * np.arange(32_000) / 16_000)
    assert measure_quality((np.round(samples * 32767) / 32768).astype(np.float32)).num_flat_tops <= 2


@pytest.mark.parametrize("limit", [1.0, 0.3])
def test_cut_peaks_are_counted_at_any_level(limit: float) -> None:
    """Reference: runs of three or more samples at the limit, counted one by one."""
    samples = np.clip(20 * noisy_speech(), -limit, limit)
    expected = 0
    for sign in (1, -1):
        run = 0
        for sample in [*(sign * samples), 0.0]:
            if sample >= np.float32(limit * 0.9998):
                run += 1
                continue
            expected += run >= 3
            run = 0
    assert expected > 100
    assert measure_quality(samples.astype(np.float32)).num_flat_tops == expected


def test_cut_peaks_that_resampling_has_rounded_are_seen_at_full_scale() -> None:
    wide = soxr.resample(noisy_speech(rate=8000), 8000, 44_100)
    cut = np.clip(30 * wide, -1, 1)
    assert measure_quality(soxr.resample(cut, 44_100, 16_000).astype(np.float32)).share_at_limit > 0.1
    loud = wide.copy()
    loud /= np.abs(loud).max()  # to full scale, and not beyond
    assert measure_quality(soxr.resample(loud, 44_100, 16_000).astype(np.float32)).share_at_limit < 0.0005


@pytest.mark.parametrize("offset", [-0.2, 0.01])
def test_offset_and_level_are_mean_and_deviation(offset: float) -> None:
    samples = noisy_speech() + np.float32(offset)
    q = measure_quality(samples)
    assert q.offset == pytest.approx(samples.mean() / samples.std(), rel=1e-3)
    assert q.level == pytest.approx(20 * np.log10(samples.std()), abs=0.01)


@pytest.mark.parametrize(("rate", "edge"), [(8000, 4000), (11_025, 5512), (6000, 3000)])
def test_band_is_half_the_rate_that_speech_once_had(rate: int, edge: float) -> None:
    """Through 16 bits, whose steps are noise over the whole band; within the resampler's slope of a tenth."""
    narrow = soxr.resample(soxr.resample(noisy_speech(), 16_000, rate), rate, 16_000)
    q = measure_quality((np.round(narrow * 32767) / 32768).astype(np.float32))
    assert 0.88 * edge < q.band < 1.08 * edge


@pytest.mark.parametrize("n", [1, 2, 3, 100, 512, 513])
def test_recordings_of_any_length_are_measured(n: int) -> None:
    q = measure_quality(noisy_speech()[:n])
    assert np.isfinite([q.offset, q.level, q.band, q.share_at_limit]).all()
