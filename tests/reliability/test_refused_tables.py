"""Tables that are refused or read, rows R13 and R14 of the reliability matrix: cells, columns, parts of files.

What can be read in two ways is refused with its line; what can be read in one is accepted, and checked.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from data.corpora.manifest import ManifestConfig, ManifestCorpus
from data.examples.prepare import read_split
from data.utterance import Utterance
from tests.helpers.audio import MODEL, encoded, put_audio, sound
from tests.helpers.corpora import ManifestFolder
from trainer.errors import CorpusError

if TYPE_CHECKING:
    from tests.helpers.refused import Tally

pytestmark = pytest.mark.usefixtures("no_hang", "own_folder")


def manifest(tmp_path: Path, content: bytes, name: str) -> list[Utterance]:
    (tmp_path / name).write_bytes(content)
    return read_split(ManifestCorpus(ManifestConfig(train=str(tmp_path / name))), "train")


# R13: tables as programs write them

TABLE = "audio_filepath,text\n"
REFUSED_TABLES = {
    "a quote that swallows the next row": ("m.csv", TABLE + 'a.wav,"what a day\nb.wav,so\n', "2: a quote opens its"),
    "a row that spans lines": ("m.csv", TABLE + 'a.wav,"what a\nday"\n', "2: a quote opens its cell 2"),
    "a quote from cell to cell": ("m.csv", 'path,text,speaker\na.wav,say "a, b"\n', "2: a quote opens inside"),
    "too many cells": ("m.csv", TABLE + "a.wav,so, it goes\n", "2: its cells do not match the header's 2: there are 3"),
    "too few cells": ("m.tsv", "path\tsentence\na.wav\n", "2: its cells do not match the header's 2: there are 1"),
    "no header": ("m.csv", "a.wav,so it goes\n", '1: no "audio_filepath" field .* Is the header missing'),
    "two columns of audio": ("m.csv", "path,file,text\na,b,c\n", '1: .*"path" and "file" may be it: name one with'),
    "two columns of text": ("m.csv", "path,sentence,transcript\na,b,c\n", "1: .*--corpus.text-field"),
    "an end without a start": ("m.csv", "path,text,end\na.wav,b,1.5\n", '2: "end" without a start'),
    "a start without an end": ("m.tsv", "path\ttext\tstart\na.wav\tb\t0\n", "2: a part of a file begins at 0 s"),
    "bounds in milliseconds": ("m.csv", "path,text,start_ms,end_ms\na.wav,b,0,700\n", '2: "start_ms" is not read'),
    "bounds in samples": ("m.csv", "path,text,start_sample\na.wav,b,16000\n", '2: "start_sample" is not read'),
    "a decimal comma": ("m.csv", "path;text;start;end\na.wav;b;0,5;1,5\n", '2: "start" must be seconds such as 1.5'),
    "a clock": ("m.csv", "path,text,start,end\na.wav,b,0:01,0:02\n", '2: "start" must be seconds such as 1.5'),
    "half an array": ("m.json", '[{"audio": "a.wav", "text": "x"},\n', "2: not a JSON object in the file's array"),
    "an address": ("m.csv", TABLE + "https://example.org/a.wav,x\n", "2: the audio's path .* is an address"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED_TABLES)
def test_table_that_can_be_read_in_two_ways_is_refused_with_its_line(tally: Tally, tmp_path: Path, kind: str) -> None:
    name, content, message = REFUSED_TABLES[kind]
    with tally.refuses(CorpusError, rf"{name}:{message}"):
        manifest(tmp_path, content.encode(), name)


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"], ids=["comma", "semicolon", "tab", "bar"])
@pytest.mark.parametrize("name", ["m.csv", "m.tsv"])
def test_table_of_any_delimiter_and_encoding_is_read(
    tally: Tally, tmp_path: Path, name: str, delimiter: str, encoding: str, end: str
) -> None:
    """Columns in Common Voice's words; a quote inside a cell is text."""
    cells = [["client_id", "path", "sentence"], ["s1", "a.wav", 'Café "élan"!'], ["s2", "b.wav", "so it goes"]]
    with tally.accepts():
        content = "".join(delimiter.join(row) + end for row in cells)
        found = manifest(tmp_path, content.encode(encoding), name)
        assert [[u.speaker, u.id, u.text] for u in found] == cells[1:]


# R14: utterances that are parts of files


OUTSIDE = [{"offset": 2.5, "duration": 0.7}, {"start": 0.3, "end": 0.9}, {"offset": 0, "duration": 99}]


@pytest.mark.parametrize("bounds", OUTSIDE, ids=str)
def test_part_that_is_not_in_its_file_is_refused_for_training(
    tone_corpus: ManifestFolder, refused: Callable, bounds: dict
) -> None:
    tone_corpus.rows["train"][0].update(bounds)
    tone_corpus.write()
    message = refused("manifest", *tone_corpus.options, *MODEL)
    assert message.startswith(f"{tone_corpus.train}:1: utterance train-0: ")
    assert "the file ends at 0.50 s. Mend the bounds (seconds)" in message


@pytest.mark.slow
def test_parts_of_one_file_are_trained_on_as_utterances_of_their_own(
    tone_corpus: ManifestFolder, tally: Tally, trained: Callable
) -> None:
    """Six utterances become seven; the store, the hypotheses and the leaks tell the parts apart."""
    whole, first = tone_corpus.rows["train"][5], tone_corpus.rows["eval"][2]
    del whole["id"], first["id"]
    tone_corpus.rows["train"].append({**whole, "start": 0.5, "end": 0.9})
    whole.update(start=0.0, end=0.5)
    tone_corpus.rows["eval"].append({**first, "offset": 0.3, "duration": 0.3})
    first.update(offset=0.0, duration=0.3)
    tone_corpus.write()
    for i in range(3):
        put_audio(tone_corpus, "eval", i, encoded(sound(9600, seed=i)))
    with tally.accepts():
        err, _ = trained("manifest", *tone_corpus.options, *MODEL)
        assert ": 7 utterances" in err
        assert "recordings are also in training" not in err
        hypotheses = [json.loads(line)["id"] for line in Path("runs/run/hypotheses.jsonl").read_text().splitlines()]
        assert hypotheses[2:] == ["wav/eval-2.wav", "wav/eval-2.wav#t=0.3,0.6"]


@pytest.mark.slow
def test_how_a_table_was_read_is_told_before_training(
    tone_corpus: ManifestFolder, tally: Tally, trained: Callable
) -> None:
    rows = [[row["audio_filepath"], row["text"], row["speaker"]] for row in tone_corpus.rows["train"]]
    table = tone_corpus.folder / "train.csv"
    table.write_text("".join(";".join(row) + "\n" for row in [["path", "sentence", "client_id"], *rows]))
    with tally.accepts():
        err, _ = trained("manifest", "--corpus.train", str(table), "--corpus.eval", str(tone_corpus.eval), *MODEL)
        assert "train.csv: its cells are separated by semicolons\n" in err
        assert 'train.csv: audio from "path", text from "sentence", speaker from "client_id"\n' in err
