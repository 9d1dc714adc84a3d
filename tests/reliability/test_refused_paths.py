"""What is no file, row R8 of the reliability matrix: devices, FIFOs, sockets, folders. Where a file lies is the
user's own business."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from data.audio.decode import FileAudio
from data.corpora.manifest import ManifestConfig, ManifestCorpus
from data.corpora.timit.labels import read_segments, read_transcript
from data.utterance import Utterance
from tests.helpers.audio import MODEL
from tests.helpers.corpora import ManifestFolder
from trainer.errors import AudioError, CorpusError

if TYPE_CHECKING:
    from tests.helpers.refused import Tally

pytestmark = pytest.mark.usefixtures("no_hang", "own_folder")


def make_fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def make_socket(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))  # a socket's path must be short
    return path


def make_folder(path: Path) -> Path:
    path.mkdir()
    return path


def make_link(target: str) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        path.symlink_to(target)
        return path

    return make


NO_FILES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "FIFO": (make_fifo, "a FIFO, not a file"),
    "socket": (make_socket, "a socket, not a file"),
    "folder": (make_folder, "Is a directory"),
    "/dev/zero": (lambda path: Path("/dev/zero"), "a character device, not a file"),
    "link to /dev/zero": (make_link("/dev/zero"), "a character device, not a file"),
    "dangling link": (make_link("nowhere"), "No such file or directory"),
}


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_refused_as_audio(tally: Tally, tmp_path: Path, kind: str) -> None:
    make, reason = NO_FILES[kind]
    path = make(tmp_path / "a.wav")
    for attribute in ("header", "identity"):
        with tally.refuses(AudioError, f"^{path}: {reason}"):
            getattr(FileAudio(path), attribute)
    with tally.refuses(AudioError, f"^{path}: {reason}"):
        FileAudio(path).raw()


def read_manifest(path: Path) -> list[Utterance]:
    return list(ManifestCorpus(ManifestConfig(train=str(path))).utterances("train"))


LIST_READERS = {
    "m.jsonl": read_manifest,
    "m.csv": read_manifest,
    "A.TXT": read_transcript,
    "A.WRD": read_segments,
}


@pytest.mark.parametrize("kind", [kind for kind in NO_FILES if kind != "/dev/zero"])
@pytest.mark.parametrize("name", LIST_READERS)
def test_what_is_no_file_is_refused_as_manifest_and_as_labels(
    tally: Tally, tmp_path: Path, kind: str, name: str
) -> None:
    make, reason = NO_FILES[kind]
    path = make(tmp_path / name)
    with tally.refuses(CorpusError, f"^{path}: {reason}"):
        LIST_READERS[name](path)


@pytest.mark.parametrize("split", ["train", "eval"])
@pytest.mark.parametrize("target", ["fifo", "/dev/zero"])
def test_manifest_that_names_a_device_is_refused_without_hanging(
    tone_corpus: ManifestFolder, refused: Callable, split: str, target: str
) -> None:
    """In evaluation too: that is no recording that fails to decode, the corpus is wrong."""
    if target == "fifo":
        os.mkfifo(tone_corpus.folder / "fifo")
    tone_corpus.rows[split][1]["audio_filepath"] = target
    tone_corpus.write()
    message = refused("manifest", *tone_corpus.options, *MODEL)
    assert f"{target}: a " in message
    assert "not a file" in message


def test_absolute_paths_parent_folders_and_links_are_the_users_own_business(
    tone_corpus: ManifestFolder, tally: Tally, trained: Callable
) -> None:
    folder = tone_corpus.folder
    (folder / "link.wav").symlink_to(folder / "wav" / "train-2.wav")
    for i, path in enumerate([str(folder / "wav" / "train-0.wav"), f"../{folder.name}/wav/train-1.wav", "link.wav"]):
        tone_corpus.rows["train"][i]["audio_filepath"] = path
    tone_corpus.write()
    with tally.accepts():
        err, _ = trained("manifest", *tone_corpus.options, *MODEL)
        assert ": 6 utterances" in err
