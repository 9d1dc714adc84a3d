"""data.corpora.hub.corpus: columns of data sets, audio as bytes or as paths, decoded without torchcodec."""

from __future__ import annotations

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
from tests.helpers.hub import TEXTS, error_of, save
from trainer.errors import AudioError, CorpusError

pytestmark = pytest.mark.usefixtures("no_torchcodec", "no_bars")

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


# Columns


@pytest.mark.parametrize("column", ["speaker", "client_id", "speaker_id"])
def test_column_like_a_speaker_is_used_and_told(tmp_path: Path, files: list[Path], column: str):
    folder = save(tmp_path / "set", [str(path) for path in files], as_audio=False, **{column: ["x", "y", None, ""]})
    corpus = HubCorpus(HubConfig(dataset=folder))
    assert [u.speaker for u in corpus.utterances("train")] == ["x", "y", None, None]
    assert corpus.notes == [f'{folder}: speaker from column "{column}"; another: --corpus.speaker-field']


def test_another_column_of_audio_is_left_alone(tmp_path: Path, files: list[Path]):
    """Reading a whole row would decode it, with torchcodec."""
    audio = [{"bytes": path.read_bytes(), "path": None} for path in files]
    table = {"audio": audio, "noisy": audio, "text": TEXTS}
    dataset = datasets.Dataset.from_dict(table)
    for column in ("audio", "noisy"):
        dataset = dataset.cast_column(column, datasets.Audio(sampling_rate=8000))
    datasets.DatasetDict(train=dataset).save_to_disk(str(tmp_path / "set"))
    found = list(HubCorpus(HubConfig(dataset=str(tmp_path / "set"))).utterances("train"))
    assert found[0].audio.header.rate == 16_000, "the file's own rate, whatever the column says"
    assert len(found[0].audio.load()) == 4800


@pytest.mark.usefixtures("own_cache")
def test_paths_in_a_clone_are_below_it(tmp_path: Path, write_tone: Callable):
    write_tone("clone/clips/a.wav", 0.1)
    datasets.Dataset.from_dict({"path": ["clips/a.wav"], "sentence": ["so"]}).to_parquet(
        str(tmp_path / "clone" / "train.parquet")
    )
    (u,) = HubCorpus(HubConfig(dataset=str(tmp_path / "clone"))).utterances("train")
    assert (u.text, u.audio.num_samples) == ("so", 1600)


# Columns that are named


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


@pytest.mark.parametrize("field", ["text", "audio", "id", "speaker"])
def test_missing_column_is_named_with_those_there_are_and_the_option(saved: str, field: str):
    assert error_of(HubConfig(dataset=saved, **{f"{field}_field": "nothing"})) == (
        f"{saved}, split train: no column 'nothing' (columns: audio, text, key, who). "
        f"Name it with --corpus.{field}-field."
    )


def test_training_on_the_evaluation_split_is_refused(saved: str):
    with pytest.raises(CorpusError, match=r"--corpus\.train-split and --corpus\.eval-split are both 'test'"):
        HubCorpus(HubConfig(dataset=saved, train_split="test", eval_split="test"))


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
    assert message.startswith(f"{folder}, split train, row 1: 'words' must be a string, found None. Reading CSV, ")


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
