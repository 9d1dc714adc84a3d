"""data.corpora.manifest: JSON lines, CSV and TSV; any rate, channel count and format that libsndfile knows."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from data.corpora.manifest import ManifestConfig, ManifestCorpus
from tests.helpers.corpora import jsonl, write_manifest
from tests.helpers.corpora import read_manifest as read
from trainer.errors import CorpusError

ROW = {"id": "a", "audio_filepath": "a.wav", "text": "so it goes"}


# Audio


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("x.wav", dict(subtype="PCM_16")),
        ("x.wav", dict(subtype="PCM_24")),
        ("x.wav", dict(subtype="FLOAT")),
        ("x.flac", dict(subtype="PCM_16")),
        ("x.flac", dict(subtype="PCM_24")),
        ("x.ogg", {}),
        ("x.mp3", {}),
    ],
)
def test_every_format_rate_and_channel_count_is_read_at_16_khz_mono(
    tmp_path: Path, write_tone: Callable, name: str, encoding: dict, rate: int, channels: int
):
    """Reference: soundfile, then the channels' mean, then soxr; 1e-6 for the order of summing."""
    write_tone(name, 0.4, rate=rate, channels=channels, **encoding)
    manifest = write_manifest(tmp_path / "m.jsonl", jsonl({**ROW, "audio_filepath": name}))
    (utterance,) = read(manifest)
    samples = utterance.audio.load()
    raw, _ = soundfile.read(tmp_path / name, dtype="float32", always_2d=True)
    expected = soxr.resample(raw.mean(axis=1), rate, 16_000)
    assert utterance.audio.num_samples == len(samples)
    assert abs(len(samples) - len(expected)) <= 1
    n = min(len(samples), len(expected))
    np.testing.assert_allclose(samples[:n], expected[:n], atol=1e-6)


def test_duration_in_the_manifest_is_not_believed(tmp_path: Path, write_tone: Callable):
    write_tone("a.wav", 0.25)
    (utterance,) = read(write_manifest(tmp_path / "m.jsonl", jsonl({**ROW, "duration": 99.0})))
    assert utterance.audio.num_samples == 4000


def test_reading_a_manifest_opens_no_audio(tmp_path: Path):
    assert [u.id for u in read(write_manifest(tmp_path / "m.jsonl", jsonl(ROW)))] == ["a"], "a.wav does not exist"


# Rows


ROWS = [
    {"id": "s1-1", "audio_filepath": "wav/1.flac", "text": "so it goes", "speaker": "s1", "duration": "1.7"},
    {"id": "s1-2", "audio_filepath": "wav/2.flac", "text": 'comma, and "quotes"', "speaker": "s1", "duration": "2"},
    {"id": "s2-1", "audio_filepath": "wav/ä ö.flac", "text": "über élan 你好", "speaker": "", "duration": ""},
    {"id": "s2-2", "audio_filepath": "wav/4.flac", "text": "", "speaker": "7", "duration": "3"},
]


def write_rows(path: Path) -> Path:
    """ROWS in the format that the suffix names."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        if path.suffix in (".jsonl", ".json"):
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
        else:
            unquoted = dict(delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None)
            writer = csv.DictWriter(file, ROWS[0], **(unquoted if path.suffix == ".tsv" else {}))
            writer.writeheader()
            writer.writerows(ROWS)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".CSV"])
def test_every_format_gives_the_same_utterances(tmp_path: Path, suffix: str):
    """Reference: ROWS themselves."""
    utterances = read(write_rows(tmp_path / f"m{suffix}"))
    assert [u.id for u in utterances] == [row["id"] for row in ROWS]
    assert [u.text for u in utterances] == [row["text"] for row in ROWS]
    assert [u.speaker for u in utterances] == ["s1", "s1", None, "7"]
    assert [u.audio.name for u in utterances] == [str(tmp_path / row["audio_filepath"]) for row in ROWS]


@pytest.mark.parametrize(("suffix", "first"), [(".jsonl", 1), (".csv", 2), (".tsv", 2)])
def test_origin_is_file_and_line(tmp_path: Path, suffix: str, first: int):
    path = write_rows(tmp_path / f"m{suffix}")
    assert [u.origin for u in read(path)] == [f"{path}:{first + i}" for i in range(4)]


def test_audio_is_found_from_the_manifests_folder_whatever_the_working_directory(
    tmp_path: Path, write_tone: Callable, monkeypatch: pytest.MonkeyPatch
):
    write_tone("corpus/wav/a.wav", 0.1)
    manifest = write_manifest(tmp_path / "corpus" / "m.jsonl", jsonl({**ROW, "audio_filepath": "wav/a.wav"}))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for path in (manifest, Path(os.path.relpath(manifest))):
        assert read(path)[0].audio.num_samples == 1600


def test_absolute_path_is_taken_as_it_is(tmp_path: Path, write_tone: Callable):
    path = write_tone("far/a.wav", 0.1)
    (tmp_path / "near").mkdir()
    manifest = write_manifest(tmp_path / "near" / "m.jsonl", jsonl({**ROW, "audio_filepath": str(path)}))
    assert read(manifest)[0].audio.num_samples == 1600


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"id": "x"}, "x"),
        ({"id": 7}, "7"),
        ({"id": 0}, "0"),
        ({"id": None}, "a.wav"),
        ({"id": ""}, "a.wav"),
        ({}, "a.wav"),
    ],
)
def test_id_is_the_rows_or_else_the_path(tmp_path: Path, fields: dict, expected: str):
    row = {"audio_filepath": "a.wav", "text": "x", **fields}
    assert read(write_manifest(tmp_path / "m.jsonl", jsonl(row)))[0].id == expected


def test_other_columns_can_be_named(tmp_path: Path):
    row = {"path": "b.wav", "sentence": "hello", "text": "not this", "audio_filepath": "nor.this"}
    (u,) = read(write_manifest(tmp_path / "m.jsonl", jsonl(row)), text_field="sentence", audio_field="path")
    assert (u.text, u.audio.name) == ("hello", str(tmp_path / "b.wav"))


@pytest.mark.parametrize("content", [
    "\ufeff" + jsonl(ROW),
    jsonl(ROW).replace("\n", "\r\n"),
    "\n\n" + jsonl(ROW) + "\n  \n",
    jsonl(ROW).rstrip("\n"),
], ids=["byte order mark", "CRLF", "blank lines", "no last newline"])  # fmt: skip
def test_what_editors_do_to_json_lines_changes_nothing(tmp_path: Path, content: str):
    (u,) = read(write_manifest(tmp_path / "m.jsonl", content))
    assert (u.id, u.text) == ("a", "so it goes")


@pytest.mark.parametrize("content", [
    "\ufeffid,audio_filepath,text\na,a.wav,so it goes\n",
    "id,audio_filepath,text\r\na,a.wav,so it goes\r\n",
    "id,audio_filepath,text\n\na,a.wav,so it goes\n\n",
    'id,audio_filepath,text\na,a.wav,"so it goes"',
], ids=["byte order mark", "CRLF", "blank lines", "no last newline"])  # fmt: skip
def test_what_editors_do_to_tables_changes_nothing(tmp_path: Path, content: str):
    (u,) = read(write_manifest(tmp_path / "m.csv", content))
    assert (u.id, u.text) == ("a", "so it goes")


def test_line_separators_of_unicode_do_not_end_a_json_line(tmp_path: Path):
    row = {**ROW, "text": "so\u2028it\u0085goes"}
    content = json.dumps(row, ensure_ascii=False) + "\n"
    assert [u.text for u in read(write_manifest(tmp_path / "m.jsonl", content))] == ["so\u2028it\u0085goes"]


# What is malformed

GOOD = jsonl(ROW)
MALFORMED = {
    "cut JSON": ("m.jsonl", GOOD + '{"id": "b", "audio_filepath": "b.wav", "te', ":2: not a JSON object on one line"),
    "no JSON": ("m.jsonl", GOOD + "\n\nb.wav so it goes\n", ":4: not a JSON object on one line"),
    "pretty-printed": ("m.json", json.dumps(ROW, indent=1), ":1: not a JSON object on one line"),
    "lists": ("m.jsonl", '["a.wav", "so it goes"]\n', ":1: not a JSON object but str"),
    "string": ("m.jsonl", GOOD + '"b.wav"\n', ":2: not a JSON object but str"),
    "nesting": ("m.jsonl", "[" * 100_000, ":1: not a JSON object"),
    "no text": ("m.jsonl", jsonl(ROW, {"audio_filepath": "b.wav", "txt": "x"}),
                ':2: no "text" field (fields: audio_filepath, txt). Add it, or name it with --corpus.text-field.'),
    "no audio": ("m.jsonl", jsonl({"text": "x"}),
                 ':1: no "audio_filepath" field (fields: text). Add it, or name it with --corpus.audio-field.'),
    "no field": ("m.jsonl", GOOD + "{}\n", ':2: no "audio_filepath" field (fields: none).'),
    "number as text": ("m.jsonl", jsonl({**ROW, "text": 7}), ':1: "text" must be a string, found 7'),
    "null as text": ("m.jsonl", jsonl({**ROW, "text": None}), ':1: "text" must be a string, found None'),
    "list as path": ("m.jsonl", jsonl({**ROW, "audio_filepath": ["a"]}), ':1: "audio_filepath" must be a string'),
    "NUL in path": ("m.jsonl", jsonl({**ROW, "audio_filepath": "a\0.wav"}), ':1: "audio_filepath" holds U+0000'),
    "empty path": ("m.jsonl", jsonl({**ROW, "audio_filepath": ""}), ':1: "audio_filepath" is empty'),
    "too few cells": ("m.csv", "id,audio_filepath,text\na,a.wav,x\nb,b.wav\n",
                      ":3: its cells do not match the header's 3: there are 2."),
    "too many cells": ("m.csv", "id,audio_filepath,text\na,a.wav,so, it goes\n",
                       ":2: its cells do not match the header's 3: there are 4."),
    "open quote": ("m.csv", 'audio_filepath,text\na.wav,"so it goes\n',
                   ":2: a quote opens its cell 2 and does not close on this line."),
    "no header": ("m.csv", "a.wav,so it goes\nb.wav,x\n",
                  ':1: no "audio_filepath" field (fields: a.wav, so it goes). Add it, or name it with '
                  "--corpus.audio-field. Is the header missing? Write the columns' names above the rows."),
    "latin-1": ("m.jsonl", '{"audio_filepath": "a.wav", "text": "caf\xe9"}\n'.encode("latin-1"),
                ":1: byte 40 is not UTF-8. Save the manifest as UTF-8."),
    "no manifest": ("m.txt", GOOD, ": it looks like JSON, so name it .jsonl; a manifest ends in .jsonl"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_manifest_is_named_with_its_line(tmp_path: Path, name: str, content: str | bytes, message: str):
    path = write_manifest(tmp_path / name, content)
    with pytest.raises(CorpusError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}{message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["m.jsonl", "m.csv"])
@pytest.mark.parametrize("content", ["", "\n\n"])
def test_empty_manifest_is_named(tmp_path: Path, name: str, content: str):
    path = write_manifest(tmp_path / name, content)
    with pytest.raises(CorpusError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: holds no utterance")


def test_table_of_a_header_alone_is_empty(tmp_path: Path):
    with pytest.raises(CorpusError, match=r"m\.csv: holds no utterance"):
        read(write_manifest(tmp_path / "m.csv", "audio_filepath,text\n"))


def test_a_folder_in_place_of_a_manifest_says_which_manifests_it_holds(tmp_path: Path):
    for name in ("train.tsv", "dev.tsv", "clips.txt"):
        (tmp_path / name).touch()
    with pytest.raises(CorpusError, match=r"name the manifests\. It holds dev\.tsv, train\.tsv\.$"):
        read(tmp_path)
    for name in ("wav.scp", "text"):
        (tmp_path / name).touch()
    with pytest.raises(CorpusError, match=r"It holds Kaldi's wav\.scp and text: write a row with audio_filepath"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["none.jsonl", "none/none.csv", "folder.jsonl"])
def test_manifest_that_cannot_be_opened_is_named_with_the_options(tmp_path: Path, name: str):
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(CorpusError) as caught:
        read(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert "--corpus.train" in str(caught.value)
    assert "--corpus.eval" in str(caught.value)


def test_a_test_manifest_is_reported_and_the_evaluation_split_selects(tone_corpus):
    train, evaluation = str(tone_corpus.train), str(tone_corpus.eval)
    corpus = ManifestCorpus(ManifestConfig(train=evaluation, eval=train, test=evaluation))
    splits = corpus.splits
    assert (splits.monitor, splits.headline, splits.closing, splits.selects) == ("eval", "test", ("test", "eval"), True)
    assert len(list(corpus.utterances("test"))) == 3
    assert len(list(corpus.utterances("eval"))) == 6
    with pytest.raises(CorpusError, match=r"--corpus\.test and --corpus\.eval are both"):
        ManifestCorpus(ManifestConfig(train=train, eval=evaluation, test=f"{tone_corpus.folder}/./eval.jsonl"))


def test_a_test_manifest_alone_can_be_scored(tone_corpus):
    corpus = ManifestCorpus(ManifestConfig(test=str(tone_corpus.eval)))
    assert (corpus.splits.monitor, corpus.splits.headline, corpus.splits.closing) == ("test", "test", ("test",))
    assert corpus.title == "the manifest eval.jsonl"


def test_splits_are_the_two_manifests(tone_corpus):
    corpus = ManifestCorpus(ManifestConfig(train=str(tone_corpus.train), eval=str(tone_corpus.eval)))
    assert [u.id for u in corpus.utterances("train")] == [f"train-{i}" for i in range(6)]
    assert [u.id for u in corpus.utterances("eval")] == [f"eval-{i}" for i in range(3)]
    assert corpus.checksum({"eval": 6}) is None
