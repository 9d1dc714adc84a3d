"""data.corpora.hub.audio: arrays of samples with their rate."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from data.corpora.hub import HubConfig
from data.corpora.hub.corpus import HubCorpus
from tests.helpers.hub import save
from trainer.errors import AudioError

pytestmark = pytest.mark.usefixtures("no_torchcodec", "no_bars")

# Arrays


ARRAYS = {
    "float32": lambda samples: samples,
    "float64": lambda samples: samples.astype(np.float64),
    "float16": lambda samples: samples.astype(np.float16),
    "int16": lambda samples: np.round(samples * 32767).astype(np.int16),
    "integers": lambda samples: np.round(samples * 32767).astype(np.int64),
    "list": lambda samples: samples.tolist(),
    "stereo, samples first": lambda samples: np.stack([samples, samples], axis=1).tolist(),
    "stereo, channels first": lambda samples: np.stack([samples, samples]).tolist(),
}


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("rate", [16_000, 8000])
def test_arrays_with_their_rate_are_read(tmp_path: Path, tone: Callable, kind: str, rate: int):
    """Reference: the samples themselves, resampled by soxr; within a step of 16 bits, or of float16."""
    wave = tone(0.2, rate=rate)
    value = {"array": ARRAYS[kind](wave), "sampling_rate": rate, "path": None}
    folder = save(tmp_path / "set", [value], as_audio=False)
    (u,) = HubCorpus(HubConfig(dataset=folder)).utterances("train")
    expected = wave if rate == 16_000 else soxr.resample(wave, rate, 16_000)
    np.testing.assert_allclose(u.audio.load(), expected, atol=1e-3 if kind == "float16" else 2e-4)
    assert u.audio.num_samples == len(expected)
    assert u.audio.raw() == u.audio.raw()
    assert soundfile.info(io.BytesIO(u.audio.raw())).samplerate == rate


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, r"row 1: the row holds no array with a sampling_rate \(None\)"),
        ({"array": [0.1], "sampling_rate": None}, r"row 1: the row holds no array with a sampling_rate \(None\)"),
        ({"array": None, "sampling_rate": 16_000}, r"row 1: the row's array is empty \(null\)"),
        ({"array": [0.1, 3000.0], "sampling_rate": 16_000}, r"row 1: its samples reach 3000; floats lie between"),
        ({"array": [0.1, float("nan")], "sampling_rate": 16_000}, r"row 1: holds samples that are not numbers"),
        ({"array": [0.1, None], "sampling_rate": 16_000}, r"row 1: the row's array holds double or nulls"),
    ],
)
def test_array_that_cannot_be_sound_is_an_error_that_names_its_row(tmp_path: Path, value: Any, message: str):
    good = {"array": [0.1, 0.2], "sampling_rate": 16_000}
    folder = save(tmp_path / "set", [good, value], as_audio=False)
    first, second = HubCorpus(HubConfig(dataset=folder)).utterances("train")
    assert first.audio.num_samples == 2
    with pytest.raises(AudioError, match=message):
        second.audio.load()


def test_integers_beyond_16_bits_are_an_error(tmp_path: Path):
    folder = save(tmp_path / "set", [{"array": [1, 40_000], "sampling_rate": 16_000}], as_audio=False)
    (u,) = HubCorpus(HubConfig(dataset=folder)).utterances("train")
    with pytest.raises(AudioError, match=r"row 0: its integers reach 40000, beyond 16 bits"):
        u.audio.load()


def test_empty_array_has_no_samples(tmp_path: Path):
    folder = save(tmp_path / "set", [{"array": [0.1], "sampling_rate": 8000}, {"array": [], "sampling_rate": 8000}],
                  as_audio=False)  # fmt: skip
    assert [u.audio.num_samples for u in HubCorpus(HubConfig(dataset=folder)).utterances("train")] == [2, 0]
