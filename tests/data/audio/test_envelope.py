"""Loudness, pitch and fingerprint of recordings, each against a signal that was made to have it."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from data.audio.envelope import measure_envelope
from data.audio.fingerprint import BITS, distance, fingerprint
from data.audio.pitch import measure_pitch
from tests.helpers.audio import noisy_speech
from tests.helpers.voices import voice

NOISE = 0.1 * np.random.default_rng(0).standard_normal(32_000).astype(np.float32)


def test_noise_is_steady_and_speech_is_not() -> None:
    """White noise, and the noise of traffic, which has hardly any highs and goes up and down."""
    slow = np.cumsum(NOISE) - np.convolve(np.cumsum(NOISE), np.full(801, 1 / 801), "same")
    assert measure_envelope(NOISE).modulation < 2
    assert measure_envelope((0.1 * slow / slow.std()).astype(np.float32)).modulation < 2
    assert measure_envelope(voice(8, 0)).modulation > 20


@pytest.mark.parametrize(("before", "after"), [(0.5, 0.0), (0.0, 1.0), (0.3, 0.7)])
def test_silence_at_the_ends_is_as_long_as_it_is(before: float, after: float) -> None:
    padded = np.pad(NOISE, (round(before * 16_000), round(after * 16_000))) + 1e-4 * noisy_speech(2 + before + after)
    envelope = measure_envelope(padded.astype(np.float32))
    assert (envelope.lead, envelope.trail) == (pytest.approx(before, abs=0.02), pytest.approx(after, abs=0.02))
    assert (envelope.start_level > -3) == (before == 0)
    assert (envelope.end_level > -3) == (after == 0)


def test_an_offset_changes_no_end() -> None:
    samples = np.pad(NOISE, 4000)
    plain, moved = measure_envelope(samples), measure_envelope(samples + np.float32(0.3))
    assert plain.start_level < -50
    assert moved.start_level == pytest.approx(plain.start_level, abs=1)
    assert moved.modulation == pytest.approx(plain.modulation, abs=1)


@pytest.mark.parametrize(("start", "end"), [(8000, 9600), (16_000, 16_400)])
def test_zeros_within_sound_are_a_hole_and_those_at_its_ends_are_none(start: int, end: int) -> None:
    holed = NOISE.copy()
    holed[start:end] = 0
    envelope = measure_envelope(holed)
    assert (envelope.hole_start, envelope.hole) == (start / 16_000, (end - start) / 16_000)
    for at_the_ends in (200, 3000):
        assert measure_envelope(np.pad(NOISE, at_the_ends)).hole == 0


def test_a_hole_is_the_longest_with_speech_on_both_sides() -> None:
    holed = NOISE.copy()
    holed[8000:9600] = holed[16_000:16_400] = 0
    assert measure_envelope(holed).hole_start == 0.5
    quiet = 1e-3 * NOISE[:8000]
    for between in ([NOISE, np.zeros(1600, np.float32), quiet], [quiet, np.zeros(1600, np.float32), NOISE]):
        assert measure_envelope(np.concatenate(between)).hole == 0


@pytest.mark.parametrize(("level", "is_speech"), [(-20, True), (-30, False)])
def test_what_is_25_db_below_the_loudest_is_no_speech(level: int, is_speech: bool) -> None:
    quiet = 10 ** (level / 20) * NOISE[:8000]
    envelope = measure_envelope(np.concatenate([quiet, NOISE, quiet, quiet]).astype(np.float32))
    assert (envelope.lead, envelope.trail) == pytest.approx((0, 0) if is_speech else (0.5, 1.0), abs=0.02)


@pytest.mark.parametrize("pitch", [70.0, 110.0, 220.0, 400.0])
def test_pitch_is_that_of_the_voice(pitch: float) -> None:
    """Of pulses that vary by 5 %; a lag at 4 kHz is 2 to 10 %."""
    assert measure_pitch(voice(10, 1, pitch)) == pytest.approx(pitch, rel=0.08)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_pitch_goes_with_the_speed(factor: float) -> None:
    samples = voice(10, 1, 120.0)
    played = soxr.resample(samples, 16_000 * factor, 16_000).astype(np.float32)
    assert measure_pitch(played) == pytest.approx(factor * measure_pitch(samples), rel=0.08)


def test_noise_and_a_moment_have_no_pitch() -> None:
    assert np.isnan(measure_pitch(NOISE))
    assert np.isnan(measure_pitch(voice(3, 0)[:500]))


def test_fingerprints_of_one_recording_agree_and_of_two_do_not() -> None:
    prints = np.stack([fingerprint(voice(10, seed)) for seed in range(40)])
    apart = np.concatenate([distance(prints[i], prints[i + 1 :]) for i in range(39)])
    assert apart.mean() == pytest.approx(BITS / 2, rel=0.1)
    assert apart.min() > 30
    for seed in range(5):
        narrow = soxr.resample(soxr.resample(0.2 * voice(10, seed), 16_000, 8000), 8000, 16_000)
        assert distance(prints[seed], fingerprint(narrow.astype(np.float32))) <= 4


@pytest.mark.parametrize("n", [1, 2, 3, 100, 160, 320, 511, 513, 9000])
def test_recordings_of_any_length_are_measured(n: int) -> None:
    samples = noisy_speech()[:n]
    envelope = measure_envelope(samples)
    assert np.isfinite([envelope.modulation, envelope.lead, envelope.start_level, envelope.hole]).all()
    assert fingerprint(samples).shape == (BITS // 8,)
    measure_pitch(samples)
