"""data.corpora.hub.fields: what a row's columns hold, as data sets have them.

pytest tests/data/corpora/test_hub_fields.py
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile

from data.corpora.hub import HubConfig
from data.corpora.hub.corpus import HubCorpus
from data.utterance import Utterance
from tests.helpers.hub import error_of

pytestmark = pytest.mark.usefixtures("no_torchcodec", "no_bars", "own_cache")


@pytest.fixture
def wav(tone: Callable) -> bytes:
    sink = io.BytesIO()
    soundfile.write(sink, tone(0.1, rate=16_000, channels=1), 16_000, format="WAV")
    return sink.getvalue()


@pytest.fixture
def rows(tmp_path: Path, wav: bytes) -> Callable[..., str]:
    """A saved data set of two rows with these columns besides the audio's."""

    def make(**columns) -> str:
        audio = [{"bytes": wav, "path": None}] * 2
        dataset = datasets.Dataset.from_dict({"audio": audio, "text": ["x", "y"], **columns})
        dataset.save_to_disk(str(tmp_path / "set"))
        return str(tmp_path / "set")

    return make


def read(folder: str | Path, cache: Path | None = None, **options) -> tuple[list[Utterance], list[str]]:
    corpus = HubCorpus(HubConfig(dataset=str(folder), streaming=cache is not None, **options), cache or Path("cache"))
    return list(corpus.utterances("train")), corpus.notes


@pytest.mark.parametrize(
    ("values", "expected"),
    [([12.0, float("nan")], ["12", None]), ([7, None], ["7", None]), (["12.0", "nan"], ["12", None])],
)
def test_a_speaker_has_the_name_that_a_manifest_gives_it(rows: Callable, values: list, expected: list):
    utterances, _ = read(rows(speaker_id=values))
    assert [u.speaker for u in utterances] == expected


def test_labels_are_read_by_their_names(tmp_path: Path, wav: bytes):
    """Their numbers depend on the order of a data set's list of names."""
    table = {"audio": [{"bytes": wav, "path": None}] * 2, "speaker": [1, 0], "label": [0, 1]}
    dataset = datasets.Dataset.from_dict(table)
    dataset = dataset.cast_column("speaker", datasets.ClassLabel(names=["ann", "bob"]))
    dataset = dataset.cast_column("label", datasets.ClassLabel(names=["yes", "no"]))
    dataset.save_to_disk(str(tmp_path / "set"))
    utterances, _ = read(tmp_path / "set", text_field="label")
    assert [(u.speaker, u.text) for u in utterances] == [("bob", "yes"), ("ann", "no")]


def test_bounds_and_channels_that_are_not_read_are_told(rows: Callable):
    _, notes = read(rows(begin_time=[0.0, 1.0], end_time=[1.0, 2.0], channel=["A", "B"]))
    assert any('"channel": not read, channels are averaged' in note for note in notes)
    assert any('"begin_time" and "end_time": not read, the audio of a row is taken whole' in note for note in notes)


@pytest.mark.parametrize("values", [[None, "y"], [1984, 2001]])
def test_a_text_that_csv_lost_is_refused_with_the_reason(rows: Callable, values: list):
    message = error_of(HubConfig(dataset=rows(text=values)))
    assert f"row 0: 'text' must be a string, found {values[0]!r}. Reading CSV, `datasets` makes" in message


# WebDataset's tars


def write_tar(folder: Path, members: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    with tarfile.open(folder / "train-000000.tar", "w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return folder


@pytest.mark.parametrize("streaming", [False, True])
def test_texts_inside_the_json_of_a_tar_are_found_and_told(tmp_path: Path, wav: bytes, streaming: bool):
    samples, rate = soundfile.read(io.BytesIO(wav), dtype="int16")
    sink = io.BytesIO()
    soundfile.write(sink, samples, rate, format="FLAC")
    flac = sink.getvalue()
    said = [{"text": "so it goes", "speaker": "s1"}, {"text": "on", "speaker": "s2"}]
    members = {}
    for key, row in zip("ab", said, strict=True):
        members |= {f"x/{key}.flac": flac, f"x/{key}.json": json.dumps(row).encode()}
    folder = write_tar(tmp_path / "tars", members)
    cache = tmp_path / "packed" if streaming else None
    utterances, notes = read(folder, cache, speaker_field="json.speaker")
    assert [(u.text, u.speaker) for u in utterances] == [("so it goes", "s1"), ("on", "s2")]
    assert any('text from column "json.text"' in note for note in notes)
    assert any('audio from column "flac"' in note for note in notes)
    expected, _ = soundfile.read(io.BytesIO(wav), dtype="float32")
    np.testing.assert_array_equal(utterances[0].audio.load(), expected)


def test_a_column_of_structs_says_what_it_holds(tmp_path: Path, wav: bytes):
    folder = write_tar(tmp_path / "tars", {"a.wav": wav, "a.json": b'{"caption": "so"}'})
    message = error_of(HubConfig(dataset=str(folder), text_field="json"))
    assert "It holds caption: name one, as --corpus.text-field json.text" in message


def test_a_stream_of_a_tar_needs_no_torchcodec(tmp_path: Path, wav: bytes):
    folder = write_tar(tmp_path / "tars", {"a.wav": wav, "a.txt": b"so it goes"})
    utterances, _ = read(folder, tmp_path / "packed")
    assert [u.text for u in utterances] == ["so it goes"]


# Folders with tables


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("train.csv", "path,text\nclips/a.wav,so\n"),
        ("train.jsonl", '{"path": "clips/a.wav", "text": "so"}\n'),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_paths_in_a_table_are_below_its_folder(tmp_path: Path, wav: bytes, name: str, table: str, streaming: bool):
    (tmp_path / "set/clips").mkdir(parents=True)
    (tmp_path / "set/clips/a.wav").write_bytes(wav)
    (tmp_path / "set" / name).write_text(table)
    (u,), _ = read(tmp_path / "set", tmp_path / "packed" if streaming else None)
    assert (u.text, u.audio.num_samples) == ("so", 1600)


def test_audio_without_a_table_is_told(tmp_path: Path, wav: bytes):
    (tmp_path / "set/data").mkdir(parents=True)
    for name in ("a.wav", "b.wav"):
        (tmp_path / "set/data" / name).write_bytes(wav)
    message = error_of(HubConfig(dataset=str(tmp_path / "set")))
    assert "Are these audio files without a metadata.csv of file_name and text beside them?" in message
