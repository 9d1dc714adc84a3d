"""The text files beside a recording of TIMIT: .TXT is its sentence, .WRD and .PHN are labelled stretches."""

from __future__ import annotations

import re
from pathlib import Path

from data.audio.files import open_regular
from data.utterance import Segment
from trainer.errors import CorpusError

_PLAIN_ROWS = re.compile(r"^([0-9]{1,10}) ([0-9]{1,10}) (\S+)\n", re.MULTILINE)
"""The lines of a label file as the LDC wrote it."""


def read_transcript(path: Path) -> str:
    """The sentence of a .TXT file: one line, behind its first and last sample; single spaces between words."""
    lines = [line for line in _read_text(path).split("\n") if line.strip()]
    text = " ".join(lines[0].split()) if lines else ""
    match = re.fullmatch(r"[0-9]{1,10} [0-9]{1,10} (.*)", text)
    if not match:
        raise CorpusError(f"{path}: expected 'FIRST LAST sentence', found {text[:40]!r}.")
    if len(lines) > 1:
        raise CorpusError(f"{path}: expected one line, found {len(lines)}.")
    return match[1]


def read_segments(path: Path) -> tuple[Segment, ...]:
    """The labelled stretches of a .WRD or .PHN file: `start end label` a line, in samples."""
    segments, text = [], _read_text(path)
    plain = _PLAIN_ROWS.findall(text)
    if text.endswith("\n") and len(plain) == text.count("\n"):  # one search a file: TIMIT has 250,000 such lines
        return tuple([Segment(int(start), int(end), label) for start, end, label in plain])
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            match = re.fullmatch(r"([0-9]{1,10})\s+([0-9]{1,10})\s+(\S+)", line.strip())
            if not match:
                raise CorpusError(f"{path}:{number}: expected 'START END LABEL', found {line.strip()[:40]!r}.")
            segments.append(Segment(int(match[1]), int(match[2]), match[3]))
    return tuple(segments)


def _read_text(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return file.read().decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise CorpusError(f"{path}: {error.strerror or error}.") from None
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: byte {error.start} is not UTF-8; is this a label file?") from None
