"""data.corpora.hub.loading: splits and slices of what lies on this disk, and a hub that does not answer."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest

import data.corpora.hub.loading
from data.corpora.hub import HubConfig
from data.corpora.hub.corpus import HubCorpus
from tests.helpers.hub import TEXTS, error_of

pytestmark = pytest.mark.usefixtures("no_torchcodec", "no_bars")

# Splits of what lies on this disk


def ids_and_texts(folder: str, split: str, **options: Any) -> list[tuple[str, str]]:
    return [(u.id, u.text) for u in HubCorpus(HubConfig(dataset=folder, **options)).utterances(split)]


def test_one_data_set_without_splits_is_read_in_parts(single: str):
    """Reference: the rows, by hand."""
    assert [text for _, text in ids_and_texts(single, "train")] == list("abcd")
    assert ids_and_texts(single, "train[:75%]") == [(f"train[:75%]-00000{i}", "abc"[i]) for i in range(3)]
    assert ids_and_texts(single, "train[75%:]") == [("train[75%:]-000000", "d")]
    assert [text for _, text in ids_and_texts(single, "train[-1:]+train[:2]")] == ["d", "a", "b"]


def test_slices_keep_each_rows_own_audio(single: str, files: list[Path]):
    (last,) = HubCorpus(HubConfig(dataset=single)).utterances("train[3:]")
    assert last.audio.raw() == files[3].read_bytes()


@pytest.mark.parametrize("how", ["select", "filter", "shuffle", "sort"])
def test_rows_that_were_chosen_before_saving_are_read_in_their_order(single: str, tmp_path: Path, how: str):
    """`datasets` keeps these as a mapping of indices. Reference: what it gives itself."""
    whole = datasets.load_from_disk(single)
    chosen = {
        "select": lambda: whole.select([3, 1]),
        "filter": lambda: whole.filter(lambda text: text in "bd", input_columns="text"),
        "shuffle": lambda: whole.shuffle(seed=1),
        "sort": lambda: whole.sort("text", reverse=True),
    }[how]()
    datasets.DatasetDict(train=chosen, test=whole).save_to_disk(str(tmp_path / "chosen"))
    found = list(HubCorpus(HubConfig(dataset=str(tmp_path / "chosen"))).utterances("train"))
    assert [u.text for u in found] == chosen["text"]
    assert [u.audio.raw() for u in found] == [row["bytes"] for row in chosen["audio"]]


@pytest.mark.parametrize("name", ["train.clean.100", "train-clean"])
def test_splits_may_have_points_and_hyphens_in_their_names(single: str, tmp_path: Path, name: str):
    """LibriSpeech's splits are called train.clean.100 on the hub; a folder's name may have hyphens."""
    whole = datasets.load_from_disk(single)
    for part in (name, "other"):
        whole.save_to_disk(str(tmp_path / "parts" / part))
    folder = str(tmp_path / "parts")
    assert ids_and_texts(folder, name) == [(f"{name}-00000{i}", text) for i, text in enumerate("abcd")]
    assert [text for _, text in ids_and_texts(folder, f"{name}[50%:]+other[:1]")] == ["c", "d", "a"]
    assert f"no split 'train' (splits: other, {name})" in error_of(HubConfig(dataset=folder))


def test_a_slice_without_rows_is_empty(single: str):
    assert ids_and_texts(single, "train[4:]") == []


@pytest.mark.parametrize(("name", "remedy"), [("a.parquet", "name the folder that it lies in"), ("a.csv", "manifest")])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_file_in_the_place_of_a_folder_is_told(tmp_path: Path, name: str, remedy: str, streaming: bool):
    (tmp_path / name).write_text("x")
    message = error_of(HubConfig(dataset=str(tmp_path / name), streaming=streaming))
    assert message.startswith(f"{tmp_path / name}: is a file. ")
    assert remedy in message


def test_data_sets_that_were_saved_side_by_side_are_splits(single: str, tmp_path: Path):
    whole = datasets.load_from_disk(single)
    for name, rows in (("train", [0, 1]), ("dev", [2])):
        whole.select(rows).save_to_disk(str(tmp_path / "both" / name))
    assert [text for _, text in ids_and_texts(str(tmp_path / "both"), "train")] == ["a", "b"]
    assert [text for _, text in ids_and_texts(str(tmp_path / "both"), "dev")] == ["c"]


@pytest.mark.usefixtures("own_cache")
def test_clone_of_a_hub_repository_in_parquet_is_read(single: str, tmp_path: Path, files: list[Path]):
    whole = datasets.load_from_disk(single)
    (tmp_path / "clone" / "data").mkdir(parents=True)
    for name, rows in (("train", range(3)), ("test", [3])):
        whole.select(rows).to_parquet(str(tmp_path / "clone" / "data" / f"{name}-00000-of-00001.parquet"))
    clone = str(tmp_path / "clone")
    assert [text for _, text in ids_and_texts(clone, "train")] == ["a", "b", "c"]
    assert [text for _, text in ids_and_texts(clone, "train[1:]")] == ["b", "c"]
    (last,) = HubCorpus(HubConfig(dataset=clone)).utterances("test")
    assert last.audio.raw() == files[3].read_bytes()


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_clone_of_a_hub_repository_of_audio_files_is_read(tmp_path: Path, files: list[Path], kind: str):
    """An audiofolder, as `datasets` calls it; without torchcodec, which it asks for to note a path."""
    for split in ("train", "test"):
        folder = tmp_path / "clone" / split
        folder.mkdir(parents=True)
        for path in files[:2]:
            (folder / path.name).write_bytes(path.read_bytes())
        rows = [{"file_name": path.name, "transcription": f"{split} {path.stem}", "who": "s"} for path in files[:2]]
        lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
        content = "\n".join(lines) if kind == "csv" else "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"metadata.{kind}").write_text(content)
    corpus = HubCorpus(HubConfig(dataset=str(tmp_path / "clone"), speaker_field="who"))
    found = list(corpus.utterances("test"))
    assert [(u.text, u.speaker) for u in found] == [("test 0", "s"), ("test 1", "s")]
    assert [u.audio.raw() for u in found] == [path.read_bytes() for path in files[:2]]
    assert corpus.notes == [f'{tmp_path / "clone"}: text from column "transcription"; another: --corpus.text-field']


def test_missing_split_is_named_with_those_there_are(saved: str):
    message = error_of(HubConfig(dataset=saved, eval_split="dev"), "dev")
    assert message.startswith(f"{saved}: no split 'dev' (splits: train, test). Name them with --corpus.train-split")


def test_single_data_set_without_the_split_says_how_to_name_parts(single: str):
    assert error_of(HubConfig(dataset=single), "test") == (
        f"{single}: holds one data set without splits, called 'train' here; there is no 'test'. Name two parts of it: "
        "--corpus.train-split 'train[:90%]' --corpus.eval-split 'train[90%:]'."
    )


@pytest.mark.parametrize("split", ["train[", "train[:200%]", "train[a:]"])
def test_slice_that_is_none_is_named(saved: str, split: str):
    message = error_of(HubConfig(dataset=saved, train_split=split), split)
    assert message.startswith(f"{saved}, split {split}: does not load (")


def test_clone_without_the_files_themselves_is_told_to_pull_them(tmp_path: Path):
    (tmp_path / "data").mkdir()
    pointer = tmp_path / "data" / "train-00000-of-00001.parquet"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n")
    assert error_of(HubConfig(dataset=str(tmp_path))) == (
        f"{pointer}: a pointer of git-lfs, not the file itself. Run: git -C {tmp_path} lfs pull"
    )


def test_folder_that_save_to_disk_did_not_write_is_named(tmp_path: Path):
    message = error_of(HubConfig(dataset=str(tmp_path)))
    assert message.startswith(f"{tmp_path}, split train: does not load (")
    assert "save_to_disk" in message


def test_data_set_that_is_not_there_is_named_with_the_option():
    message = error_of(HubConfig(dataset="no-such/data-set"))
    assert message.startswith("no-such/data-set, split train: does not load (")
    assert "--corpus.dataset" in message


# Without a network


@pytest.fixture
def silent_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The hub's address takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        for module in (huggingface_hub.constants, datasets.config):
            monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)
        yield


@pytest.mark.usefixtures("silent_hub", "own_cache")
def test_hub_that_does_not_answer_is_an_error_within_seconds(monkeypatch: pytest.MonkeyPatch):
    """HUB_SECONDS is all that is waited for; the client's own retries take more than three minutes."""
    assert data.corpora.hub.loading.HUB_SECONDS < 12
    monkeypatch.setattr(data.corpora.hub.loading, "HUB_SECONDS", 0.3)
    begin = time.perf_counter()
    message = error_of(HubConfig(dataset="someone/speech"))
    assert time.perf_counter() - begin < 3
    assert message.startswith(
        "someone/speech, split train: does not load (the hub does not answer, and the cache holds no copy"
    )
    assert huggingface_hub.constants.HF_HUB_OFFLINE is False, "the next question is asked again"


def test_copy_in_the_cache_is_used_and_told(saved: str, monkeypatch: pytest.MonkeyPatch):
    def load_dataset(*arguments: Any, **options: Any) -> datasets.Dataset:
        assert huggingface_hub.constants.HF_HUB_OFFLINE
        assert datasets.config.HF_HUB_OFFLINE
        return datasets.load_from_disk(saved)["test"]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    corpus = HubCorpus(HubConfig(dataset="someone/speech"))
    assert [u.text for u in corpus.utterances("test")] == TEXTS
    assert "someone/speech: the hub does not answer, so the copy in the cache is used" in corpus.notes
