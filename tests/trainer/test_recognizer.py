"""The public class (trainer.recognizer): files and arrays give the same words, and what is no speech is refused.

pytest tests/trainer/test_recognizer.py
"""

from __future__ import annotations

import io
import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch
from transformers import AutoModelForCTC, Wav2Vec2FeatureExtractor

from models.checkpoints.export import save_huggingface
from scripts.transcribe import main
from tests.helpers.models import VOCAB, make_talkative, noise, small_model
from tests.helpers.tones import speak, tone_model
from trainer.align.align import align
from trainer.align.times import EdgeModel, SpikeTimes, save_times
from trainer.errors import AudioError, CorpusError
from trainer.recognize.transcribe import Windows
from trainer.recognizer import Recognizer
from trainer.rundir.calibration import write_calibration
from trainer.scoring.confidence import Calibration, WordEvidence, frame_evidence
from trainer.scoring.units import find_units, group_words

CALIBRATION = Calibration("gibbs-exponential-mean", 2.0, "dev", 374, 42)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported, calibrated model that writes long, varied nonsense."""
    path = tmp_path_factory.mktemp("exported") / "model"
    save_huggingface(make_talkative(small_model()).hf, VOCAB.tokens, VOCAB.special, True, path)
    write_calibration(path, CALIBRATION)
    return path


@pytest.fixture(scope="module")
def recognizer(folder: Path) -> Recognizer:
    return Recognizer(folder, device="cpu")


SPEECH = (0.1 * noise(24_000, seed=1)).astype(np.float32)
INTEGERS = np.round(SPEECH.clip(-1, 1) * 32_767).astype(np.int16)


def test_a_file_and_arrays_of_its_samples_have_one_transcript(recognizer: Recognizer, tmp_path: Path) -> None:
    """Reference: the file, of 16 bits. Mono, two channels, a tensor, a list and float64 hold the same samples."""
    path = tmp_path / "speech.wav"
    soundfile.write(path, INTEGERS, 16_000)
    of_file = recognizer.transcribe(path)
    assert of_file.name == str(path)
    assert len(of_file.words) > 2
    floats = INTEGERS / 32_768
    for audio in (
        INTEGERS,
        floats,
        floats.astype(np.float32),
        np.stack([INTEGERS] * 2),
        torch.tensor(floats),
        [*floats],
    ):
        found = recognizer.transcribe(audio)
        assert (found.text, found.words, found.name) == (of_file.text, of_file.words, "audio")


def test_other_rates_are_resampled(recognizer: Recognizer) -> None:
    """Reference: soxr, then a transcription at 16 kHz."""
    at_8 = soxr.resample(SPEECH, 16_000, 8000)
    expected = recognizer.transcribe(soxr.resample(at_8, 8000, 16_000))
    assert recognizer.transcribe(at_8, 8000).words == expected.words
    assert recognizer.transcribe(at_8, 8000).num_samples == 24_000
    for rate in (8000.0, np.float64(8000), np.int64(8000)):  # as librosa and torch hand it over
        assert recognizer.transcribe(at_8, rate).words == expected.words


def test_a_32_bit_recording_is_read_at_its_full_scale(recognizer: Recognizer) -> None:
    """Reference: the same samples in 16 bits."""
    assert recognizer.transcribe(INTEGERS.astype(np.int32) << 16).words == recognizer.transcribe(INTEGERS).words


def test_a_forked_process_transcribes_after_its_parent_did(recognizer: Recognizer) -> None:
    """A child that was forked beside OpenMP's threads waits for them for ever, unless it computes in one thread."""
    before, expected = torch.get_num_threads(), recognizer.transcribe(SPEECH).text
    torch.set_num_threads(2)
    try:
        torch.ones(600, 600) @ torch.ones(600, 600)  # starts the threads
        with multiprocessing.get_context("fork").Pool(1, initializer=_keep, initargs=(recognizer,)) as pool:
            assert pool.apply_async(_transcribe_kept).get(timeout=30) == (expected, 1)
    finally:
        torch.set_num_threads(before)


def _keep(recognizer: Recognizer) -> None:
    global kept
    kept = recognizer


def _transcribe_kept() -> tuple[str, int]:
    return kept.transcribe(SPEECH).text, torch.get_num_threads()


@pytest.mark.parametrize(
    ("audio", "rate", "message"),
    [
        (np.zeros(0), 16_000, "audio: holds no samples"),
        (np.zeros((2, 0)), 16_000, "audio: holds no samples"),
        (np.zeros((0, 2)), 16_000, "audio: holds no samples"),
        (np.ma.masked_less(SPEECH, 0.0), 16_000, "audio: a masked array, some samples of which are masked"),
        (torch.tensor(SPEECH).to_sparse(), 16_000, "audio: a tensor that does not hold its samples one by one"),
        (torch.empty(20_000, device="meta"), 16_000, "a tensor that does not hold its samples one by one"),
        (np.zeros(20_000), 16_000, "audio: all its samples are zero"),
        (np.append(SPEECH, np.nan), 16_000, "audio: holds samples that are not numbers"),
        (np.append(SPEECH, np.inf), 16_000, "audio: holds samples that are not numbers"),
        (SPEECH[:399], 16_000, r"audio: 0\.0249 s are shorter than one frame of the model \(0\.025 s\)"),
        (SPEECH, 100, "audio: a rate of 100 Hz"),
        (np.stack([SPEECH] * 2, 1), 16_000, "channels come first"),
        (np.zeros((2, 2, 9)), 16_000, "of shape"),
        (SPEECH.astype(complex), 16_000, "type complex"),
        (INTEGERS.astype(np.uint8), 16_000, "type uint8"),
        (INTEGERS.astype(np.int64), 16_000, "integers of 64 bits"),  # taken for all but silence otherwise
        (INTEGERS.tolist(), 16_000, "integers of 64 bits"),
        ((SPEECH, 16_000), 16_000, "a tuple whose items are not all samples"),
        ([[0.1, 0.2], [0.3]], 16_000, "a list whose items are not all samples"),
        (io.BytesIO(b"RIFF"), 16_000, "audio: a BytesIO is no array of samples"),
        ({"array": SPEECH, "sampling_rate": 16_000}, 16_000, "audio: a dict is no array of samples"),
        (b"RIFF", 16_000, "audio: a bytes is no array of samples"),
        (None, 16_000, "audio: a NoneType is no array of samples"),
        (INTEGERS.astype(np.int32), 16_000, "integers of 32 bits, none above .* samples of 16 bits"),
        (SPEECH.astype(np.float64) * 1e300, 16_000, "samples that are not numbers"),
        (SPEECH, 22_050.5, "a rate of 22050.5 Hz. Give a whole number"),
        (SPEECH, True, "a rate of True"),
        (SPEECH, None, "audio: a rate of None"),
        (SPEECH, "16000", "audio: a rate of '16000'"),
        ("nowhere.wav", 16_000, "nowhere.wav: "),
    ],
)  # fmt: skip
def test_what_is_no_speech_is_refused_in_words(recognizer: Recognizer, audio: Any, rate: int, message: str) -> None:
    for use in (recognizer.transcribe, recognizer.logits):
        with pytest.raises(AudioError, match=message):
            use(audio, rate)


def test_bfloat16_which_numpy_lacks_is_read(recognizer: Recognizer) -> None:
    """Reference: the same tensor as float32."""
    rounded = torch.tensor(SPEECH).bfloat16()
    assert recognizer.transcribe(rounded.requires_grad_()).words == recognizer.transcribe(rounded.float()).words


@pytest.mark.parametrize("text", [None, ["one", "two"], b"one"])
def test_a_transcript_that_is_no_str_is_refused_in_words(recognizer: Recognizer, text: Any) -> None:
    with pytest.raises(CorpusError, match=rf"audio: a transcript of type {type(text).__name__}\. Give one str"):
        recognizer.align(SPEECH, text)


@torch.no_grad()
def test_logits_are_transformers(recognizer: Recognizer, folder: Path) -> None:
    """Reference: AutoModelForCTC and its feature extractor on the exported folder, within float32 rounding."""
    features = Wav2Vec2FeatureExtractor.from_pretrained(folder)(SPEECH, sampling_rate=16_000, return_tensors="pt")
    expected = AutoModelForCTC.from_pretrained(folder)(features.input_values).logits[0].numpy()
    np.testing.assert_allclose(recognizer.logits(SPEECH), expected, atol=2e-3, rtol=1e-3)


def test_logits_of_windows_are_those_that_transcripts_are_made_of(recognizer: Recognizer) -> None:
    windows = Windows(0.6, 0.2)
    ids = recognizer.logits(SPEECH, windows=windows).argmax(-1)
    written = " ".join(text for text, _ in group_words(find_units(ids, np.zeros((len(ids), 1)), VOCAB), VOCAB))
    assert recognizer.transcribe(SPEECH, windows=windows).text == written
    assert len(ids) == recognizer.geometry.num_frames(len(SPEECH))


def test_a_known_text_is_aligned_as_the_command_aligns_it(tmp_path: Path) -> None:
    """Reference: trainer.align.align.align, with the times that lie beside the model and without any."""
    waveform = np.concatenate([speak(text, np.random.default_rng(0)) for text in ("bad", " ", "cab")])
    heard = replace(tone_model(), source=str(tmp_path))
    plain = Recognizer(heard).align(waveform, "bad cab", name="x")
    assert plain == align(heard, "x", waveform, "bad cab")
    assert [word.text for word in plain.words] == ["bad", "cab"]
    edge = EdgeModel(160.0, {}, {}, (0.0,) * 7, (-1e9,) * 7, (1e9,) * 7, (-1600.0, 1600.0))
    times = SpikeTimes(edge, edge, "a test")
    save_times(times, tmp_path / "times.json")
    corrected = Recognizer(heard).align((waveform * 32_767).astype(np.int16), "bad cab", name="x")
    assert corrected == align(
        heard, "x", (waveform * 32_767).astype(np.int16) / np.float32(32_768), "bad cab", times=times
    )
    assert [word.start for word in corrected.words] != [word.start for word in plain.words]
    with pytest.raises(CorpusError, match="x: "):
        Recognizer(heard).align(waveform, "", name="x")


def test_confidences_are_those_of_the_folders_calibration(recognizer: Recognizer, folder: Path) -> None:
    """Reference: the calibration applied to the logits; without its file, the geometric mean of posteriors."""
    assert recognizer.loaded.calibration == CALIBRATION
    logits = torch.from_numpy(recognizer.logits(SPEECH))
    units = find_units(logits.argmax(-1).numpy(), frame_evidence(logits).numpy(), VOCAB)
    words = [of_word for _, of_word in group_words(units, VOCAB)]
    transcript = recognizer.transcribe(SPEECH)
    expected = CALIBRATION.confidences(WordEvidence.of(words), len(VOCAB))
    assert [w.confidence for w in transcript.words] == pytest.approx(expected.tolist(), abs=1e-6)
    assert transcript.is_calibrated
    assert transcript.confidence == pytest.approx(expected.mean(), abs=1e-6)
    raw = Recognizer(replace(recognizer.loaded, calibration=None))
    plain = raw.transcribe(SPEECH)
    assert not plain.is_calibrated
    by_hand = [np.prod([np.exp(u.evidence[0]) for u in word]) ** (1 / len(word)) for word in words]
    assert [w.confidence for w in plain.words] == pytest.approx(by_hand, abs=1e-5)


def test_command_writes_calibrated_confidences_and_says_so(
    folder: Path, recognizer: Recognizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "speech.wav"
    soundfile.write(path, INTEGERS, 16_000)
    assert main([str(folder), str(path), "--format", "json", "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    word = recognizer.transcribe(path).words[0]
    assert f'"confidence": {round(word.confidence, 4)}' in out
    assert '"calibrated": true' in out
    assert "confidences are by gibbs-exponential-mean, temperature 2, fitted on dev" in err
    assert main([str(folder), str(path), "--format", "text", "--device", "cpu"]) == 0
    assert "confidences" not in capsys.readouterr().err
