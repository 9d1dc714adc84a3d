"""What a file is that was given as a manifest and is none: other programs' formats, by their bytes or their keys.

Each has one line that says what it is and what to do. Nothing is read from them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.corpora.columns import AUDIO, TEXT, known_as

NUM_BYTES = 512
"""How much of a file's beginning `foreign_bytes` looks at."""
_UNPACK = "Unpack it, and name the file that was in it"
_TO_LINES = (
    "{what}: a manifest has one JSON object a line, or an array of them. Run: jq -c '{program}' OLD.json > new.jsonl"
)
A_TABLE_BY_COLUMNS = 'a table by columns, as pandas writes it (to_json(..., orient="records", lines=True) writes rows)'
_BY_BYTES = [
    (b"\x1f\x8b", "packed by gzip", _UNPACK),
    (b"BZh", "packed by bzip2", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "packed by zstd", _UNPACK),
    (b"\xfd7zXZ\x00", "packed by xz", _UNPACK),
    (b"PK\x03\x04", "an Excel workbook, or another zip file", "Save a workbook as CSV (UTF-8), unpack others"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "Save it as CSV (UTF-8)"),
    (b"PAR1", "a Parquet file", "The preset hub reads its folder (docs/howto-hub.md); or write it as JSON lines"),
    (b"ARROW1", "an Arrow file", "The preset hub reads what save_to_disk wrote; or write it as JSON lines"),
    (b"FEA1", "a Feather file", "Write it as JSON lines"),
    (b"SQLite format 3\x00", "an SQLite database", "Export the table as CSV"),
    (b"\x89HDF", "an HDF5 file", "Write its table as JSON lines"),
    (b"version https://git-lfs", "a pointer of git-lfs, not the file itself", "Run: git lfs pull"),
    (b"\x80\x04", "a pickle", "Write it as JSON lines"),
    (b"\x80\x05", "a pickle", "Write it as JSON lines"),
    (b"%PDF", "a PDF file", "Write its table as CSV"),
    (b"fLaC", "audio", "A manifest is a table that names audio files"),
    (b"RIFF", "audio", "A manifest is a table that names audio files"),
    (b"ID3", "audio", "A manifest is a table that names audio files"),
    (b"OggS", "audio", "A manifest is a table that names audio files"),
    (b"NIST_1A", "audio", "A manifest is a table that names audio files"),
]  # fmt: skip
_BY_NAME = {
    **dict.fromkeys(("wav.scp", "text", "segments", "utt2spk", "spk2utt"), "one of Kaldi's lists: name its folder"),
    **dict.fromkeys((".ltr", ".wrd", ".phn"), "a list of transcripts alone: put each beside its audio in a table"),
    **dict.fromkeys((".textgrid", ".eaf", ".stm", ".ctm", ".srt", ".vtt", ".trs", ".mlf"),
                    "annotations with times: write a row with audio_filepath, text, start and end for each"),
}  # fmt: skip


def foreign_bytes(beginning: bytes) -> str:
    """`a Parquet file. The preset hub ...`, by a file's first NUM_BYTES; empty where they may be a manifest's."""
    for mark, what, remedy in _BY_BYTES:
        if beginning.startswith(mark):
            return f"{what}. {remedy}."
    if re.match(rb"\s*(<!doctype html|<html)", beginning, re.IGNORECASE):
        return "a page of the web: the download went wrong. Fetch the file itself."
    if beginning[257:262] == b"ustar":
        return f"a tar file. {_UNPACK}."
    return ""


def foreign_name(manifest: Path) -> str:
    """The same by a file's name."""
    return _BY_NAME.get(manifest.name, "") or _BY_NAME.get(manifest.suffix.lower(), "")


_IN_FOLDERS = [
    ({"wav.scp", "text"}, "It holds Kaldi's wav.scp and text: write a row with audio_filepath, text and speaker for "
     "each utterance, with start and end for each line of segments."),
    ({"shards.json"}, "The preset shards reads it: python -m trainer.run shards (docs/howto-shards.md)."),
    ({"dataset_dict.json"}, "The preset hub reads it: python -m trainer.run hub --corpus.dataset (docs/howto-hub.md)."),
    ({"state.json"}, "The preset hub reads it: python -m trainer.run hub --corpus.dataset (docs/howto-hub.md)."),
    ({"TRAIN", "TEST"}, "A TIMIT tree? python -m trainer.run timit --corpus.root reads it (docs/howto-timit.md)."),
    ({"transcripts.txt", "audio"}, "It holds transcripts.txt and audio, as MLS has them: write a row with "
     "audio_filepath, text and speaker for each of its lines."),
]  # fmt: skip
"""What a folder holds, in this case of letters, and what to do."""


def foreign_folder(folder: Path, suffixes: Sequence[str]) -> str:
    """What to name in place of a folder; manifests end in `suffixes`."""
    inside = {path.name for path in folder.iterdir()}
    for names, remedy in _IN_FOLDERS:
        if names <= inside:
            return remedy
    if any(next(folder.glob(f"{'*/' * depth}*.trans.txt"), None) for depth in range(3)):
        return (
            "It holds LibriSpeech's .trans.txt: write a row for each of their lines, whose first word names the .flac "
            "beside them and the speaker."
        )
    manifests = sorted(name for name in inside if name.lower().endswith(tuple(suffixes)))
    listed = f" It holds {', '.join(manifests[:6])}{', ...' if len(manifests) > 6 else ''}." if manifests else ""
    return f"--corpus.train and --corpus.eval name the manifests.{listed}"


def foreign_row(row: Mapping[str, Any]) -> str:
    """What a JSON object is that is no row; empty where that is not known."""
    values = list(row.values())
    if {"recording", "supervisions"} <= row.keys():
        return (
            "a cut of lhotse, not a row: write a row with audio_filepath, text, speaker, offset and duration for each "
            "of its supervisions."
        )
    if values and all(isinstance(value, dict) for value in values):
        if known_as((*AUDIO, *TEXT), row):
            return f"{A_TABLE_BY_COLUMNS}."
        if known_as((*AUDIO, *TEXT), values[0]):
            what = "an object of objects, as SpeechBrain writes it"
            return _TO_LINES.format(what=what, program="to_entries[] | {id: .key} + .value")
    lists = [key for key, value in row.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
    if len(lists) == 1:
        return _TO_LINES.format(what=f'the rows stand in "{lists[0]}"', program=f'."{lists[0]}"[]')
    return ""


def foreign_header(header: Sequence[str]) -> str:
    """A hint, with a space before it, for a table in whose header neither audio nor text was found."""
    if known_as((*AUDIO, *TEXT), header):
        return ""
    if len(header) == 1 and "/" in header[0]:
        return (
            " Is this fairseq's list? It has no header, and its transcripts stand elsewhere: write a table with "
            "audio_filepath and text."
        )
    return " Is the header missing? Write the columns' names above the rows."


def foreign_json(line: str) -> str:
    """A hint, with a space before it, for a line that is no JSON."""
    line = line.strip()
    if line in ("{", "["):
        return " Is an object on several lines? One a line is written by: jq -c . OLD.json > new.jsonl"
    if line.startswith("{'"):
        return " That is Python's notation: json.dumps writes JSON."
    return " Take out the comma behind it." if line.endswith("},") else ""
