"""data.corpora.foreign: what is given as a manifest and is none gets one line that says what it is."""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet
import pytest
import soundfile

from tests.helpers.corpora import read_manifest as read
from trainer.errors import CorpusError

TABLE = pa.table({"audio_filepath": ["a.wav"], "text": ["x"]})


def _zip() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as file:
        file.writestr("xl/workbook.xml", "x")
    return sink.getvalue()


def _parquet() -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(TABLE, sink)
    return sink.getvalue()


def _arrow() -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    return sink.getvalue()


def _tar() -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as file:
        file.addfile(tarfile.TarInfo("a.wav"))
    return sink.getvalue()


def _sqlite() -> bytes:
    database = sqlite3.connect(":memory:")
    database.execute("create table t (text)")
    return database.serialize()


def _wav() -> bytes:
    sink = io.BytesIO()
    soundfile.write(sink, [0.0] * 10, 16_000, format="WAV")
    return sink.getvalue()


PROGRAMS = {
    "gzip": (gzip.compress(b"x"), "packed by gzip. Unpack it"),
    "xlsx": (_zip(), "an Excel workbook, or another zip file. Save"),
    "Parquet": (_parquet(), "a Parquet file. The preset hub reads its folder"),
    "Arrow": (_arrow(), "an Arrow file. The preset hub"),
    "tar": (_tar(), "a tar file. Unpack it"),
    "SQLite": (_sqlite(), "an SQLite database. Export"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of git-lfs, not the file itself. Run: git"),
    "a page": (b"\n<!DOCTYPE html>\n<html>", "a page of the web: the download went wrong"),
    "audio": (_wav(), "audio. A manifest is a table that names audio files"),
}


@pytest.mark.parametrize(("content", "message"), PROGRAMS.values(), ids=PROGRAMS)
@pytest.mark.parametrize("name", ["m.jsonl", "m.csv", "m.parquet"])
def test_files_of_other_programs_are_named(tmp_path: Path, content: bytes, message: str, name: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError) as caught:
        read(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: {message}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wav.scp", "one of Kaldi's lists: name its folder; a manifest ends in"),
        ("text", "one of Kaldi's lists"),
        ("train.ltr", "a list of transcripts alone"),
        ("a.TextGrid", "annotations with times"),
        ("m.txt", "a manifest ends in .jsonl, .json, .csv or .tsv."),
    ],
)
def test_names_of_other_programs_are_known(tmp_path: Path, name: str, message: str):
    (tmp_path / name).write_text("u1 so it goes\n")
    with pytest.raises(CorpusError) as caught:
        read(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: {message}")


def test_json_lines_under_another_name_are_told(tmp_path: Path):
    (tmp_path / "data.list").write_text('{"wav": "a.wav", "txt": "x"}\n')
    with pytest.raises(CorpusError, match=r"data\.list: it looks like JSON, so name it \.jsonl; a manifest ends in"):
        read(tmp_path / "data.list")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["wav.scp", "text"], "It holds Kaldi's wav.scp and text"),
        (["shards.json", "shard-000000.tar"], "The preset shards reads it"),
        (["dataset_dict.json", "train/state.json"], "The preset hub reads it"),
        (["TRAIN/DR1/x", "TEST/DR1/x"], "A TIMIT tree?"),
        (["transcripts.txt", "audio/1/2/1_2_3.flac"], "as MLS has them"),
        (["19/198/19-198.trans.txt"], "It holds LibriSpeech's .trans.txt"),
        (["b.csv", "a.JSONL", "c.wav"], "name the manifests. It holds a.JSONL, b.csv."),
        (["c.wav"], "--corpus.train and --corpus.eval name the manifests."),
    ],
    ids=str,
)
def test_a_folder_says_what_it_is(tmp_path: Path, files: list[str], message: str):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(CorpusError) as caught:
        read(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: Is a directory. ")
    assert message in str(caught.value)


ROW = {"audio_filepath": "a.wav", "text": "x"}
SHAPES = {
    "SpeechBrain's": ({"u1": {"wav": "a.wav", "wrd": "x"}}, "jq -c 'to_entries[] | {id: .key} + .value'"),
    "ESPnet's": ({"utts": {"u1": {"input": [], "output": []}}}, 'no "audio_filepath" field (fields: utts)'),
    "rows in a list": ({"version": 1, "data": [ROW]}, 'the rows stand in "data"'),
    "pandas'": ({"audio": {"0": "a.wav"}, "text": {"0": "x"}}, "a table by columns, as pandas writes it"),
    "lhotse's": ({"id": "c", "start": 0, "recording": {}, "supervisions": []}, "a cut of lhotse"),
    "audio of datasets": ({"audio": {"path": "a.wav", "bytes": None}, "text": "x"}, "the audio of `datasets`"),
}


@pytest.mark.parametrize(("value", "message"), SHAPES.values(), ids=SHAPES)
def test_objects_that_are_no_rows_are_named(tmp_path: Path, value: dict, message: str):
    (tmp_path / "m.json").write_text(json.dumps(value))
    with pytest.raises(CorpusError) as caught:
        read(tmp_path / "m.json")
    assert str(caught.value).startswith(f"{tmp_path / 'm.json'}:1: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps(ROW, indent=1), "Is an object on several lines?"),
        (str(ROW), "That is Python's notation"),
        (json.dumps(ROW) + ",\n" + json.dumps(ROW), "Take out the comma behind it"),
    ],
)
def test_lines_that_are_no_json_have_a_remedy(tmp_path: Path, content: str, message: str):
    (tmp_path / "m.jsonl").write_text(content)
    with pytest.raises(
        CorpusError, match=rf"m\.jsonl:1: not a JSON object on one line .*{message}".replace("?", r"\?")
    ):
        read(tmp_path / "m.jsonl")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("LJ001-0001|Printing, in the only|Printing, in the only\n", "Is the header missing?"),
        ("0.0|1.0|so it goes\n", "Is the header missing?"),
        ("/data/librispeech\na.wav\t16000\n", "Is this fairseq's list?"),
    ],
)
def test_a_table_without_a_header_is_told(tmp_path: Path, content: str, message: str):
    (tmp_path / "m.csv").write_text(content)
    with pytest.raises(CorpusError) as caught:
        read(tmp_path / "m.csv")
    assert message in str(caught.value)


def test_a_value_of_a_million_numbers_does_not_fill_the_screen(tmp_path: Path):
    row = {"audio": {"array": [0.0] * 10_000, "sampling_rate": 16_000}, "text": "x"}
    (tmp_path / "m.jsonl").write_text(json.dumps(row))
    with pytest.raises(CorpusError) as caught:
        read(tmp_path / "m.jsonl")
    assert len(str(caught.value)) < 400 + len(str(tmp_path))
