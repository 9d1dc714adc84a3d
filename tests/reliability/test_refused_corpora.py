"""Corpora that are refused through the command line: manifests, tables, TIMIT trees, data sets, recordings of hours.

One line that says what, where and what to do. Row R12's recordings of ten hours are here, and what of rows R1 to R5 a
command meets.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from data.audio.decode import FileAudio
from data.examples.prepare import Example, refuse_endless
from data.utterance import Utterance
from tests.helpers.audio import MODEL, BytesAudio, sphere_file
from tests.helpers.corpora import ManifestFolder
from tests.helpers.spoiled import (
    SILENCE,
    TEXT_AS_AUDIO,
    Spoil,
    add_cut_flac,
    no_file,
    no_rows,
    set_audio,
    set_line,
    set_text,
)
from trainer.errors import CorpusError

if TYPE_CHECKING:
    from tests.helpers.refused import Tally

pytestmark = pytest.mark.usefixtures("no_hang", "own_folder")


# What is done to the corpus, then: what the line must begin with, what it must say, and the remedy in it
BAD_CORPORA: dict[str, tuple[Spoil, str, str, str]] = {
    "training text named .wav": (
        set_audio("train", 2, TEXT_AS_AUDIO), "{train}:3: utterance train-2: ", "train-2.wav: not readable as audio",
        "--corpus.on-bad drop"),
    "empty training file": (
        set_audio("train", 2, b""), "{train}:3: utterance train-2: ", "not readable as audio", "--corpus.on-bad drop"),
    "training audio without samples": (
        set_audio("train", 2, SILENCE), "{train}:3: utterance train-2: ", "no samples", "--corpus.on-bad drop"),
    "missing training audio": (
        set_audio("train", 2, None), "{train}:3: utterance train-2: ", "train-2.wav: No such file", "Mend the corpus"),
    "missing evaluation audio": (
        set_audio("eval", 1, None), "{eval}:2: utterance eval-1: ", "eval-1.wav: No such file", "Mend the corpus"),
    "empty transcript": (
        set_text(3, ""), "{train}:4: utterance train-3: ", "'' is empty", "--corpus.on-bad drop"),
    "transcript of punctuation": (
        set_text(3, "...!"), "{train}:4: utterance train-3: ", "'...!' is empty", "--corpus.on-bad drop"),
    "transcript longer than its frames": (
        set_text(0, "see " * 40), "{train}:1: utterance train-0: ", "its 24 frames are too few: CTC needs 199 ",
        "--corpus.on-bad drop"),
    "empty training split": (no_rows("train"), "{train}: ", "holds no utterance", "Give each a row"),
    "empty evaluation split": (no_rows("eval"), "{eval}: ", "holds no utterance", "Give each a row"),
    "missing training manifest": (no_file("train"), "{train}: ", "No such file", "--corpus.train"),
    "missing evaluation manifest": (no_file("eval"), "{eval}: ", "No such file", "--corpus.eval"),
    "line that is no JSON": (
        set_line("train.jsonl", "train-2.wav one two"), "{train}:3: ", "not a JSON object", "one line"),
    "line that is cut off": (
        set_line("eval.jsonl", '{"id": "eval-2", "audio_fi'), "{eval}:3: ", "not a JSON object", "one line"),
    "row without text": (
        set_line("train.jsonl", '{"audio_filepath": "a.wav"}'), "{train}:3: ",
        'no "text" field (fields: audio_filepath)', "--corpus.text-field"),
    "row without audio": (
        set_line("train.jsonl", '{"text": "a"}'), "{train}:3: ", 'no "audio_filepath" field (fields: text)',
        "--corpus.audio-field"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "where", "what", "remedy"), BAD_CORPORA.values(), ids=BAD_CORPORA)
def test_bad_corpus_is_refused_in_one_line(
    tone_corpus: ManifestFolder, refused: Callable, change: Spoil, where: str, what: str, remedy: str
) -> None:
    change(tone_corpus)
    message = refused("manifest", *tone_corpus.options, *MODEL)
    names = {"train": tone_corpus.train, "eval": tone_corpus.eval}
    assert message.startswith(where.format(**names))
    assert what.format(**names) in message
    assert remedy in message


TABLES = {
    "csv with a cell too many": (
        "t.csv", "audio_filepath,text\nwav/train-0.wav,one\nwav/train-1.wav,two, three\n", ":3: ", "cells"),
    "csv with a cell too few": ("t.csv", "audio_filepath,text\nwav/train-0.wav\n", ":2: ", "cells"),
    "csv without its closing quote": (
        "t.csv", 'audio_filepath,text\nwav/train-0.wav,one\nwav/train-1.wav,"two\n', ":3: ",
        "does not close on this line"),
    "csv without a header": ("t.csv", "wav/train-0.wav,one\nwav/train-1.wav,two\n", ":1: ", "--corpus.audio-field"),
    "tsv with a cell too few": ("t.tsv", "audio_filepath\ttext\nwav/train-0.wav\tone\nx\n", ":3: ", "cells"),
    "tsv with a header alone": ("t.tsv", "audio_filepath\ttext\n", ": ", "holds no utterance"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "where", "what"), TABLES.values(), ids=TABLES)
def test_malformed_table_is_refused_by_file_and_line(
    tone_corpus: ManifestFolder, refused: Callable, name: str, content: str, where: str, what: str
) -> None:
    table = tone_corpus.folder / name
    table.write_text(content)
    message = refused("manifest", "--corpus.train", str(table), "--corpus.eval", str(tone_corpus.eval), *MODEL)
    assert message.startswith(f"{table}{where}")
    assert what in message


def test_audio_that_fails_in_decoding_is_refused_before_training(
    tone_corpus: ManifestFolder, refused: Callable
) -> None:
    add_cut_flac(tone_corpus, "train", 2)
    message = refused("manifest", *tone_corpus.options, *MODEL)
    assert message.startswith(f"{tone_corpus.train}:3: utterance train-2: ")
    assert "train-2.flac: decoding failed" in message
    assert "--corpus.on-bad drop" in message


# Folders that are no TIMIT, and what else a corpus can be


@pytest.fixture
def tree(tiny_timit: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_timit, tmp_path / "TIMIT"))


@pytest.mark.parametrize("preset", ["timit", "timit-hf"])
def test_folder_that_is_no_timit_is_refused_with_its_source(tmp_path: Path, refused: Callable, preset: str) -> None:
    (tmp_path / "corpus" / "train-clean").mkdir(parents=True)
    message = refused(preset, "--corpus.root", str(tmp_path / "corpus"), *MODEL)
    assert message.startswith(f"{tmp_path / 'corpus'}: not a TIMIT tree: expected TRAIN and TEST")
    assert "found train-clean" in message
    assert "LDC93S1" in message


def test_missing_timit_is_refused_with_its_source(refused: Callable) -> None:
    message = refused("timit", "--corpus.root", "/no/such/folder", *MODEL)
    assert message.startswith("/no/such/folder: no such folder. --corpus.root ")
    assert "LDC93S1" in message


def test_incomplete_timit_is_refused_with_what_is_missing(tree: Path, refused: Callable) -> None:
    missing = next((tree / "TEST").rglob("SA2.PHN"))
    missing.unlink()
    message = refused("timit", "--corpus.root", str(tree), *MODEL)
    assert message.startswith(f"{tree / 'TEST'}: found 39 whole utterances, expected 40. Missing: {missing}. ")
    assert "--corpus.allow-incomplete" in message


def test_tree_that_claims_to_be_timit_is_refused_when_it_is_small(tree: Path, refused: Callable) -> None:
    (tree / "SYNTHETIC.json").unlink()
    assert "found 40 whole utterances, expected 4620" in refused("timit-hf", "--corpus.root", str(tree), *MODEL)


def test_timit_without_audio_where_a_sentence_should_be_is_refused(tree: Path, refused: Callable) -> None:
    path = next((tree / "TRAIN").rglob("SX*.WAV"))
    path.write_bytes(TEXT_AS_AUDIO)
    message = refused("timit", "--corpus.root", str(tree), *MODEL)
    assert message.startswith(f"{path}: utterance {path.parent.name}_{path.stem}: {path}: not readable as audio (")


@pytest.mark.parametrize(
    ("name", "what"),
    [("/no/such/folder", ": no such folder."), ("no-such/data-set", ", split train: does not load (")],
)
def test_missing_data_set_is_refused_by_name(refused: Callable, name: str, what: str) -> None:
    message = refused("hub", "--corpus.dataset", name, *MODEL)
    assert message.startswith(f"{name}{what}")
    assert "--corpus.dataset" in message


# Recordings of hours


def ten_hours() -> bytes:
    """The first bytes of a SPHERE file of 36,000 seconds; the samples follow as a hole of zeros, taking no space."""
    return sphere_file(np.zeros(0, np.float32), sample_count=36_000 * 16_000)


def write_ten_hours(path: Path) -> None:
    path.write_bytes(ten_hours())
    os.truncate(path, 1024 + 2 * 36_000 * 16_000)


@pytest.mark.parametrize(
    ("name", "line", "reason"),
    [
        ("train-3", 4, "over --corpus.max-seconds 30."),
        ("eval-1", 2, "over --corpus.max-eval-seconds 1800. Cut it, or raise the limit if memory allows: evaluation "
                      "leaves nothing out."),
    ],
)  # fmt: skip
def test_utterance_of_ten_hours_is_refused_by_its_header_alone(
    name: str, line: int, reason: str, tone_corpus: ManifestFolder, refused: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ten_hours(tone_corpus.folder / "wav" / f"{name}.wav")
    monkeypatch.setattr(FileAudio, "load", lambda self: pytest.fail("decoded"))
    monkeypatch.setattr(FileAudio, "raw", lambda self: pytest.fail("read"))
    manifest = tone_corpus.train if name.startswith("train") else tone_corpus.eval
    message = refused("manifest", *tone_corpus.options, *MODEL)
    assert message.startswith(f"{manifest}:{line}: utterance {name}: it lasts 36000.0 s, {reason}")


def test_limit_of_evaluation_includes_itself(tally: Tally) -> None:
    utterance = Utterance("u1", BytesAudio(b"", "a.wav", "a"), "a", origin="eval.jsonl:1")
    at, over = (Example(utterance, "a", (1,), n, lambda: np.zeros(0)) for n in (16_000, 16_001))
    with tally.accepts():
        refuse_endless([at], 1.0)
    with tally.refuses(
        CorpusError, r"^eval\.jsonl:1: utterance u1: it lasts 1\.0 s, over --corpus\.max-eval-seconds 1"
    ):
        refuse_endless([over], 1.0)
