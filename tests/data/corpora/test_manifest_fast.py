"""Arrow's parser reads a manifest as the reader of rows does, or leaves it to that reader.

pytest tests/data/corpora/test_manifest_fast.py
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.corpora import manifest_fast
from data.corpora.manifest import ManifestConfig, ManifestCorpus
from data.corpora.manifest_table import ManifestTable
from data.examples.prepare import read_split
from data.utterance import Utterance
from trainer.errors import CorpusError


@pytest.fixture(autouse=True)
def every_file_is_large(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(manifest_fast, "WORTH_BYTES", 0)


def read(path: Path, *, fast: bool) -> list[tuple] | str | None:
    """What a reader finds, or its error; None where the fast one leaves the file alone."""
    corpus = ManifestCorpus(ManifestConfig(train=str(path)))
    found: list[Utterance] | ManifestTable | None
    if fast:
        from data.corpora.manifest import COMMON_VOICE, RowReader

        reader = RowReader(corpus.config, path)
        found = manifest_fast.read_fast(path, reader.columns_of, COMMON_VOICE)
        if found is None:
            return None
    else:
        try:
            found = [utterance for _, utterance in corpus._sound("train")]
        except CorpusError as error:
            return str(error)
    return [(u.id, u.audio.name, u.text, u.speaker, u.origin, u.stated_duration) for u in found]


ROW = {"id": "a", "audio_filepath": "wav/a.wav", "text": "so it goes", "speaker": "s", "duration": 1.5, "lang": "en"}


@pytest.mark.parametrize(
    "rows",
    [
        [ROW, ROW | {"id": "b", "audio_filepath": "/abs/b.wav", "speaker": "", "duration": 0}],
        [{"path": "x/../a.wav", "sentence": "é ü 名"}, {"path": "b.wav", "sentence": ""}],
        [{"audio_filepath": "a.wav", "text": "2020-01-01 10:00:00"}],
        [ROW | {"extra": {"a": [1, 2]}}, ROW | {"extra": {"a": [3]}, "id": "b"}],
        [ROW | {"duration": 2}],
        [{"utt_id": "a", "audio_filepath": "a.wav", "text": "x", "spk": "12.0"}],
        [ROW | {"speaker": "nan", "split": "train"}, ROW | {"id": "b", "speaker": " s ", "split": "train"}],
    ],
)
def test_plain_files_are_read_fast_and_alike(rows: list[dict], tmp_path: Path):
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    assert read(path, fast=True) == read(path, fast=False) != []
    assert isinstance(ManifestCorpus(ManifestConfig(train=str(path))).utterances("train"), ManifestTable)


@pytest.mark.parametrize(
    "line",
    [
        '{"audio_filepath": "a.wav", "text": "x", "text": "y"}',
        '{"audio_filepath": "a.wav", "text": 7}',
        '{"audio_filepath": "a.wav", "text": null}',
        '{"audio_filepath": "a.wav"}',
        '{"audio_filepath": "a.wav", "text": "x", "offset": 1.0, "duration": 1.0}',
        '{"audio_filepath": "a.wav", "text": "x", "duration": NaN}',
        '{"audio_filepath": "a.wav", "text": "x", "duration": 1e10}',
        '{"audio_filepath": "a.wav", "text": "x", "duration": "1.5"}',
        '{"audio_filepath": "a.wav", "text": "x", "id": 7}',
        '{"audio_filepath": "a.wav", "text": "x", "id": ""}',
        '{"audio_filepath": "", "text": "x"}',
        '{"audio_filepath": "./a.wav", "text": "x"}',
        '{"audio_filepath": "a\\\\b.wav", "text": "x"}',
        '{"audio_filepath": "http://x/a.wav", "text": "x"}',
        '{"audio_filepath": "a%20b.wav", "text": "x"}',
        '{"audio_filepath": "$HOME/b.wav", "text": "x"}',
        '{"audio_filepath": "b.wav ", "text": "x"}',
        '{"audio_filepath": "file:/b.wav", "text": "x"}',
        '{"audio_filepath": "cat b.wav |", "text": "x"}',
        '{"audio_filepath": "caf\u00e9.wav", "text": "x"}',
        '{"audio_filepath": "a.wav", "text": "x", "xmin": 1.0}',
        '{"audio_filepath": "a.wav", "text": "\\ud800"}',
        '{"audio_filepath": "a.wav", "text": "tab\there"}',
        '{"audio_filepath": "a.wav", "text": "x"',
        '{"audio_filepath": "a.wav", "text": "x"} {"audio_filepath": "a.wav", "text": "x"}',
        "",
        "[1]",
    ],
)
def test_what_is_not_plain_is_left_to_the_reader_of_rows(line: str, tmp_path: Path):
    path = tmp_path / "m.jsonl"
    good = '{"audio_filepath": "b.wav", "text": "x"}\n'
    for content in (f"{good}{line}\n{good}", f"{line}\n{good}"):
        path.write_text(content, encoding="utf-8")
        assert read(path, fast=True) is None


def test_bytes_that_are_no_text_are_left_to_the_reader_of_rows(tmp_path: Path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"audio_filepath": "b.wav", "text": "x"}\n{"audio_filepath": "b.wav", "text": "\xff"}\n')
    with pytest.raises(CorpusError, match=r"m.jsonl:2: byte 78 is not UTF-8"):
        read_split(ManifestCorpus(ManifestConfig(train=str(path))), "train")


VALUES = st.one_of(
    st.text(max_size=6), st.integers(-(10**12), 10**12), st.floats(), st.none(), st.booleans(), st.just("wav/a.wav")
)
KEYS = st.sampled_from(
    ["id", "audio_filepath", "text", "speaker", "duration", "lang", "channel", "end_ms", "ID", "split"]
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.dictionaries(KEYS, VALUES, max_size=6), min_size=1, max_size=3),
    st.booleans(),
    st.booleans(),
)
def test_any_rows_are_read_alike_or_left(tmp_path_factory: pytest.TempPathFactory, rows, plain: bool, is_ascii: bool):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    rows = [ROW | row for row in rows] if plain else rows
    path.write_text("\n".join(json.dumps(row, ensure_ascii=is_ascii) for row in rows), encoding="utf-8", newline="")
    found = read(path, fast=True)
    assert found is None or found == read(path, fast=False)


def test_a_table_costs_a_fraction_of_its_utterances(tmp_path: Path):
    """Arrow's bytes of 20,000 rows, against 160 bytes a row; a list of utterances takes more than 1,000."""
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(ROW | {"id": f"u{i}"}) + "\n" for i in range(20_000)))
    for fast in (True, False):
        if not fast:
            path.write_text("\n" + path.read_text())  # a blank line: read row by row
        table = read_split(ManifestCorpus(ManifestConfig(train=str(path))), "train")
        assert isinstance(table, ManifestTable)
        assert table.rows.nbytes < 160 * 20_000
        assert (table[19_999].id, table[19_999].origin) == ("u19999", f"{path}:{20_000 + (not fast)}")
