"""What a Python program may hand over: data sets to train on (data.corpora.given), batches (data.batches.make).

pytest tests/test_use_from_python.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch
from safetensors.torch import load_file
from transformers import Wav2Vec2FeatureExtractor

from data.batches.make import make_batch
from data.batches.specaugment import SpecAugment
from data.config import BatchingConfig
from data.corpora.given import DatasetCorpus, GivenConfig
from data.corpora.manifest import ManifestConfig
from data.examples.prepare import read_split
from models.config import ModelConfig
from scripts.report import main as report
from scripts.verify_run import main as verify_run
from tests.helpers.models import noise, small_model
from tests.helpers.paths import ROOT
from tests.helpers.runs import write_noise_corpus
from trainer.config.schema import Config, OptimConfig, TrainConfig
from trainer.errors import AudioError, ConfigError, CorpusError
from trainer.evaluating import score_model
from trainer.run import main
from trainer.session import train

PAGE = (ROOT / "docs" / "use-from-python.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_block_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One after the other, as a reader pastes them. Fine-tuning takes fifteen lines, scoring and transcribing few."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.+?)^```", PAGE, re.M | re.S)
    lengths = [sum(bool(line.strip()) for line in block.splitlines()) for block in blocks]
    assert len(lengths) == 5
    assert lengths[1] <= 15
    assert max(lengths[2:4]) <= 8
    names: dict[str, Any] = {"__name__": "a_program"}
    for block in blocks:
        exec(compile(block, "docs/use-from-python.md", "exec"), names)
    out = capsys.readouterr().out
    assert re.search(r"WER \d+\.\d %, interval ", out)
    assert len(re.findall(r"^step \d: \d+\.\d+ nats per unit$", out, re.M)) == 2
    results = json.loads((tmp_path / "runs" / "mine" / "results.json").read_text())
    assert results["command"] is None
    assert "Trained by a Python program" in (tmp_path / "runs" / "mine" / "model" / "README.md").read_text()
    assert (tmp_path / "runs" / "mine" / "report.html").exists()
    assert (tmp_path / "runs" / "mine-scored" / "report.html").exists()


class Rows:
    """The rows of a manifest as a data set: samples as the wav file has them, in 16 bits."""

    def __init__(self, manifest: Path) -> None:
        self.folder, self.rows = manifest.parent, [json.loads(line) for line in manifest.read_text().splitlines()]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, Any]:
        row = self.rows[i]
        waveform, rate = soundfile.read(self.folder / row["audio_filepath"], dtype="int16")
        known = {"rate": rate, "id": row["audio_filepath"], "speaker": row["speaker"]}
        return {"waveform": torch.from_numpy(waveform), "text": row["text"], **known}


@pytest.fixture
def corpus(tmp_path: Path) -> DatasetCorpus:
    write_noise_corpus(tmp_path, num_train=8, num_eval=6)
    return DatasetCorpus(train=Rows(tmp_path / "train.jsonl"), eval=Rows(tmp_path / "eval.jsonl"))


def config(folder: Path, **more: Any) -> Config:
    return Config(
        corpus=GivenConfig(), model=ModelConfig(pretrained=str(folder / "checkpoint")), device="cpu", name="given",
        batching=BatchingConfig(batch_size=4), train=TrainConfig(epochs=2, eval_every=2), optim=OptimConfig(lr=1e-3),
        runs_dir=str(folder / "runs"), cache_dir=str(folder / "cache"), **more,
    )  # fmt: skip


@pytest.mark.usefixtures("one_thread")
def test_training_on_a_data_set_is_training_on_the_same_files(
    corpus: DatasetCorpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reference: the command line on the manifests of the same audio. Weights, transcripts and rates are equal, bit for
    bit. Then the run is resumed, scored, verified, and reported without its corpus."""
    assert train(config(tmp_path), corpus=corpus) == 0
    options = [
        "--corpus.train", str(tmp_path / "train.jsonl"), "--corpus.eval", str(tmp_path / "eval.jsonl"),
        "--model.pretrained", str(tmp_path / "checkpoint"), "--batching.batch-size", "4", "--train.epochs", "2",
        "--train.eval-every", "2", "--optim.lr", "1e-3", "--device", "cpu", "--runs-dir", str(tmp_path / "runs"),
        "--cache-dir", str(tmp_path / "cache"), "--no-report", "--name", "files",
    ]  # fmt: skip
    assert main(["manifest", *options]) == 0
    given, files = (tmp_path / "runs" / name for name in ("given", "files"))
    ours, theirs = (load_file(run / "model" / "model.safetensors") for run in (given, files))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert (given / "hypotheses.jsonl").read_bytes() == (files / "hypotheses.jsonl").read_bytes()

    assert train(config(tmp_path, resume=True), corpus=corpus) == 0
    assert "complete after 4 steps" in capsys.readouterr().err
    with pytest.raises(CorpusError, match="handed over by a Python program"):
        train(config(tmp_path, overwrite=True))
    scored = Config(
        corpus=GivenConfig(), model=ModelConfig(pretrained=str(given)), name="scored", device="cpu", report=False,
        runs_dir=str(tmp_path / "runs"), cache_dir=str(tmp_path / "cache"),
    )  # fmt: skip
    results = json.loads((given / "results.json").read_text())
    assert score_model(scored, corpus=DatasetCorpus(Rows(tmp_path / "eval.jsonl")))["wer"] == results["wer"]
    assert verify_run([str(given)]) == 0
    capsys.readouterr()
    assert report([str(given), "--out", str(tmp_path / "page.html")]) == 0
    assert "text only: this corpus was handed over" in capsys.readouterr().err
    assert "python -m scripts.evaluate" not in capsys.readouterr().err


def test_a_config_that_names_another_corpus_is_refused(corpus: DatasetCorpus) -> None:
    with pytest.raises(ConfigError, match="both name a corpus"):
        train(Config(corpus=ManifestConfig(), model=ModelConfig(size="tiny")), corpus=corpus)


def test_waveforms_of_any_form_become_the_same_samples() -> None:
    """Reference: soxr for another rate; the mean of two channels; integers over the largest of their type."""
    samples = noise(8000)
    ints = (samples * 32767).astype(np.int16)
    stereo = np.stack([samples, 0.5 * samples])
    items = [
        (samples, "a"), (torch.from_numpy(samples), "a"), (samples.astype(np.float64)[None], "a"), (stereo, "a"),
        (ints, "a"), ((ints.astype(np.int32) << 16), "a"), {"waveform": samples, "text": "a", "rate": 8000},
    ]  # fmt: skip
    loaded = [utterance.audio.load() for utterance in read_split(DatasetCorpus(items), "eval")]
    assert {array.dtype for array in loaded} == {np.dtype(np.float32)}
    for array in loaded[:3]:
        np.testing.assert_array_equal(array, samples)
    np.testing.assert_allclose(loaded[3], 0.75 * samples, rtol=1e-6)
    np.testing.assert_array_equal(loaded[4], ints.astype(np.float32) / 32768)
    np.testing.assert_allclose(loaded[5], loaded[4], rtol=1e-6)
    np.testing.assert_array_equal(loaded[6], soxr.resample(samples, 8000, 16_000))
    utterances = read_split(DatasetCorpus(items), "eval")
    assert [u.audio.num_samples for u in utterances] == [8000] * 6 + [16_000]
    assert utterances[0].audio.identity == utterances[1].audio.identity != utterances[4].audio.identity


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ((noise(400), 16_000, "a"), "item 1: a tuple of 3. An item is"),
        (noise(400), "item 1: a ndarray. An item is"),
        ({"audio": noise(400), "text": "a"}, r"item 1: a dict without 'waveform' \(it has audio, text\)"),
        ({"waveform": noise(400), "text": "a", "hz": 8000}, "a dict with 'hz', which is not known"),
        ((noise(400), 3), "item 1: its text is a int"),
        (("a.wav", "a"), "item 1: a str is no array of samples"),
        ((noise(400)[:, None], "a"), "item 1: a waveform of shape .400, 1.: channels come first"),
        ((noise(400).astype(bool), "a"), "type bool"),
    ],
)  # fmt: skip
def test_an_item_that_is_no_utterance_is_named(item: Any, message: str) -> None:
    with pytest.raises((CorpusError, AudioError), match=message):
        read_split(DatasetCorpus([(noise(400), "a"), item]), "eval")


def test_what_is_no_map_style_data_set_is_refused() -> None:
    with pytest.raises(CorpusError, match="Give a map-style Dataset"):
        read_split(DatasetCorpus(iter([(noise(400), "a")])), "eval")  # type: ignore[arg-type]
    with pytest.raises(CorpusError, match=r"Give DatasetCorpus\(train=...\)"):
        read_split(DatasetCorpus([(noise(400), "a")]), "train")


def test_a_data_set_that_changes_its_items_is_refused() -> None:
    class Augmented:
        def __len__(self) -> int:
            return 1

        def __getitem__(self, i: int) -> tuple[np.ndarray, str]:
            return noise(400, seed=next(numbers)), "a"

    numbers = iter(range(9))
    (utterance,) = read_split(DatasetCorpus(Augmented()), "eval")
    with pytest.raises(AudioError, match="must return the same item every time"):
        utterance.audio.load()


def test_splits_are_those_of_a_manifests() -> None:
    rows = [(noise(400), "a")]
    assert DatasetCorpus(rows, rows).splits.selects is False
    with_test = DatasetCorpus(rows, rows, rows).splits
    assert (with_test.headline, with_test.monitor, with_test.selects) == ("test", "eval", True)
    assert DatasetCorpus(rows, test=rows).splits.selects is False  # scored only: nothing is selected


def test_a_batch_is_what_transformers_feature_extractor_makes() -> None:
    """Reference: Wav2Vec2FeatureExtractor with padding; frames by the model's own geometry; targets by hand."""
    waveforms, targets, model = [noise(5000, seed=1), noise(9000, seed=2)], [[1, 2], [3, 3, 4]], small_model()
    batch = make_batch([torch.from_numpy(waveforms[0]), waveforms[1][None]], targets, model.num_frames, ids=["a", "b"])
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    expected = extractor(waveforms, sampling_rate=16_000, padding=True, return_tensors="pt")
    torch.testing.assert_close(batch.waveforms, expected["input_values"], rtol=1e-4, atol=1e-4)
    assert batch.waveform_lengths.tolist() == expected["attention_mask"].sum(1).tolist()
    assert batch.frame_lengths.tolist() == [model.num_frames(5000), model.num_frames(9000)]
    assert [row[:n].tolist() for row, n in zip(batch.targets, batch.target_lengths, strict=True)] == targets
    assert (batch.ids, batch.time_mask) == (("a", "b"), None)
    plain = make_batch(waveforms, targets, model.num_frames, do_normalize=False)
    np.testing.assert_array_equal(plain.waveforms[1].numpy(), waveforms[1])


def test_masks_of_a_batch_follow_from_its_seed() -> None:
    model = small_model()
    spec = SpecAugment(hidden_size=8, time_prob=0.5, time_length=2, time_min_masks=1,
                       feature_prob=0.0, feature_length=2, feature_min_masks=0)  # fmt: skip
    masks = [
        make_batch([noise(16_000)], [[1]], model.num_frames, specaugment=spec, seed=seed).time_mask
        for seed in (1, 1, 2)
    ]
    assert masks[0] is not None
    assert masks[0].any()
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


@pytest.mark.parametrize(
    ("waveforms", "targets", "error", "message"),
    [
        ([noise(5000)], [], CorpusError, "1 waveforms, 0 targets"),
        ([], [], CorpusError, "at least one utterance"),
        ([noise(500)], [[1, 1, 1]], CorpusError, "0: its 500 samples are . frames; CTC needs 5 for 3 units"),
        ([np.zeros(5000, np.float32)], [[1]], AudioError, "0: all its samples are zero"),
    ],
)
def test_a_batch_that_cannot_be_trained_on_is_refused(
    waveforms: Any, targets: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make_batch(waveforms, targets, small_model().num_frames)
