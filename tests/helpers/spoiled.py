"""Ways to spoil the corpus of tones: each is a function that is given the corpus and writes it again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import soundfile

from tests.helpers.audio import flac_damaged_inside
from tests.helpers.corpora import ManifestFolder

Spoil = Callable[[ManifestFolder], object]
TEXT_AS_AUDIO = b"This is a sentence and no audio at all.\n"
SILENCE = np.zeros(0, np.float32)


def set_text(row: int, text: str) -> Spoil:
    def change(corpus: ManifestFolder) -> None:
        corpus.rows["train"][row]["text"] = text
        corpus.write()

    return change


def set_audio(split: str, row: int, content: bytes | np.ndarray | None, name: str = "") -> Spoil:
    """Replace the audio of a row by bytes, samples or nothing at all."""

    def change(corpus: ManifestFolder) -> None:
        path = corpus.folder / "wav" / (name or f"{split}-{row}.wav")
        corpus.rows[split][row]["audio_filepath"] = f"wav/{path.name}"
        corpus.write()
        if content is None:
            path.unlink()
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            soundfile.write(path, content, 16_000)

    return change


def set_line(file: str, line: str) -> Spoil:
    """Replace the third line of a manifest."""

    def change(corpus: ManifestFolder) -> None:
        path = corpus.folder / file
        lines = path.read_text().splitlines()
        lines[2] = line
        path.write_text("\n".join(lines) + "\n")

    return change


def no_rows(split: str) -> Spoil:
    def change(corpus: ManifestFolder) -> None:
        corpus.rows[split].clear()
        corpus.write()

    return change


def no_file(split: str) -> Spoil:
    return lambda corpus: (corpus.folder / f"{split}.jsonl").unlink()


def add_cut_flac(corpus: ManifestFolder, split: str, row: int) -> None:
    """A flac file whose header is whole: what is wrong shows in decoding only."""
    path = corpus.folder / "wav" / f"{split}-{row}.flac"
    path.write_bytes(flac_damaged_inside(12_800))
    corpus.rows[split][row]["audio_filepath"] = f"wav/{path.name}"
    corpus.write()
