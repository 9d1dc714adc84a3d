"""data.corpora.hub: data sets saved to disk, audio as bytes or as paths, decoded without torchcodec."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import soundfile
import soxr

from data.corpora.hub import HubConfig
from data.corpora.hub.corpus import HubCorpus
from trainer.errors import AudioError, CorpusError

TEXTS = ["so it goes", "über élan", "", "one two"]


@pytest.fixture(autouse=True)
def no_torchcodec(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing torchcodec is an ImportError, installed or not."""
    monkeypatch.setitem(sys.modules, "torchcodec", None)


@pytest.fixture(autouse=True)
def no_bars() -> None:
    datasets.disable_progress_bars()


@pytest.fixture
def files(write_tone: Callable) -> list[Path]:
    """One file of each kind, as many as there are texts."""
    return [
        write_tone("audio/0.wav", 0.3, subtype="PCM_16"),
        write_tone("audio/1.flac", 0.31, rate=8000, channels=2),
        write_tone("audio/2.mp3", 0.32, rate=44_100),
        write_tone("audio/3.ogg", 0.33),
    ]


def save(
    folder: Path, audio: list[Any], *, as_audio: bool, splits: tuple[str, ...] = ("train", "test"), **columns
) -> str:
    """A DatasetDict whose splits are all the same rows, written by save_to_disk."""
    table = {"audio": audio, "text": TEXTS[: len(audio)], **columns}
    dataset = datasets.Dataset.from_dict(table)
    if as_audio:
        dataset = dataset.cast_column("audio", datasets.Audio())
    datasets.DatasetDict(dict.fromkeys(splits, dataset)).save_to_disk(str(folder))
    return str(folder)


KINDS = {
    "bytes": (lambda path: {"bytes": path.read_bytes(), "path": None}, True),
    "paths, embedded when saved": (str, True),
    "paths as strings": (str, False),
    "bytes without the Audio type": (lambda path: {"bytes": path.read_bytes(), "path": path.name}, False),
}


@pytest.mark.parametrize("kind", KINDS)
def test_saved_data_set_gives_its_texts_and_its_audio(tmp_path: Path, files: list[Path], kind: str):
    """Reference: soundfile, then the channels' mean, then soxr, on the files; 1e-6 for the order of summing."""
    value, as_audio = KINDS[kind]
    folder = save(tmp_path / "set", [value(path) for path in files], as_audio=as_audio)
    utterances = list(HubCorpus(HubConfig(dataset=folder)).utterances("train"))
    assert [u.text for u in utterances] == TEXTS
    assert [u.id for u in utterances] == [f"train-{i:06d}" for i in range(4)]
    for u, path in zip(utterances, files, strict=True):
        raw, rate = soundfile.read(path, dtype="float32", always_2d=True)
        expected = soxr.resample(raw.mean(axis=1), rate, 16_000)
        samples = u.audio.load()
        assert u.audio.num_samples == len(samples)
        assert abs(len(samples) - len(expected)) <= 1
        n = min(len(samples), len(expected))
        np.testing.assert_allclose(samples[:n], expected[:n], atol=1e-6)
        assert u.audio.raw() == path.read_bytes()


@pytest.fixture
def saved(tmp_path: Path, files: list[Path]) -> str:
    audio = [{"bytes": path.read_bytes(), "path": None} for path in files]
    return save(tmp_path / "set", audio, as_audio=True, key=[10, 11, 12, 13], who=["a", "b", "a", "b"])


def test_columns_can_give_id_and_speaker(saved: str):
    utterances = list(HubCorpus(HubConfig(dataset=saved, id_field="key", speaker_field="who")).utterances("test"))
    assert [u.id for u in utterances] == ["10", "11", "12", "13"]
    assert [u.speaker for u in utterances] == ["a", "b", "a", "b"]


def test_origin_names_data_set_split_and_row(saved: str):
    utterances = list(HubCorpus(HubConfig(dataset=saved)).utterances("test"))
    assert [u.origin for u in utterances] == [f"{saved}, split test, row {i}" for i in range(4)]


def test_identities_differ_between_rows_and_stay_between_readings(saved: str):
    def identities() -> list[str]:
        return [u.audio.identity for u in HubCorpus(HubConfig(dataset=saved)).utterances("train")]

    assert len(set(identities())) == 4
    assert identities() == identities()


def test_hub_id_is_loaded_by_split_subset_and_revision(saved: str, monkeypatch: pytest.MonkeyPatch):
    asked = {}

    def load_dataset(name: str, subset: str | None, *, split: str, revision: str | None) -> datasets.Dataset:
        asked.update(name=name, subset=subset, split=split, revision=revision)
        return datasets.load_from_disk(saved)["test"]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    corpus = HubCorpus(HubConfig(dataset="someone/speech", subset="en", revision="abc", eval_split="dev[:4]"))
    assert [u.text for u in corpus.utterances("dev[:4]")] == TEXTS
    assert asked == {"name": "someone/speech", "subset": "en", "split": "dev[:4]", "revision": "abc"}
    assert corpus.title == "the data set someone/speech"


def test_splits_are_those_that_were_named(saved: str):
    splits = HubCorpus(HubConfig(dataset=saved, train_split="train", eval_split="validation")).splits
    assert (splits.train, splits.monitor, splits.headline) == ("train", "validation", "validation")


def test_a_test_split_is_reported_and_the_evaluation_split_selects(saved: str):
    splits = HubCorpus(HubConfig(dataset=saved, eval_split="validation", test_split="test")).splits
    assert (splits.monitor, splits.headline, splits.closing) == ("validation", "test", ("test", "validation"))
    assert splits.selects
    with pytest.raises(CorpusError, match=r"--corpus\.eval-split and --corpus\.test-split are both 'test'"):
        HubCorpus(HubConfig(dataset=saved, test_split="test"))


# What does not work


def error_of(config: HubConfig, split: str = "train") -> str:
    with pytest.raises(CorpusError) as caught:
        list(HubCorpus(config).utterances(split))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("field", ["text", "audio", "id", "speaker"])
def test_missing_column_is_named_with_those_there_are_and_the_option(saved: str, field: str):
    assert error_of(HubConfig(dataset=saved, **{f"{field}_field": "nothing"})) == (
        f"{saved}, split train: no column 'nothing' (columns: audio, text, key, who). "
        f"Name it with --corpus.{field}-field."
    )


def test_missing_split_is_named_with_those_there_are(saved: str):
    message = error_of(HubConfig(dataset=saved, eval_split="dev"), "dev")
    assert message.startswith(f"{saved}: no split 'dev' (splits: train, test). Name them with --corpus.train-split")


def test_training_on_the_evaluation_split_is_refused(saved: str):
    with pytest.raises(CorpusError, match=r"--corpus\.train-split and --corpus\.eval-split are both 'test'"):
        HubCorpus(HubConfig(dataset=saved, train_split="test", eval_split="test"))


def test_single_data_set_without_splits_is_refused(tmp_path: Path):
    datasets.Dataset.from_dict({"audio": ["a.wav"], "text": ["a"]}).save_to_disk(str(tmp_path / "set"))
    assert "holds one data set without splits" in error_of(HubConfig(dataset=str(tmp_path / "set")))


def test_folder_that_save_to_disk_did_not_write_is_named(tmp_path: Path):
    message = error_of(HubConfig(dataset=str(tmp_path)))
    assert message.startswith(f"{tmp_path}, split train: does not load (")
    assert "save_to_disk" in message


@pytest.mark.parametrize("name", ["/no/such/folder", "no-such/data-set"])
def test_data_set_that_is_not_there_is_named_with_the_option(name: str):
    message = error_of(HubConfig(dataset=name))
    assert message.startswith(f"{name}, split train: does not load (")
    assert "--corpus.dataset" in message


@pytest.mark.parametrize("values", [[1, 2], [[0.1, 0.2], [0.3]], [{"array": 1}, {"array": 2}]])
def test_column_that_holds_no_audio_is_named(tmp_path: Path, values: list):
    folder = save(tmp_path / "set", values, as_audio=False)
    message = error_of(HubConfig(dataset=folder))
    assert message.startswith(f"{folder}: column 'audio' holds no audio (")
    assert message.endswith("--corpus.audio-field.")


def test_text_that_is_no_string_is_named_with_its_row(tmp_path: Path, files: list[Path]):
    audio = [str(path) for path in files]
    folder = save(tmp_path / "set", audio, as_audio=False, words=["a", None, "c", "d"])
    message = error_of(HubConfig(dataset=folder, text_field="words"))
    assert message == f"{folder}, split train, row 1: 'words' must be a string, found None."


@pytest.mark.parametrize("value", [{"bytes": None, "path": None}, None])
def test_row_without_audio_is_an_audio_error_that_names_it(tmp_path: Path, files: list[Path], value: Any):
    audio = [{"bytes": files[0].read_bytes(), "path": None}, value]
    folder = save(tmp_path / "set", audio, as_audio=False)
    good, bad = HubCorpus(HubConfig(dataset=folder)).utterances("train")
    assert good.audio.num_samples == 4800
    with pytest.raises(AudioError, match=r"set, split train, row 1: the row holds neither bytes nor a path\."):
        _ = bad.audio.num_samples


def test_row_whose_file_is_gone_is_an_audio_error_that_names_it(tmp_path: Path, files: list[Path]):
    folder = save(tmp_path / "set", [str(path) for path in files], as_audio=False)
    files[2].unlink()
    utterances = list(HubCorpus(HubConfig(dataset=folder)).utterances("train"))
    assert utterances[1].audio.num_samples == 4960
    with pytest.raises(AudioError, match=r"2\.mp3: No such file or directory"):
        _ = utterances[2].audio.num_samples


def test_bytes_that_are_no_audio_are_an_error_that_names_the_row(tmp_path: Path):
    folder = save(tmp_path / "set", [{"bytes": b"no audio", "path": None}], as_audio=True)
    (utterance,) = HubCorpus(HubConfig(dataset=folder)).utterances("train")
    with pytest.raises(AudioError, match=r"set, split train, row 0: not readable as audio \(Format not recognised\)"):
        _ = utterance.audio.num_samples
