"""Streams (trainer.recognize.streaming): the same words however the samples come, and those that were spoken.

pytest tests/trainer/recognize/test_streaming.py
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import soxr

from models.ctc import CTCModel
from tests.helpers.models import VOCAB, make_talkative, noise, small_model
from tests.helpers.tones import sentence, speak, tone_recognizer
from trainer.errors import AudioError, ConfigError
from trainer.recognize import transcribe
from trainer.recognize.streaming import Chunks, Stream
from trainer.recognize.transcript import Word
from trainer.recognizer import Recognizer
from trainer.scoring.confidence import Calibration

CHUNKS = Chunks(0.5, 0.4, 1.0)


def pieces(waveform: np.ndarray, sizes: Iterator[int] | int) -> Iterator[np.ndarray]:
    at = 0
    while at < waveform.shape[-1]:
        size = sizes if isinstance(sizes, int) else next(sizes)
        yield waveform[..., at : at + size]
        at += size


def read(stream: Stream, waveform: np.ndarray, sizes: Iterator[int] | int = 320) -> tuple[Word, ...]:
    words = tuple(word for piece in pieces(waveform, sizes) for word in stream.feed(piece))
    return words + stream.finish()


def random_recognizer() -> Recognizer:
    """A transformer of random weights that writes long nonsense, normalises, and is calibrated."""
    model: CTCModel = make_talkative(small_model())
    calibration = Calibration("renyi-linear-min", 0.7, "dev", 100, 20)
    loaded = transcribe.LoadedModel(model, VOCAB, True, next(model.parameters()).device, "random", calibration)
    return Recognizer(loaded)


def test_words_are_the_same_however_the_samples_are_cut() -> None:
    """Bit for bit: one sample at a time at first, all at once, and pieces of random sizes, also of another rate."""
    recognizer, waveform = random_recognizer(), noise(70_000, seed=1)
    rng = np.random.default_rng(0)
    for rate in (16_000, 22_050):
        expected = read(recognizer.stream(rate, CHUNKS), waveform, len(waveform))
        assert len(expected) > 3, "too few words show nothing"
        for sizes in (320, 4001, iter(lambda: int(rng.integers(1, 9000)), 0), _one_by_one(800)):
            assert read(recognizer.stream(rate, CHUNKS), waveform, sizes) == expected


def _one_by_one(times: int) -> Iterator[int]:
    yield from [1] * times
    while True:
        yield 5000


@pytest.mark.parametrize(
    "lengths", [(0.5, 0.4, 1.0), (0.1, 0.2, 0.0), (0.3, 0.0, 0.5), (2.0, 1.0, 3.0), (0.1, 1.5, 0.1)], ids=str
)
def test_no_word_is_lost_or_doubled_and_times_are_the_transcripts(lengths: tuple[float, float, float]) -> None:
    """Reference: the words that were spoken, in tones, and a transcription of the whole; about 20 s, many cuts."""
    rng = np.random.default_rng(7)
    texts = [sentence(rng, 4) for _ in range(4)]
    waveform = np.concatenate([speak(text + " ", rng) for text in texts])
    words = read(tone_recognizer().stream(chunks=Chunks(*lengths)), waveform)
    assert " ".join(w.text for w in words) == " ".join(texts)
    assert words == tone_recognizer().transcribe(waveform, windows=transcribe.Windows(1e6, 1)).words


@pytest.mark.parametrize("chunks", [Chunks(0.5, 0.4, 1.0), Chunks(0.8, 0.8, 1.0)], ids=str)
def test_windows_that_write_a_little_early_or_late_lose_nothing_either(chunks: Chunks) -> None:
    """As above, with up to two frames of delay that differ from window to window."""
    rng = np.random.default_rng(8)
    texts = [sentence(rng, 4) for _ in range(4)]
    waveform = np.concatenate([speak(text + " ", rng) for text in texts])
    delayed = tone_recognizer(lambda row: int(abs(row[:9]).sum() * 1e6) % 3)
    assert " ".join(w.text for w in read(delayed.stream(chunks=chunks), waveform)) == " ".join(texts)


def test_a_stream_that_ends_within_its_first_window_is_a_transcription() -> None:
    """Then nothing is read with less than everything, and it is normalised by its own mean and variance."""
    recognizer, waveform = random_recognizer(), noise(20_000, seed=3)
    words, whole = read(recognizer.stream(chunks=Chunks(2.0, 1.0)), waveform), recognizer.transcribe(waveform)
    assert len(whole.text) > 10
    assert [(w.text, w.start, w.end) for w in words] == [(w.text, w.start, w.end) for w in whole.words]
    assert [w.confidence for w in words] == pytest.approx([w.confidence for w in whole.words], abs=1e-3)


def test_words_come_within_the_stated_delay_and_partial_ones_before() -> None:
    """Every word but the last has a delimiter behind it, which is spoken too: it settles the word."""
    rng = np.random.default_rng(2)
    waveform = np.concatenate([speak(sentence(rng, 3) + " ", rng) for _ in range(3)])
    stream, at, come, seen_early = tone_recognizer().stream(chunks=CHUNKS), 0, list[tuple[Word, int]](), 0
    for piece in pieces(waveform, 320):
        at += len(piece)
        before = stream.partial
        found = stream.feed(piece)
        seen_early += sum(any(p.text == w.text and p.start == w.start for p in before) for w in found)
        come += [(word, at) for word in found]
    whole = tone_recognizer().transcribe(waveform).words
    delimiters = [after.start for after in whole[1:]]  # a delimiter ends before the next word begins
    for (word, when), delimiter in zip(come, delimiters, strict=False):
        assert when <= delimiter + 16_000 * stream.delay_seconds + 320, word
    assert len(come) >= len(whole) - 3
    assert seen_early > 0
    assert [*(w for w, _ in come), *stream.finish()] == list(whole)
    assert stream.partial == ()


def test_a_pause_settles_the_word_before_it_without_a_delimiter() -> None:
    rng = np.random.default_rng(2)
    stream = tone_recognizer().stream(chunks=CHUNKS)
    assert stream.feed(speak("bad", rng)) == ()
    assert [w.text for w in stream.feed(1e-3 * rng.standard_normal(48_000).astype(np.float32))] == ["bad"]


def test_memory_does_not_grow_with_the_stream() -> None:
    stream, rng = tone_recognizer().stream(chunks=CHUNKS), np.random.default_rng(0)
    speech, sizes = speak("abc de ", rng), []
    for _ in range(12):
        stream.feed(speech)
        sizes.append(len(stream._samples) + 3 * len(stream._ids))
    assert max(sizes[6:]) <= 1.2 * 16_000 * (0.5 + 0.4 + 1.0 + len(speech) / 16_000)


def test_samples_of_another_rate_and_of_two_channels_are_read() -> None:
    rng = np.random.default_rng(4)
    waveform = speak("bad cab fed ", rng)
    at_48 = soxr.resample(waveform, 16_000, 48_000)
    both = np.round(np.stack([at_48, at_48]) * 32_767).astype(np.int16)
    assert [w.text for w in read(tone_recognizer().stream(48_000, CHUNKS), both, 960)] == ["bad", "cab", "fed"]


@pytest.mark.parametrize("num_samples", [0, 1, 399])
def test_stream_without_a_frame_has_no_words(num_samples: int) -> None:
    stream = tone_recognizer().stream()
    assert stream.feed(np.zeros(num_samples, np.float32)) == stream.finish() == ()


def test_silence_has_no_words() -> None:
    """Nothing but zeros, as of a muted microphone: a transcription would refuse it, a stream waits."""
    assert read(random_recognizer().stream(), np.zeros(100, np.float32)) == ()
    assert read(tone_recognizer().stream(), np.zeros(80_000, np.float32)) == ()


def test_what_cannot_be_fed_is_refused_and_harms_nothing() -> None:
    stream, rng = tone_recognizer().stream(chunks=CHUNKS), np.random.default_rng(4)
    speech = speak("bad cab ", rng)
    words: Sequence[Word] = stream.feed(speech)
    for piece, message in (
        (np.array([0.1, np.nan]), "not numbers"),
        (np.array([np.inf]), "not numbers"),
        (np.full(100, 3e38, np.float32), "beyond all measure"),
        (np.array(["a"]), "of shape"),
        (np.zeros((2, 2, 2)), "of shape"),
    ):
        with pytest.raises(AudioError, match=message):
            stream.feed(piece)
    assert [w.text for w in (*words, *stream.finish())] == ["bad", "cab"]
    for use in (stream.finish, lambda: stream.feed(speech)):
        with pytest.raises(AudioError, match="finished"):
            use()


@pytest.mark.parametrize("bad", [(0.05, 1, 1), (1, -0.1, 1), (1, 1, -1), (math.nan, 1, 1), (1, math.inf, 1)])
def test_impossible_chunks_are_refused(bad: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigError, match=r"give a chunk of 0\.1 s or more"):
        Chunks(*bad)
    with pytest.raises(AudioError, match="a stream: a rate of 100 Hz"):
        tone_recognizer().stream(100)
