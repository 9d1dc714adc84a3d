"""data.audio.decode against libsndfile (soundfile), soxr, transformers and plain mathematics."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from data.audio.decode import FileAudio, change_speed, normalize, resampled_length, speed_length
from tests.helpers.audio import BytesAudio
from trainer.errors import AudioError

ENCODINGS = [
    ("a.wav", dict(subtype="PCM_16")),
    ("a.wav", dict(subtype="PCM_24")),
    ("a.wav", dict(subtype="PCM_U8")),
    ("a.wav", dict(subtype="FLOAT")),
    ("a.wav", dict(subtype="DOUBLE")),
    ("a.wav", dict(format="NIST", subtype="PCM_16")),
    ("a.flac", dict(subtype="PCM_16")),
    ("a.flac", dict(subtype="PCM_24")),
    ("a.ogg", {}),
    ("a.mp3", {}),
]


@pytest.mark.parametrize(("name", "encoding"), ENCODINGS)
def test_mono_16_khz_file_is_read_exactly_as_soundfile_reads_it(write_tone: Callable, name: str, encoding: dict):
    """Reference: soundfile.read as float32, bit for bit, since nothing is to be converted."""
    path = write_tone(name, 0.4, **encoding)
    audio = FileAudio(path)
    expected, _ = soundfile.read(path, dtype="float32")
    assert audio.num_samples == 6400
    assert audio.load().dtype == np.float32
    np.testing.assert_array_equal(audio.load(), expected)


@pytest.mark.parametrize(("name", "encoding"), ENCODINGS)
def test_header_says_what_soundfile_info_says(write_tone: Callable, name: str, encoding: dict):
    """Reference: soundfile.info."""
    path = write_tone(name, 0.3, rate=8000, channels=1, **encoding)
    header, info = FileAudio(path).header, soundfile.info(path)
    assert (header.rate, header.num_channels, header.num_frames) == (info.samplerate, info.channels, info.frames)
    assert header.is_pcm16 == (info.subtype == "PCM_16")


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100, 48_000])
def test_other_rates_and_channels_give_the_tone_sampled_at_16_khz(tmp_path: Path, rate: int, channels: int):
    """Reference: sin(2 pi f t) at t = n / 16000, averaged amplitude; 2e-3 where soxr's filter has settled."""
    seconds, frequency = 0.4, 440.0
    amplitudes = np.array([0.6, 0.3, 0.15])[:channels]
    at_rate = np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)
    path = tmp_path / "a.wav"
    soundfile.write(path, at_rate[:, None] * amplitudes, rate, subtype="FLOAT")
    samples = FileAudio(path).load()
    expected = amplitudes.mean() * np.sin(2 * np.pi * frequency * np.arange(6400) / 16_000)
    assert samples.shape == (6400,)
    np.testing.assert_allclose(samples[400:-400], expected[400:-400], atol=2e-3)


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (8000, 2), (44_100, 2)])
def test_conversion_equals_soxr_on_the_mean_of_the_channels(write_tone: Callable, rate: int, channels: int):
    """Reference: soxr.resample on soundfile's samples; 1e-6 leaves room for the order of summing channels."""
    path = write_tone("a.flac", 0.31, rate=rate, channels=channels)
    raw, _ = soundfile.read(path, dtype="float64", always_2d=True)
    expected = soxr.resample(raw.mean(axis=1).astype(np.float32), rate, 16_000)
    samples = FileAudio(path).load()
    assert abs(len(samples) - len(expected)) <= 1
    n = min(len(samples), len(expected))
    np.testing.assert_allclose(samples[:n], expected[:n], atol=1e-6)


@pytest.mark.parametrize("num_frames", [1, 2, 3, 160, 4409, 4410, 4411, 7999])
@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 44_100, 96_000])
def test_num_samples_without_decoding_equals_what_decoding_gives(tmp_path: Path, rate: int, num_frames: int):
    """Reference: len(load()), and soxr's own output length to within one sample."""
    path = tmp_path / "a.wav"
    soundfile.write(path, np.full(num_frames, 0.1), rate)
    audio = FileAudio(path)
    assert audio.num_samples == len(audio.load())
    raw, _ = soundfile.read(path, dtype="float32")
    assert abs(audio.num_samples - len(soxr.resample(raw, rate, 16_000))) <= 1


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 32_000, 44_100, 48_000])
def test_resampled_length_is_the_exact_ratio_rounded_half_up(rate: int):
    """Reference: floor(n * 16000 / rate + 1/2) in exact fractions."""
    for num_frames in [0, 1, 2, 3, 441, 22_051, 10**7 + 1]:
        exact = Fraction(num_frames * 16_000, rate) + Fraction(1, 2)
        assert resampled_length(num_frames, rate) == exact.numerator // exact.denominator


def test_channels_are_averaged_not_picked(tmp_path: Path, tone: Callable):
    """Opposite channels cancel; silence alone would be refused, so one sample differs."""
    left = tone(0.1)
    right = -left
    right[7] += 0.5
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 16_000, subtype="FLOAT")
    expected = np.zeros(1600, np.float32)
    expected[7] = 0.25
    np.testing.assert_allclose(FileAudio(tmp_path / "a.wav").load(), expected, atol=1e-7)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_bytes_are_read_as_the_file_they_come_from(write_tone: Callable, name: str):
    """Reference: FileAudio on the same bytes."""
    path = write_tone(name, 0.2, rate=22_050, channels=2)
    file = FileAudio(path)
    memory = BytesAudio(path.read_bytes(), name="row 7", identity="x|7")
    assert memory.raw() == file.raw() == path.read_bytes()
    assert (memory.header, memory.num_samples) == (file.header, file.num_samples)
    np.testing.assert_array_equal(memory.load(), file.load())


UNREADABLE = {
    "text": b"this is a sentence, no audio\n" * 20,
    "empty": b"",
    "zeros": bytes(4000),
    "half a header": b"RIFF\x24\x00\x00\x00WAVEfmt ",
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.raw"])
def test_what_is_no_audio_is_an_error_that_names_the_file_alone(tmp_path: Path, name: str, content: bytes):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(AudioError) as caught:
        _ = FileAudio(path).num_samples
    message = str(caught.value)
    assert message.startswith(f"{path}: not readable as audio (")
    assert "<" not in message, "Python's name of a file object is no reason"
    assert "\n" not in message


def test_error_of_bytes_names_what_they_were_called():
    with pytest.raises(AudioError, match=r"^corpus, row 7: not readable as audio \(Format not recognised\)\.$"):
        _ = BytesAudio(b"no audio", "corpus, row 7", "x").num_samples


@pytest.mark.parametrize("attribute", ["num_samples", "identity"])
def test_missing_file_is_an_error_that_names_it(tmp_path: Path, attribute: str):
    with pytest.raises(AudioError, match=f"^{re.escape(str(tmp_path))}/none.wav: No such file or directory"):
        getattr(FileAudio(tmp_path / "none.wav"), attribute)


def test_folder_in_place_of_a_file_is_an_error_that_names_it(tmp_path: Path):
    with pytest.raises(AudioError, match=f"^{re.escape(str(tmp_path))}: Is a directory"):
        _ = FileAudio(tmp_path).num_samples


@pytest.mark.parametrize("name", ["a.flac", "a.mp3"])
def test_file_cut_in_the_middle_is_not_read_as_a_shorter_one(write_tone: Callable, name: str):
    path = write_tone(name, 2.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AudioError, match=rf"^{re.escape(str(path))}: its header says \d+ samples, .*truncated"):
        FileAudio(path).load()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_an_error(tmp_path: Path, value: float):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.array([0.1, value, 0.1]), 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav: holds samples that are not numbers"):
        FileAudio(path).load()


def test_file_without_samples_has_length_zero(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 16_000)
    assert FileAudio(tmp_path / "a.wav").num_samples == 0


def test_identity_changes_with_path_size_and_time_only(tmp_path: Path, write_tone: Callable):
    path = write_tone("a.wav")
    identity = FileAudio(path).identity
    assert FileAudio(path).identity == identity
    assert FileAudio(Path(os.path.relpath(path))).identity == identity
    assert FileAudio(write_tone("b.wav")).identity != identity
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert FileAudio(path).identity != identity
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert FileAudio(path).identity == identity
    path.write_bytes(path.read_bytes() + b"\0")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert FileAudio(path).identity != identity


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1, 1.25, 2.0])
def test_speed_changes_length_and_pitch_by_the_factor(factor: float):
    """Reference: the FFT's peak of a 400 Hz sine must be at 400 * factor Hz, to one bin."""
    samples = np.sin(2 * np.pi * 400 * np.arange(16_000) / 16_000).astype(np.float32)
    faster = change_speed(samples, factor)
    assert len(faster) == speed_length(16_000, factor) == round(16_000 / factor)
    peak = np.abs(np.fft.rfft(faster)).argmax() * 16_000 / len(faster)
    assert abs(peak - 400 * factor) <= 16_000 / len(faster)


@pytest.mark.parametrize("num_samples", [1, 2, 3, 399, 401, 12_345])
@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1])
def test_speed_length_is_known_beforehand_for_every_length(num_samples: int, factor: float):
    samples = np.linspace(-0.5, 0.5, num_samples, dtype=np.float32)
    assert len(change_speed(samples, factor)) == speed_length(num_samples, factor) >= 1


def test_speed_one_leaves_the_samples_alone(tone: Callable):
    samples = tone(0.1)
    assert change_speed(samples, 1.0) is samples


@pytest.mark.parametrize("scale", [1.0, 1e-4])
def test_normalize_equals_the_feature_extractor(tone: Callable, scale: float):
    """Reference: transformers' Wav2Vec2FeatureExtractor(do_normalize=True); float32, so 1e-5 of unit variance."""
    from transformers import Wav2Vec2FeatureExtractor

    samples = scale * (tone(0.7) + np.float32(0.05))
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    expected = extractor(samples, sampling_rate=16_000, return_tensors="np").input_values[0]
    np.testing.assert_allclose(normalize(samples), expected, atol=1e-5)


def test_normalized_silence_is_silence():
    np.testing.assert_array_equal(normalize(np.full(1600, 0.25, np.float32)), np.zeros(1600, np.float32))
