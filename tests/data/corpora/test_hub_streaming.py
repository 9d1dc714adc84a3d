"""--corpus.streaming: a data set of the hub's layout, streamed into shards.

pytest tests/data/corpora/test_hub_streaming.py
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile

from data.corpora.hub import HubConfig, loading
from data.corpora.hub.corpus import HubCorpus
from data.shards import shard
from data.utterance import Utterance
from trainer.errors import CorpusError


@pytest.fixture
def clone(tmp_path: Path, tone: Callable) -> Path:
    """A local clone of a data set: parquet with audio's bytes."""
    rows = []
    for i in range(5):
        path = tmp_path / f"{i}.flac"
        soundfile.write(path, tone(0.3 + 0.01 * i, rate=16_000, channels=1), 16_000)
        rows.append({"audio": {"bytes": path.read_bytes(), "path": None}, "text": f"row {i}", "speaker": f"s{i % 2}"})
    table = datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio(decode=False))
    folder = tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        table.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder.parent


def read(clone: Path, tmp_path: Path, streaming: bool) -> tuple[list[Utterance], list[str]]:
    corpus = HubCorpus(HubConfig(dataset=str(clone), streaming=streaming), tmp_path / "cache")
    return list(corpus.utterances("train")), corpus.notes


def test_a_stream_gives_the_utterances_of_the_data_set(clone: Path, tmp_path: Path):
    """Reference: the same data set read as a whole."""
    streamed, notes = read(clone, tmp_path, True)
    whole, _ = read(clone, tmp_path, False)
    assert [(u.id, u.text, u.speaker) for u in streamed] == [(u.id, u.text, u.speaker) for u in whole]
    assert all(np.array_equal(a.audio.load(), b.audio.load()) for a, b in zip(streamed, whole, strict=True))
    assert any("training resumes exactly, an interrupted stream is read again from its beginning" in n for n in notes)


def test_a_stream_is_read_once(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first, _ = read(clone, tmp_path, True)
    monkeypatch.setattr(shard, "pack", None)  # nothing is packed again
    again, notes = read(clone, tmp_path, True)
    assert [u.id for u in again] == [u.id for u in first]
    assert any("was streamed before" in note for note in notes)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("dataset", ["/no/where", "./where", "../where", "a/b/c", "a b"])
def test_a_folder_that_is_not_there_is_said_to_be_none(
    dataset: str, streaming: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The hub, which does not answer here, is not asked for what can be no id."""
    monkeypatch.setattr(loading, "answers", None)
    with pytest.raises(CorpusError, match=f"^{re.escape(dataset)}: no such folder\\."):
        list(HubCorpus(HubConfig(dataset=dataset, streaming=streaming), tmp_path).utterances("train"))


def test_a_cache_that_takes_no_shards_is_told_by_the_option_that_names_it(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    make = Path.mkdir

    def refuse(self: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        if self.is_relative_to(tmp_path / "cache"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))
        make(self, mode, parents, exist_ok)

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(CorpusError, match=r"Read-only file system\. Give another --cache-dir, or mend that"):
        read(clone, tmp_path, True)


def test_slices_of_a_stream_are_refused(clone: Path, tmp_path: Path):
    corpus = HubCorpus(HubConfig(dataset=str(clone), train_split="train[:2]", streaming=True), tmp_path / "cache")
    with pytest.raises(CorpusError, match="a stream has no slices"):
        corpus.utterances("train[:2]")
