"""data.corpora.paths: the file that a row names, as other systems and programs write it."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from data.corpora.paths import is_plain, locate
from trainer.errors import CorpusError


@pytest.mark.parametrize(("there", "named"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_name_is_found_composed_and_decomposed(tmp_path: Path, there: str, named: str):
    """A disk of macOS holds decomposed names; a table that was written elsewhere holds composed ones."""
    path = tmp_path / unicodedata.normalize(there, "Zoë/café.wav")
    path.parent.mkdir()
    path.touch()
    assert locate(tmp_path, unicodedata.normalize(named, "Zoë/café.wav")) == path


@pytest.mark.parametrize("written", ["a b.wav ", "\u00a0a b.wav", "$CORPUS_DIR/a b.wav", "${CORPUS_DIR}/a b.wav",
                                     "file:{folder}/a%20b.wav", "file://localhost{folder}/a%20b.wav"])  # fmt: skip
def test_a_file_is_found_as_others_write_its_path(tmp_path: Path, written: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CORPUS_DIR", str(tmp_path))
    (tmp_path / "a b.wav").touch()
    assert locate(tmp_path, written.replace("{folder}", str(tmp_path))) == tmp_path / "a b.wav"


@pytest.mark.parametrize("name", ["$HOME.wav", "a%20b.wav", "a.wav ", "e\u0301.wav"])
def test_the_plain_name_comes_first(tmp_path: Path, name: str):
    (tmp_path / name).touch()
    (tmp_path / unicodedata.normalize("NFC", name.strip())).touch()
    assert locate(tmp_path, name) == tmp_path / name


def test_what_is_nowhere_is_named_as_it_is_written(tmp_path: Path):
    assert locate(tmp_path, "$NOT_SET/é.wav") == tmp_path / "$NOT_SET/é.wav"
    assert locate(tmp_path, "é.wav", also="clips") == tmp_path / "clips/é.wav"


def test_a_command_is_no_path():
    with pytest.raises(CorpusError, match=r"is a command, as in Kaldi's wav\.scp: run it"):
        locate(Path(), "sph2pipe -f wav a.sph |")


def test_names_with_one_form_alone_are_plain():
    assert is_plain("wav/a.wav")
    assert is_plain("语音/一.wav")
    assert not is_plain("é.wav")
    assert not is_plain("e\u0301.wav")
