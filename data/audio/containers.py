"""Whether a RIFF or Ogg file is whole, by its own sizes: libsndfile reads a truncated one short, without a word.

FLAC and MP3 need no help: their headers keep the length, and decoding finds less.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

from trainer.errors import AudioError

READ = ("WAV", "WAVEX", "FLAC", "OGG", "MP3")
"""What libsndfile may take a file for. Other formats have no check of their length here."""
OGG_PAGE = 65_307
"""Bytes of an Ogg page at most."""
_FIXED_WIDTH = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")
_LAST_PAGE = 4


def check_whole(file: BinaryIO, name: str, format: str, subtype: str, num_frames: int) -> None:
    """AudioError when `file`, of libsndfile's `format` and `subtype`, holds fewer than it promises."""
    if format not in READ:
        raise AudioError(f"{name}: {format} files are not read. Convert it to FLAC or WAV.")
    if num_frames >= 2**62:  # libsndfile's word for "not said"
        raise AudioError(
            f"{name}: its header does not say how long it is (written through a pipe?). Write it again to a file."
        )
    if format == "OGG":
        _check_ogg(file, name)
    elif format.startswith("WAV"):
        _check_riff(file, name, num_frames if subtype in _FIXED_WIDTH else None)


def _check_riff(file: BinaryIO, name: str, num_frames: int | None) -> None:
    """The data chunk ends within the file and, for samples of a fixed width, is as long as `num_frames` of them."""
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    order = ">" if file.read(12)[:4] == b"RIFX" else "<"
    position, block = 12, 0
    while position + 8 <= end:
        file.seek(position)
        kind, size = struct.unpack(f"{order}4sI", file.read(8))
        if kind == b"fmt ":
            block = struct.unpack(f"{order}H", file.read(16)[12:14].ljust(2, b"\0"))[0]
        if kind == b"data":
            present = min(size, end - position - 8)
            if present < size:
                pipe = " or written through a pipe" if size >= 2**31 - 2**16 else ""
                raise AudioError(
                    f"{name}: its header says {size} bytes of samples, {present} are there: truncated{pipe}?"
                )
            if num_frames is not None and block and num_frames != size // block:
                raise AudioError(
                    f"{name}: its header says {size // block} samples, {num_frames} can be read: not closed properly?"
                )
            return
        position += 8 + size + size % 2
    raise AudioError(f"{name}: no samples in its RIFF chunks: truncated?")


def _check_ogg(file: BinaryIO, name: str) -> None:
    """The last page is whole and says that it is the last."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - OGG_PAGE))
    tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    num_segments = page[26] if len(page) > 26 else 0
    length = 27 + num_segments + sum(page[27 : 27 + num_segments])
    if not page.startswith(b"OggS") or len(page) < length or not page[5] & _LAST_PAGE:
        raise AudioError(f"{name}: its last Ogg page is missing: truncated?")
