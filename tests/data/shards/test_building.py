"""Packing is the same however it is done: by any number of processes, at once or after kills.

pytest tests/data/shards/test_building.py
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile

from data.audio.decode import FileAudio
from data.audio.segments import AudioSegment
from data.shards import sealing, shard
from data.shards.checking import find_damage
from data.shards.index import SEAL, Seal
from data.shards.storage import RemoteFolder, open_storage
from data.shards.table import Shards, ShardTable
from data.utterance import Utterance
from scripts import shards as command
from tests.helpers.paths import ROOT
from trainer.errors import ConfigError, CorpusError, StorageError


@pytest.fixture
def utterances(tmp_path: Path) -> list[Utterance]:
    rng, found = np.random.default_rng(0), []
    for i in range(10):
        path = tmp_path / f"{i}.wav"
        soundfile.write(path, rng.uniform(-0.5, 0.5, 800 + 50 * i), 16_000, subtype="PCM_16")
        found.append(Utterance(f"u/{i}", FileAudio(path), f"word {i}", f"s{i % 2}", origin=f"m.jsonl:{i + 1}"))
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def damage(folder: Path, seal: Seal) -> list[str]:
    return list(find_damage(open_storage(str(folder)), seal, lambda items, total: items))


def test_number_of_processes_does_not_show(utterances: list[Utterance], packed: Callable[..., Seal], tmp_path: Path):
    packed(utterances, "one")
    packed(utterances, "two", processes=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(contents(tmp_path / "one")) == 4 + 3


@pytest.mark.parametrize("after", range(5))
def test_a_failure_at_any_shard_is_gone_on_from(
    after: int,
    utterances: list[Utterance],
    packed: Callable[..., Seal],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """Packing dies in the shard behind the `after`-th, or while the seal is written; then it is called again."""
    packed(utterances, "whole")
    real, calls = shard.pack, 0

    def pack(audio):
        nonlocal calls
        calls += 1
        if calls > 3 * after:
            raise KeyboardInterrupt
        return real(audio)

    def put(part: Path, path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shard, "pack", pack)
        patch.setattr(sealing, "_put", put)
        with pytest.raises(KeyboardInterrupt):
            packed(utterances, "broken")
    again = 0

    def count(audio):
        nonlocal again
        again += 1
        return real(audio)

    monkeypatch.setattr(shard, "pack", count)
    packed(utterances, "broken")
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")
    assert again == max(0, 10 - 3 * after)  # whole shards are kept


def test_shards_of_an_interrupted_call_are_kept_only_where_the_corpus_is_the_same(
    utterances: list[Utterance], packed: Callable[..., Seal], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A transcript and a recording are mended between the two calls."""
    with monkeypatch.context() as patch:
        patch.setattr(sealing, "write_index", lambda path, tables: (_ for _ in ()).throw(CorpusError("stop")))
        with pytest.raises(CorpusError, match="stop"):
            packed(utterances, "begun")
    mended = list(utterances)
    mended[1] = dataclasses.replace(utterances[1], text="mended")
    path = tmp_path / "8.wav"
    soundfile.write(path, np.sin(np.arange(900.0)) / 2, 16_000, subtype="PCM_16")
    mended[8] = dataclasses.replace(utterances[8], audio=FileAudio(path))
    packed(mended, "begun")
    packed(mended, "whole")
    assert contents(tmp_path / "begun") == contents(tmp_path / "whole")


def test_a_row_that_means_a_part_of_its_file_is_refused(utterances: list[Utterance], packed: Callable[..., Seal]):
    """Training would refuse it, and the shard would hide what it means."""
    path = utterances[0].audio.path.with_name("long.wav")  # type: ignore[attr-defined]
    soundfile.write(path, np.sin(np.arange(32_000.0)) / 2, 16_000, subtype="PCM_16")
    utterances[0] = dataclasses.replace(utterances[0], audio=FileAudio(path), stated_duration=0.5)
    with pytest.raises(CorpusError, match=r"utterance u/0: its duration is 0.5 s, its audio lasts 2.00 s: a part"):
        packed(utterances, "parts")


def test_a_damaged_shard_is_packed_again(
    utterances: list[Utterance], packed: Callable[..., Seal], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    packed(utterances, "whole")
    with monkeypatch.context() as patch:
        patch.setattr(sealing, "write_index", lambda path, tables: (_ for _ in ()).throw(CorpusError("stop")))
        with pytest.raises(CorpusError, match="stop"):
            packed(utterances, "broken")
    path = tmp_path / "broken" / "shard-000001.tar"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    packed(utterances, "broken")
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_killed_at_random_it_goes_on_to_the_same_bytes(tmp_path: Path):
    """The whole command, killed with all its processes ten times, at moments that are drawn."""
    rng = np.random.default_rng(5)
    rows = []
    for i in range(400):
        soundfile.write(tmp_path / f"{i}.wav", rng.uniform(-0.5, 0.5, 16_000), 16_000, subtype="PCM_16")
        rows.append(json.dumps({"audio_filepath": f"{i}.wav", "text": f"word {i}"}) + "\n")
    (tmp_path / "m.jsonl").write_text("".join(rows))

    def start(name: str) -> subprocess.Popen:
        line = [sys.executable, "-m", "scripts.shards", str(tmp_path / "m.jsonl"), "--out", str(tmp_path / name)]
        return subprocess.Popen([*line, "--per-shard", "20", "--processes", "2"], cwd=ROOT, start_new_session=True)

    assert start("whole").wait() == 0
    for _ in range(10):
        process = start("killed")
        for _ in range(2000):  # from the first shard on
            if process.poll() is not None or list((tmp_path / "killed").glob("shard-*")):
                break
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert start("killed").wait() == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_finished_shards_are_left_alone_and_others_refused(
    utterances: list[Utterance], packed: Callable[..., Seal], tmp_path: Path
):
    packed(utterances)
    before = contents(tmp_path / "shards")
    packed(utterances)
    assert contents(tmp_path / "shards") == before
    with pytest.raises(CorpusError, match="holds the shards of other utterances"):
        packed(utterances[:-1])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").touch()
    with pytest.raises(CorpusError, match=r"holds thesis.doc, which is no shard"):
        packed(utterances, "full")


def test_finished_shards_of_other_parts_or_channels_are_refused(packed: Callable[..., Seal], tmp_path: Path):
    """With the same ids and texts they were "packed already", as were those of a list whose channels were not read."""
    for name, count in (("call", 2), ("one", 1)):
        noise = np.random.default_rng(count).uniform(-0.5, 0.5, (8000, count))
        soundfile.write(tmp_path / f"{name}.wav", noise, 16_000)
    call, one = FileAudio(tmp_path / "call.wav"), FileAudio(tmp_path / "one.wav")
    kinds = [call, AudioSegment(call, channel=0), AudioSegment(call, channel=1), AudioSegment(call, 0.1, 0.3)]
    for i, kind in enumerate(kinds):
        packed([Utterance("u", kind, "a")], f"kind{i}")
        for other in kinds[:i] + kinds[i + 1 :]:
            with pytest.raises(CorpusError, match="or of other parts or channels of their files"):
                packed([Utterance("u", other, "a")], f"kind{i}")
    before = packed([Utterance("u", one, "a")], "one")
    assert packed([Utterance("u", AudioSegment(one, channel=0), "a")], "one") == before  # the file, as it was


def test_verify_names_what_changed(utterances: list[Utterance], packed: Callable[..., Seal], tmp_path: Path):
    seal = packed(utterances)
    folder = tmp_path / "shards"
    assert damage(folder, seal) == []
    path = folder / "shard-000002.tar"
    whole = path.read_bytes()
    path.write_bytes(whole[:700] + bytes([whole[700] ^ 1]) + whole[701:])
    assert damage(folder, seal) == [f"{path}: its content has changed"]
    path.write_bytes(whole[:-10])
    assert damage(folder, seal)[0].endswith("bytes are there: truncated")  # no advice: the command's last line has it
    path.unlink()
    assert damage(folder, seal)[0].endswith("No such file or directory")


def test_bad_audio_is_refused_or_left_out_and_named(
    utterances: list[Utterance], packed: Callable[..., Seal], tmp_path: Path
):
    (tmp_path / "4.wav").write_bytes(b"no audio")
    with pytest.raises(CorpusError, match=r"m.jsonl:5: utterance u/4: .*--on-bad drop"):
        packed(utterances)
    seal = packed(utterances, drops_bad=True)
    assert [id for id, _ in seal.dropped] == ["u/4"]
    table = ShardTable(Shards(str(tmp_path / "shards"), tmp_path / "cache", 0))
    assert [u.id for u in table] == [f"u/{i}" for i in range(10) if i != 4]


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
    utterances: list[Utterance], packed: Callable[..., Seal], monkeypatch: pytest.MonkeyPatch
):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CorpusError, match=r"No space left on device. Free some space: the same command goes on"):
            packed(utterances)
    assert packed(utterances).utterances == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "shard-000001.tar").unlink(), "shard-000001.tar: is missing"),
        (lambda folder: os.truncate(folder / "shard-000001.tar", 1000), "has 1000 bytes, and had .*: truncated"),
        (lambda folder: edit(folder / SEAL, '"format": 1', '"format": 2'), "its format is 2, this program reads 1"),
        (lambda folder: (folder / SEAL).write_text("{}"), "is no shards.json of packed shards"),
        (lambda folder: (folder / SEAL).unlink(), r"shards.json: No such file or directory. Give a folder"),
        (lambda folder: edit(folder / SEAL, '"utterances": 10,', '"utterances": 11,'), "is not the index that"),
    ],
)
def test_shards_that_are_not_whole_are_refused_at_the_start(
    change: Callable, message: str, utterances: list[Utterance], packed: Callable[..., Seal], tmp_path: Path
):
    packed(utterances)
    change(tmp_path / "shards")
    with pytest.raises(CorpusError, match=message):
        Shards(str(tmp_path / "shards"), tmp_path / "cache", 0)


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def test_a_byte_that_changed_is_found_when_it_is_read(
    utterances: list[Utterance], packed: Callable[..., Seal], tmp_path: Path
):
    packed(utterances)
    table = ShardTable(Shards(str(tmp_path / "shards"), tmp_path / "cache", 0))
    path = tmp_path / "shards" / "shard-000000.tar"
    content = bytearray(path.read_bytes())
    content[600] ^= 1
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"shard-000000.tar at byte 512 .utterance u/0.: the bytes are not those"):
        table[0].audio.load()
    assert len(table[1].audio.load()) == 850


def test_ids_must_differ_over_all_manifests(tmp_path: Path, capsys: pytest.CaptureFixture):
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 1000), 16_000)
    for name in ("one", "two"):
        (tmp_path / f"{name}.jsonl").write_text('{"id": "x", "audio_filepath": "a.wav", "text": "a"}\n')
    manifests = [str(tmp_path / "one.jsonl"), str(tmp_path / "two.jsonl")]
    assert command.main([*manifests, "--out", str(tmp_path / "out")]) == 2
    assert "two.jsonl:1: id 'x' stands already at " in capsys.readouterr().err
    assert command.main([manifests[0], "--out", str(tmp_path / "out")]) == 0
    assert command.main(["--verify", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["m.jsonl"], "--out DIR is missing"),
        (["--out", "x"], "nothing to pack"),
        (["--verify", "x", "--out", "y"], "--verify SHARDS stands alone"),
        (["--verify", "nowhere"], "nowhere: no such folder"),
        (["--verify", "what://nowhere"], "fsspec knows no what://"),
        (["m.jsonl", "--split", "train", "--out", "x"], "--split train is for a preset's corpus"),
        (["hub", "--out", "x"], "Preset hub needs --corpus.dataset"),
    ],
)
def test_a_command_that_cannot_be_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture):
    assert command.main(words) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert message in line


def test_an_address_without_its_package_names_it(monkeypatch: pytest.MonkeyPatch):
    def without(protocol: str, **options: object) -> None:
        raise ImportError(f"Install {protocol}fs")

    monkeypatch.setattr("fsspec.filesystem", without)
    with pytest.raises(ConfigError, match=r"through the package s3fs, which is not installed. Type: pip install s3fs"):
        open_storage("s3://bucket/train")
    with pytest.raises(ConfigError, match="through the package gcsfs"):
        open_storage("gs://bucket/train")


def test_passing_errors_of_a_store_are_tried_again(monkeypatch: pytest.MonkeyPatch):
    """fsspec's memory:// stands for a store; its first two answers are errors."""

    system, answers = fsspec.filesystem("memory"), [TimeoutError("slow"), OSError("503 Slow Down")]
    system.pipe("/box/a.tar", b"0123456789")
    folder = RemoteFolder("memory://box", pauses=(0, 0, 0))
    real = type(system).cat_file

    def cat_file(self, path, start=None, end=None, **more):
        if answers:
            raise answers.pop()
        return real(self, path, start=start, end=end, **more)

    monkeypatch.setattr(type(system), "cat_file", cat_file)
    assert folder.read("a.tar", 2, 3, "utterance x") == b"234"
    assert answers == []
    assert folder.sizes() == {"a.tar": 10}
    with pytest.raises(StorageError, match=r"a.tar at byte 8 .utterance x.: 2 of 5 bytes are there: truncated"):
        folder.read("a.tar", 8, 5, "utterance x")
    with pytest.raises(StorageError, match=r"b.tar at byte 0 .utterance x.: there is no such file"):
        folder.read("b.tar", 0, 5, "utterance x")
