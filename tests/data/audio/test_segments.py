"""data.audio.segments: a part of a file is the whole file cut at the sample; two parts are two recordings."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import soundfile
import soxr

import data.audio.segments
from data.audio.decode import FileAudio
from data.audio.segments import AudioSegment, describe_overshoots, find_overshoots
from data.audio.store import AudioStore, content_digests, open_store
from data.utterance import Utterance
from tests.helpers.audio import BytesAudio
from trainer.errors import AudioError

SECONDS = 2.0
KINDS = {
    "wav, 16 bits": ("a.wav", dict(subtype="PCM_16", rate=16_000)),
    "wav, 24 bits, stereo, 44.1 kHz": ("a.wav", dict(subtype="PCM_24", rate=44_100, channels=2)),
    "wav, float": ("a.wav", dict(subtype="FLOAT", rate=16_000)),
    "wav, mu-law, 8 kHz": ("a.wav", dict(subtype="ULAW", rate=8000)),
    "wav, ADPCM": ("a.wav", dict(subtype="IMA_ADPCM", rate=16_000)),
    "flac": ("a.flac", dict(subtype="PCM_16", rate=16_000)),
    "Vorbis": ("a.ogg", dict(rate=16_000)),
    "Opus": ("a.ogg", dict(rate=16_000, format="OGG", subtype="OPUS")),
    "MP3": ("a.mp3", dict(rate=16_000)),
    "MP3, stereo, 44.1 kHz": ("a.mp3", dict(rate=44_100, channels=2)),
    "SPHERE": ("a.sph", dict(rate=16_000, format="NIST", subtype="PCM_16")),
    "SPHERE, stereo, 44.1 kHz": ("a.sph", dict(rate=44_100, channels=2, format="NIST", subtype="PCM_16")),
}


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    data.audio.segments.forget_decoded()


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_is_the_whole_file_cut_at_the_sample(write_tone: Callable, kind: str):
    """Reference: soundfile reads the whole file, then the frames, the channels' mean and soxr; bit for bit."""
    name, encoding = KINDS[kind]
    path = write_tone(name, SECONDS, **encoding)
    whole, rate = soundfile.read(path, dtype="float32", always_2d=True)
    file = FileAudio(path)
    for start, end in [(0.0, 0.7), (0.7, 1.55), (1.25, None), (0.1, 0.1 + 0.2)]:
        segment = AudioSegment(file, start, end)
        first, last = round(start * rate), len(whole) if end is None else round(end * rate)
        expected = whole[first:last].mean(axis=1, dtype=np.float32) if whole.shape[1] > 1 else whole[first:last, 0]
        if rate != 16_000:
            expected = soxr.resample(expected, rate, 16_000)
        samples = segment.load()
        assert samples.dtype == np.float32
        assert segment.header.num_frames == last - first
        assert segment.num_samples == len(samples)
        assert abs(len(samples) - len(expected)) <= 1  # rounding of the resampled length
        n = min(len(samples), len(expected))
        np.testing.assert_array_equal(samples[:n], expected[:n])


@pytest.mark.parametrize("kind", KINDS)
def test_a_channel_is_that_of_the_file_and_its_stretches_are_cut_of_it(tmp_path: Path, kind: str):
    """Reference: soundfile reads both channels, which differ; one of them, and soxr; bit for bit."""
    name, encoding = KINDS[kind]
    encoding = {key: value for key, value in encoding.items() if key != "channels"}
    rate = encoding.pop("rate")
    samples = np.random.default_rng(0).uniform(-0.4, 0.4, (int(SECONDS * rate), 2))
    soundfile.write(tmp_path / name, samples, rate, **encoding)
    both, _ = soundfile.read(tmp_path / name, dtype="float32")
    assert not np.array_equal(both[:, 0], both[:, 1])
    file = FileAudio(tmp_path / name)
    for channel, (start, end) in itertools.product([0, 1], [(0.0, None), (0.7, 1.55)]):
        segment = AudioSegment(file, start, end, channel)
        expected = both[round(start * rate) : None if end is None else round(end * rate), channel]
        assert segment.header.num_channels == 1
        np.testing.assert_array_equal(segment.mono(), expected)
        if rate != 16_000:
            expected = soxr.resample(expected, rate, 16_000)
        loaded = segment.load()
        assert len(loaded) == segment.num_samples
        n = min(len(loaded), len(expected))
        np.testing.assert_array_equal(loaded[:n], expected[:n])


def test_a_channel_that_the_file_lacks_is_refused(write_tone: Callable):
    segment = AudioSegment(FileAudio(write_tone("a.wav", channels=2)), channel=2)
    with pytest.raises(AudioError, match=r"a\.wav: it has 2 channels, so there is no channel 3\."):
        segment.load()
    with pytest.raises(AudioError, match=r"a\.wav: it has one channel, so there is no channel 2\."):
        _ = AudioSegment(FileAudio(write_tone("a.wav")), channel=1).num_samples


def test_a_silent_channel_is_refused_and_the_other_one_is_read(tmp_path: Path):
    """Recorders of calls write zeros for the side that is not there."""
    samples = np.stack([np.random.default_rng(0).uniform(-0.4, 0.4, 8000), np.zeros(8000)], axis=1)
    soundfile.write(tmp_path / "a.wav", samples, 16_000)
    assert AudioSegment(FileAudio(tmp_path / "a.wav"), channel=0).load().any()
    with pytest.raises(AudioError, match=r"a\.wav, channel 2: all its samples are zero\."):
        AudioSegment(FileAudio(tmp_path / "a.wav"), channel=1).load()


class CountedBytes(io.BytesIO):
    """A file in memory that counts the bytes that are read of it."""

    num_read = 0

    def read(self, size: int | None = -1) -> bytes:
        found = super().read(size)
        CountedBytes.num_read += len(found)
        return found

    def readinto(self, buffer: Any) -> int:
        number = super().readinto(buffer)
        CountedBytes.num_read += number
        return number


class CountedAudio(BytesAudio):
    def open(self) -> BinaryIO:
        return CountedBytes(self.data)


@pytest.mark.parametrize("kind", ["wav, 16 bits", "flac", "SPHERE"])
def test_a_part_of_a_long_file_reads_no_more_than_it_needs(write_tone: Callable, kind: str):
    name, encoding = KINDS[kind]
    content = write_tone(name, 20.0, **encoding).read_bytes()
    segment = AudioSegment(CountedAudio(content, "a", "a"), 12.0, 12.5)
    assert segment.num_samples == 8000
    CountedBytes.num_read = 0
    segment.load()
    assert 0 < CountedBytes.num_read < len(content) / 5


def test_parts_of_a_file_that_cannot_be_entered_decode_it_once(write_tone: Callable, monkeypatch: pytest.MonkeyPatch):
    file = FileAudio(write_tone("a.mp3", SECONDS, rate=16_000))
    times = 0
    decode = data.audio.segments.decode_mono

    def counted(*arguments: Any) -> np.ndarray:
        nonlocal times
        times += 1
        return decode(*arguments)

    monkeypatch.setattr(data.audio.segments, "decode_mono", counted)
    for i in range(5):
        AudioSegment(file, 0.2 * i, 0.2 * i + 0.1).load()
    assert times == 1


def test_the_sides_of_a_call_decode_it_once_each(write_tone: Callable, monkeypatch: pytest.MonkeyPatch):
    """Rows in the order of time change from one speaker to the other."""
    file = FileAudio(write_tone("a.mp3", SECONDS, rate=16_000, channels=2))
    decoded = list[Any]()
    decode = data.audio.segments.decode_mono

    def noted(*arguments: Any) -> np.ndarray:
        decoded.append(arguments[-1])
        return decode(*arguments)

    monkeypatch.setattr(data.audio.segments, "decode_mono", noted)
    for i in range(8):
        AudioSegment(file, 0.2 * i, 0.2 * i + 0.1, i % 2).load()
    assert decoded == [0, 1]


def test_neighbours_share_no_sample_and_lose_none(write_tone: Callable):
    """Times that no float holds exactly: 0.1 + 0.2 is not 0.3."""
    path = write_tone("a.wav", 1.0, rate=44_100, subtype="PCM_16")
    bounds = [0.0, 0.1, 0.1 + 0.2, 0.7, 0.9000000000000001, 1.0]
    frames = [AudioSegment(FileAudio(path), a, b).frames for a, b in itertools.pairwise(bounds)]
    assert frames == [(0, 4410), (4410, 13_230), (13_230, 30_870), (30_870, 39_690), (39_690, 44_100)]


@pytest.mark.parametrize(("start", "end"), [(2.0, 2.5), (2.0, None), (5.0, 6.0), (1.0, 2.2), (1.5, 2.03), (0.0, 999.0)])
def test_a_part_that_is_not_in_the_file_is_an_error_that_says_where_it_ends(
    write_tone: Callable, start: float, end: float | None
):
    segment = AudioSegment(FileAudio(write_tone("a.wav", SECONDS)), start, end)
    for measure in (lambda: segment.num_samples, segment.load):
        with pytest.raises(
            AudioError, match=rf"a\.wav from {start:g} to .*: the file ends at 2\.00 s\. Mend the bounds"
        ):
            measure()


@pytest.mark.parametrize(("end", "is_told"), [(2.0, False), (2.004, False), (2.05, True)])
def test_a_rounded_end_is_the_files_end_and_a_later_one_is_told(write_tone: Callable, end: float, is_told: bool):
    """Hundredths of a second are rounding; up to half a second and 5 % of the part are what corpora write."""
    segment = AudioSegment(FileAudio(write_tone("a.wav", SECONDS)), 0.5, end)
    assert segment.num_samples == len(segment.load()) == 24_000
    told = describe_overshoots(find_overshoots([Utterance("u7", segment, "x")]))
    assert told == ("1 segments end up to 0.05 s behind their file's end and are cut there (u7)" if is_told else "")


def test_silence_in_one_part_is_refused_and_the_others_are_read(tmp_path: Path, tone: Callable):
    soundfile.write(tmp_path / "a.wav", np.concatenate([np.zeros(8000, np.float32), tone(0.5)]), 16_000)
    file = FileAudio(tmp_path / "a.wav")
    with pytest.raises(AudioError, match=r"a\.wav from 0 to 0\.5 s: all its samples are zero"):
        AudioSegment(file, 0.0, 0.5).load()
    assert len(AudioSegment(file, 0.5, 1.0).load()) == 8000


# As recordings of their own


def test_a_store_keeps_each_part(write_tone: Callable, tmp_path: Path):
    file = FileAudio(write_tone("a.wav", SECONDS, subtype="PCM_16"))
    sources = [AudioSegment(file, 0.0, 0.7), AudioSegment(file, 0.7, 2.0), file, AudioSegment(file, 0.7, 1.0)]
    assert len({source.identity for source in sources}) == 4

    def opened() -> AudioStore:
        return open_store(sources, tmp_path / "cache", log=lambda line: None, progress=lambda items, total: items)

    for store in (opened(), opened()):
        for i, source in enumerate(sources):
            np.testing.assert_array_equal(store.load(i), source.load())
        assert len(set(store.digests.to_pylist())) == 4


def test_digests_follow_bytes_and_bounds_and_the_file_is_read_once(
    write_tone: Callable, monkeypatch: pytest.MonkeyPatch
):
    path, copy = write_tone("a.wav", SECONDS), write_tone("b.wav", SECONDS)
    file, other = FileAudio(path), FileAudio(copy)
    bounds = [(0.0, 0.5), (0.5, 1.0), (0.5, 1.5)]
    reads = []
    raw = FileAudio.raw
    monkeypatch.setattr(FileAudio, "raw", lambda self: reads.append(self.name) or raw(self))
    digests = content_digests([AudioSegment(file, *b) for b in bounds])
    assert len(set(digests.to_pylist())) == 3
    assert reads == [str(path)]
    assert content_digests([AudioSegment(other, *b) for b in bounds]) == digests, "the same bytes elsewhere"
