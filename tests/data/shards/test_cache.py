"""data.shards.cache: what is kept of an object store on this machine, and what a disk without room does to it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import fsspec
import numpy as np
import pytest
import soundfile

from data.audio.decode import FileAudio
from data.corpora.shards import ShardsConfig
from data.shards.cache import RangeCache
from data.shards.index import Seal
from data.shards.packing import digest
from data.utterance import Utterance
from trainer.errors import ConfigError

CONTENTS = [bytes([i]) * 3000 for i in range(250)]


def refusing(*args: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def store(packed: Callable[..., Seal], tmp_path: Path) -> Iterator[str]:
    """An address that is no folder, with the shards of three utterances of 16 kB each behind it."""
    rng, found = np.random.default_rng(0), []
    for i in range(3):
        soundfile.write(tmp_path / f"{i}.wav", rng.uniform(-0.5, 0.5, 8000), 16_000, subtype="PCM_16")
        found.append(Utterance(f"u{i}", FileAudio(tmp_path / f"{i}.wav"), "word"))
    packed(found)
    memory = fsspec.filesystem("memory")
    memory.put(f"{tmp_path / 'shards'}/", "/corpus/", recursive=True)
    yield "memory://corpus"
    memory.rm("/corpus", recursive=True)


def notes(store: str, cache: Path) -> list[str]:
    corpus = ShardsConfig(train=store, eval=store).open(cache, lambda done, total: None)
    corpus.utterances("train")
    return corpus.notes


def test_the_cache_stays_below_its_limit(tmp_path: Path) -> None:
    cache = RangeCache(tmp_path, 200_000)
    for content in CONTENTS:
        cache.put(digest(content), content)
        total = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
        assert total <= 200_000
    assert cache.get(digest(CONTENTS[-1])) == CONTENTS[-1]
    assert cache.get(digest(CONTENTS[0])) is None


def test_what_is_kept_is_still_read_once_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, (first, second, *_) = RangeCache(tmp_path, 200_000), CONTENTS
    cache.put(digest(first), first)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", refusing)
        cache.put(digest(second), second)
    assert cache.get(digest(first)) == first
    assert cache.get(digest(second)) is None
    assert not list(tmp_path.rglob("*.part"))


def test_a_start_tells_of_a_disk_that_cannot_hold_the_audio(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(notes(store, tmp_path / "cache")) == 1
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10_000))
    _, told = notes(store, tmp_path / "cache")
    assert told.startswith(f"{tmp_path}/cache/shards/audio: has room for 1e-05 GB more, and would hold ")
    assert "--corpus.range-cache-gb" in told
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "shards/audio: cannot be written, and would hold" in notes(store, tmp_path / "cache")[1]


def test_a_cache_that_holds_the_audio_needs_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it holds is estimated from 8 of 256 folders; two files of 3000 bytes lie in each."""
    cache = RangeCache(tmp_path, 10**9)
    for i in range(512):
        path = tmp_path / f"{i % 256:02x}" / str(i)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(CONTENTS[0])
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=0))
    assert cache.describe_lack(512 * 3000) is None
    assert cache.describe_lack(512 * 3000 + 1) is not None
    assert RangeCache(tmp_path, 0).describe_lack(10**9) is None  # no cache was asked for


def test_a_cache_dir_without_room_for_the_index_is_one_line(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "write_bytes", refusing)
    with pytest.raises(ConfigError, match=r"cache/shards: the index of memory://corpus cannot be written, \d+ bytes "
                       r"\(No space left on device\)\. Give another --cache-dir\."):  # fmt: skip
        notes(store, tmp_path / "cache")
