"""data.audio.near_names: what may be meant by a path at which there is no file."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from data.audio.decode import FileAudio
from data.audio.near_names import hint_at
from trainer.errors import AudioError


@pytest.mark.parametrize(
    ("there", "named", "hint"),
    [
        ("a.WAV", "a.wav", "but there is a.WAV"),
        ("A 1.wav", "a 1.WAV", "but there is A 1.wav"),
        ("LJ001-0001.wav", "LJ001-0001", "but there is LJ001-0001.wav"),
        ("a.flac", "a.wav", "but there is a.flac"),
        ("wavs/LJ001-0001.wav", "LJ001-0001", "but there is wavs/LJ001-0001.wav"),
        ("clips/a.mp3", "a.mp3", "but there is clips/a.mp3"),
        (unicodedata.normalize("NFD", "é.wav"), "é.WAV", "but there is "),
        ("a.wav", "$data_root/a.wav", "$data_root stands there as it is"),
        ("a.wav", "{data_root}/a.wav", "{data_root} stands there as it is"),
        ("a.wav", "C:\\data\\a.wav", "a path of Windows"),
        ("a.wav", "C:/data/a.wav", "a path of Windows"),
        ("a.wav", "x/y/a.wav", "there is no folder "),
        ("a.txt", "a.wav", None),
        ("b.wav", "a.wav", None),
    ],
)
def test_what_may_be_meant_is_said(tmp_path: Path, there: str, named: str, hint: str | None):
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).touch()
    with pytest.raises(AudioError) as caught:
        FileAudio(tmp_path / named).open()
    begins = f"{tmp_path / named}: No such file or directory"
    assert str(caught.value).startswith(begins if hint is None else f"{begins} ({hint}")
    assert hint is not None or str(caught.value) == f"{begins}."


def test_the_folder_that_is_missing_is_named(tmp_path: Path):
    assert hint_at(tmp_path / "x/y/a.wav") == f" (there is no folder {tmp_path / 'x'})"


def test_a_file_that_lies_there_from_the_working_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.wav").touch()
    hint = hint_at("manifests/data/a.wav")
    assert hint == " (but there is data/a.wav from the working folder; paths are relative to the manifest)"


def test_a_link_that_leads_nowhere_is_told(tmp_path: Path):
    (tmp_path / "a.wav").symlink_to("/not/there.wav")
    assert hint_at(tmp_path / "a.wav") == " (a link to /not/there.wav, which is not there)"
