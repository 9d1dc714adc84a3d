"""data.audio.sides: two sides of a call are told from one sound in two channels.

pytest tests/data/audio/test_sides.py
"""

from __future__ import annotations

import doctest
from pathlib import Path

import numpy as np
import pytest
import soundfile

import data.audio.sides
from data.audio.decode import FileAudio
from data.audio.segments import AudioSegment
from data.audio.sides import FirstApart, are_apart, describe_sides
from data.utterance import Utterance
from tests.helpers.voices import voice

RATE = 8000
RNG = np.random.default_rng(0)


def speech(seed: int, phrases: int = 3) -> np.ndarray:
    """Phrases of a voice with pauses between them."""
    rng = np.random.default_rng(seed)
    parts = []
    for i in range(phrases):
        parts += [voice(int(rng.integers(4, 9)), 10 * seed + i, 100 + 20 * seed % 90, RATE)]
        parts += [np.zeros(int(RATE * rng.uniform(0.1, 0.6)))]
    return np.concatenate(parts)


def in_turns(seed: int) -> tuple[np.ndarray, np.ndarray]:
    a, b = speech(seed), speech(seed + 100)
    return np.concatenate([a, np.zeros(len(b))]), np.concatenate([np.zeros(len(a)), b])


def at_once(seed: int) -> tuple[np.ndarray, np.ndarray]:
    a, b = speech(seed, 9), speech(seed + 100, 9)
    n = max(len(a), len(b))
    return np.pad(a, (0, n - len(a))), np.pad(b, (0, n - len(b)))


def with_echo(seed: int) -> tuple[np.ndarray, np.ndarray]:
    a, b = in_turns(seed)
    return a + 0.1 * b, b + 0.1 * a


def noisy(samples: np.ndarray, level: float = 0.01) -> np.ndarray:
    return samples + level * np.random.default_rng(len(samples)).standard_normal(len(samples))


def in_a_room(samples: np.ndarray, seed: int) -> np.ndarray:
    tail = np.random.default_rng(seed).standard_normal(2400) * np.exp(-6.9 * np.arange(2400) / 2400)
    tail[0] = 3.0
    return 0.1 * np.convolve(samples, tail)[: len(samples)]


APART = {"in turns": in_turns, "at once": at_once, "with an echo of the other": with_echo}
ONE_SOUND = {
    "copied": lambda seed: (speech(seed), speech(seed)),
    "two microphones": lambda seed: (noisy(speech(seed)), noisy(0.5 * np.roll(speech(seed), 8), 0.02)),
    "in a room": lambda seed: (in_a_room(speech(seed), 1), in_a_room(speech(seed), 2)),
    "reversed": lambda seed: (speech(seed), -speech(seed)),
    "one channel empty": lambda seed: (speech(seed), np.zeros(len(speech(seed)))),
    "one channel of hiss": lambda seed: (speech(seed), 1e-3 * RNG.standard_normal(len(speech(seed)))),
    "silence": lambda seed: (np.zeros(3 * RATE), np.zeros(3 * RATE)),
}


def written(path: Path, channels: tuple[np.ndarray, ...]) -> FileAudio:
    soundfile.write(path, 0.5 * np.stack(channels, axis=1), RATE)
    return FileAudio(path)


@pytest.mark.parametrize("kind", APART)
def test_two_speakers_are_told(kind: str, tmp_path: Path) -> None:
    assert all(are_apart(written(tmp_path / f"{seed}.wav", APART[kind](seed))) for seed in range(5))


@pytest.mark.parametrize("kind", ONE_SOUND)
def test_one_sound_in_two_channels_is_no_two_speakers(kind: str, tmp_path: Path) -> None:
    assert not any(are_apart(written(tmp_path / f"{seed}.wav", ONE_SOUND[kind](seed))) for seed in range(5))


def test_what_is_too_short_or_no_stereo_is_not_judged(tmp_path: Path) -> None:
    left, right = in_turns(1)
    audio = written(tmp_path / "a.wav", (left, right))
    assert are_apart(audio)
    assert are_apart(AudioSegment(audio, 0.5, 1.0))  # the file tells
    assert not are_apart(AudioSegment(audio, channel=0))
    short = tuple(side[:RATE] for side in in_turns(1))
    assert not are_apart(written(tmp_path / "short.wav", short))
    assert not are_apart(written(tmp_path / "mono.wav", (left,)))
    assert not are_apart(written(tmp_path / "array.wav", (left, right, left, right)))


def test_only_the_beginning_of_a_long_recording_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alike, (left, right) = speech(1), in_turns(2)
    audio = written(tmp_path / "a.wav", (np.concatenate([alike, left]), np.concatenate([alike, right])))
    assert are_apart(audio)
    monkeypatch.setattr(data.audio.sides, "MOST_SECONDS", len(alike) / RATE)
    assert not are_apart(audio)


@pytest.mark.parametrize(("num_calls", "is_told"), [(0, False), (1, False), (3, True), (10, True)])
def test_a_corpus_of_calls_is_told_in_one_line(num_calls: int, is_told: bool, tmp_path: Path) -> None:
    """Of ten; one odd recording among many is not worth a line. What cannot be read is passed over."""
    kinds = [in_turns] * num_calls + [ONE_SOUND["copied"]] * (10 - num_calls)
    files = [written(tmp_path / f"{i}.wav", kind(i)) for i, kind in enumerate(kinds)]
    utterances = [Utterance(f"u{i}", audio, "a") for i, audio in enumerate([*files, FileAudio(tmp_path / "lost.wav")])]
    told = describe_sides(utterances)
    assert bool(told) == is_told
    if is_told:
        assert (
            f"in {num_calls} of 10 stereo recordings that were looked at each channel has its own sound, as in u0"
            in told
        )


def test_a_call_that_is_cut_into_many_is_one_recording(tmp_path: Path) -> None:
    """One of three: the line counts files, not the rows that are cut from them."""
    whole = written(tmp_path / "call.wav", in_turns(1))
    others = [written(tmp_path / f"{i}.wav", ONE_SOUND["copied"](i)) for i in range(2)]
    cut = [AudioSegment(whole, 0.1 * i, 0.1 * i + 0.5) for i in range(8)]
    told = describe_sides([Utterance(f"u{i}", audio, "a") for i, audio in enumerate([*others, *cut])])
    assert told.startswith("in 1 of 3 stereo recordings that were looked at each channel has its own sound, as in u2:")


def test_the_first_of_many_files_is_told_once(tmp_path: Path) -> None:
    written(tmp_path / "music.wav", ONE_SOUND["copied"](1))
    for name in ("a.wav", "b.wav"):
        written(tmp_path / name, in_turns(1))
    (tmp_path / "notes.txt").write_text("no audio")
    names = ["notes.txt", "lost.wav", "music.wav", "a.wav", "b.wav"]
    first = FirstApart()
    assert [first.of_file(tmp_path / name) for name in names] == [False, False, False, True, False]


def test_examples_in_docstrings_are_true() -> None:
    assert doctest.testmod(data.audio.sides).failed == 0
