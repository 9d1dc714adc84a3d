"""What the report plays and draws of one utterance (trainer.report.media), decoded again and compared.

pytest tests/trainer/report/test_media.py
"""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from data.examples.prepare import Example
from data.utterance import Segment, Utterance
from tests.helpers.models import VOCAB, example, make_talkative, noise, small_model
from trainer.report.media import (
    encode_audio,
    frame_posteriors,
    read_posteriors,
    spectrogram,
    utterance_media,
    wave_outline,
    written_words,
)

CPU = torch.device("cpu")


def posteriors_of_noise(num_samples: int) -> dict[str, str | float]:
    model = small_model()
    return frame_posteriors(model, read_posteriors(model, noise(num_samples), True, CPU))


def test_audio_comes_back_as_long_and_alike() -> None:
    """Vorbis is lossy: the correlation with what went in stays above 0.9 for a tone over several encoder blocks."""
    wave = (0.4 * np.sin(2 * np.pi * 300 * np.arange(41_234) / 16_000)).astype(np.float32)
    decoded, rate = soundfile.read(io.BytesIO(encode_audio(wave)))
    assert (rate, len(decoded)) == (16_000, len(wave))
    assert np.corrcoef(decoded, wave)[0, 1] > 0.9


def test_samples_beyond_full_scale_are_clipped_not_wrapped() -> None:
    decoded, _ = soundfile.read(io.BytesIO(encode_audio(np.full(8000, 3.0, np.float32))))
    assert decoded[2000:6000].min() > 0.5


@pytest.mark.parametrize("frequency", [1000, 3000, 6500])
def test_a_tone_is_dark_at_its_frequency_and_nowhere_else(frequency: int) -> None:
    """Reference: the row of the picture that stands for it, 0 to 8 kHz from the bottom up."""
    wave = (0.4 * np.sin(2 * np.pi * frequency * np.arange(16_000) / 16_000)).astype(np.float32)
    shade = np.asarray(Image.open(io.BytesIO(spectrogram(wave))).convert("L"), dtype=float)
    rows = shade[:, 20:-20].mean(1)
    expected = len(rows) * (1 - frequency / 8000)
    assert abs(np.argmin(rows) - expected) <= 2
    assert np.median(rows) > 200


@pytest.mark.parametrize("num_samples", [1, 100, 401, 3 * 16_000, 60 * 16_000])
def test_any_length_has_a_small_picture(num_samples: int) -> None:
    picture = Image.open(io.BytesIO(spectrogram(noise(num_samples))))
    assert picture.height == 128
    assert 1 <= picture.width <= 8001


def test_silence_is_blank_paper() -> None:
    assert wave_outline(np.zeros(1000, np.float32)).max() == 0
    assert Image.open(io.BytesIO(spectrogram(np.zeros(8000, np.float32)))).height == 128


@pytest.mark.parametrize("num_samples", [3, 399, 400, 12_345, 20 * 16_000])
def test_outline_holds_lowest_and_highest_of_each_stretch(num_samples: int) -> None:
    """Reference: a loop over the stretches."""
    wave = noise(num_samples)
    outline, number = wave_outline(wave), min(max(400, 50 * num_samples // 16_000), num_samples)
    loudest = np.abs(wave).max()
    for i in range(number):
        part = wave[i * num_samples // number : (i + 1) * num_samples // number]
        assert outline[i].tolist() == [round(float(v) / loudest * 127) for v in (part.min(), part.max())]


def test_posteriors_are_the_models_own() -> None:
    """Reference: transformers' forward and softmax. Eight bits each: within half of 1/255."""
    model, wave = make_talkative(small_model()), noise(12_000)
    found = frame_posteriors(model, read_posteriors(model, wave, True, CPU))
    normalized = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)
    with torch.no_grad():
        expected = model.hf(torch.from_numpy(normalized)[None]).logits[0].softmax(-1).numpy()
    units = np.frombuffer(base64.b64decode(str(found["units"])), "<u2")
    best, blank = (np.frombuffer(base64.b64decode(str(found[k])), np.uint8) / 255 for k in ("best", "blank"))
    without = np.delete(expected, VOCAB.blank_id, axis=1)
    names = [i for i in range(len(VOCAB)) if i != VOCAB.blank_id]
    assert units.tolist() == [names[i] for i in without.argmax(1)]
    assert best == pytest.approx(without.max(1), abs=0.0021)
    assert blank == pytest.approx(expected[:, VOCAB.blank_id], abs=0.0021)


def test_frames_lie_where_the_convolutions_look() -> None:
    """wav2vec 2.0's geometry: a receptive field of 25 ms every 20 ms, so centres at 12.5, 32.5, ... ms."""
    found = posteriors_of_noise(5000)
    assert (found["first"], found["step"]) == (0.0125, 0.02)


def test_too_short_for_a_frame_has_no_posteriors() -> None:
    assert posteriors_of_noise(300)["best"] == ""
    assert written_words(small_model(), torch.zeros(0, 1), VOCAB) == []


def test_labels_are_told_in_seconds() -> None:
    plain = example(8000, "ab")
    labelled = Utterance("u", plain.utterance.audio, "ab", phones=(Segment(0, 1600, "h#"), Segment(1600, 4000, "ae")))
    found = utterance_media(small_model(), Example(labelled, "ab", (), 8000, plain.load), VOCAB, True, CPU)
    assert found["phones"] == [[0.0, 0.1, "h#"], [0.1, 0.25, "ae"]]
    assert (found["words"], found["seconds"]) == ([], 0.5)
