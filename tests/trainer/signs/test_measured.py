"""trainer.signs.measured: a row for each recording, in order, whatever can be read of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from data.audio.fingerprint import distance
from tests.helpers.voices import example, voice
from trainer.errors import AudioError
from trainer.signs.measured import SLICE, measure_all, quietly

NOISE = 0.1 * np.random.default_rng(0).standard_normal(1000).astype(np.float32)


def test_each_recording_has_its_row_and_progress_its_step() -> None:
    lengths = np.arange(SLICE + 9) + 200
    steps: list[int] = []

    def progress(items: Sequence, total: int) -> Iterable:
        assert total == len(items) == len(lengths)
        for item in items:
            yield item
            steps.append(item)

    examples = [example(NOISE[:n], "abc"[: n % 4], f"u{n}") for n in lengths.tolist()]
    rows = measure_all(examples, progress)
    assert np.allclose(rows["seconds"], lengths / 16_000)
    assert rows["units"].tolist() == (lengths % 4).tolist()
    assert (rows["rate"] == 16_000).all()
    assert rows["is_measured"].all()
    assert len(set(rows["content"])) == len(lengths)
    assert steps == list(range(len(lengths)))


def test_what_cannot_be_read_has_its_units_alone() -> None:
    def fail() -> np.ndarray:
        raise AudioError("gone")

    sound = example(NOISE, "abc", "u")
    broken, empty = replace(sound, load=fail), replace(sound, load=lambda: NOISE[:0], num_samples=0)
    rows = measure_all([sound, broken, empty], quietly)
    assert rows["is_measured"].tolist() == [True, False, False]
    assert rows["units"].tolist() == [3, 3, 3]
    assert not rows[1:]["seconds"].any()


def test_what_is_less_than_a_step_of_16_bits_is_no_other_content() -> None:
    whole = np.rint(NOISE * 32768) / np.float32(32768)
    same, other = whole + np.float32(1e-6), whole.copy()
    other[500] += 1 / 32768
    rows = measure_all([example(samples, "a", "u") for samples in (whole, same, other)], quietly)
    assert rows["content"][0] == rows["content"][1] != rows["content"][2]


def test_a_fingerprint_is_of_the_speech_whatever_silence_is_around_it() -> None:
    speech = voice(8, 0)
    quiet = 0.0003 * np.random.default_rng(1).standard_normal(24_000).astype(np.float32)
    padded = np.concatenate([quiet[:8000], speech, quiet[8000:]])
    prints = measure_all([example(samples, "a", "u") for samples in (speech, padded)], quietly)["fingerprint"]
    assert distance(prints[0], prints[1]) <= 8
