"""AIFF, AU, CAF, Wave64 and VOC: how many bytes of samples their own sizes promise.

libsndfile decodes them, and reads a truncated one short without a word.
"""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import BinaryIO

import soundfile

from data.audio.formats.parts import Contents, Part, reason_of, refuse_short
from data.utterance import AudioHeader
from trainer.errors import AudioError

_WIDTHS = {
    "PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1,
}  # fmt: skip
"""Bytes of a sample, where all have the same."""
W64_MAGIC = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0"
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\0\xc0\x4f\x8e\xdb\x8a"


def is_chunked(head: bytes) -> bool:
    """Whether a file that begins with `head` is of one of these formats."""
    return _reader(head) is not None


def count_chunked(file: BinaryIO, name: str) -> Contents:
    """What such a file holds; AudioError when fewer bytes are there than it promises."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    reader = _reader(file.read(64))
    assert reader is not None
    try:
        found = reader(file, size)
        file.seek(0)
        with soundfile.SoundFile(file) as sound:
            header = AudioHeader(sound.samplerate, sound.channels, sound.frames, sound.subtype == "PCM_16")
            width = _WIDTHS.get(sound.subtype)
    except (soundfile.SoundFileError, TypeError, struct.error) as error:
        raise AudioError(f"{name}: not readable as audio ({reason_of(error)}).") from None
    if found is None:
        raise AudioError(f"{name}: no samples in its chunks: truncated?")
    begin, promised = found
    promised = size - begin if promised is None else promised
    present, num_missing = max(0, min(promised, size - begin)), 0
    if width is not None and reader is not _voc:  # its samples lie in blocks
        block = width * header.num_channels
        num_missing = promised // block - present // block
        refuse_short(name, num_missing, present // block, header.rate)
        if header.num_frames != present // block:
            raise AudioError(
                f"{name}: its header says {present // block} samples, {header.num_frames} can be read: damaged?"
            )
    elif present < promised:
        raise AudioError(f"{name}: its header says {promised} bytes of samples, {present} are there: truncated?")
    header = replace(header, num_missing=num_missing)
    return Contents(header, (Part(functools.partial(_from_start, file), header.num_frames),))


def _from_start(file: BinaryIO) -> BinaryIO:
    file.seek(0)
    return file


_Found = tuple[int, int | None] | None
"""(First byte of the samples, how many bytes they are said to be; None: up to the end); None when there is none."""


def _reader(head: bytes) -> Callable[[BinaryIO, int], _Found] | None:
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _aiff
    if head[:4] in (b".snd", b"dns."):
        return _au
    if head[:4] == b"caff":
        return _caf
    if head[:16] == W64_MAGIC:
        return _w64
    return _voc if head.startswith(b"Creative Voice File\x1a") else None


def _aiff(file: BinaryIO, end: int) -> _Found:
    at = 12
    while at + 8 <= end:
        file.seek(at)
        kind, size = struct.unpack(">4sI", file.read(8))
        if kind == b"SSND":  # samples behind an offset and a block size of four bytes each
            offset = struct.unpack(">I", file.read(4))[0]
            # 0, or a size of the writer's own choice, when it wrote through a pipe
            return at + 16 + offset, None if size == 0 else max(0, size - 8 - offset)
        at += 8 + size + size % 2
    return None


def _au(file: BinaryIO, end: int) -> _Found:
    file.seek(0)
    order = ">" if file.read(4) == b".snd" else "<"
    begin, size = struct.unpack(f"{order}II", file.read(8))
    return begin, None if size == 0xFFFFFFFF else size


def _caf(file: BinaryIO, end: int) -> _Found:
    at = 8
    while at + 12 <= end:
        file.seek(at)
        kind, size = struct.unpack(">4sq", file.read(12))
        if kind == b"data":  # samples behind a count of edits
            return at + 16, None if size < 4 else size - 4
        if size < 0:
            return None
        at += 12 + size
    return None


def _w64(file: BinaryIO, end: int) -> _Found:
    at = 40
    while at + 24 <= end:
        file.seek(at)
        kind, size = struct.unpack("<16sQ", file.read(24))
        if kind == _W64_DATA:
            return at + 24, None if size < 24 or size >= 2**63 else size - 24
        if size < 24:
            return None
        at += size + -size % 8
    return None


def _voc(file: BinaryIO, end: int) -> _Found:
    """All blocks: a type (0: the end) and a size of three bytes; the bytes of all, as if they were of samples."""
    file.seek(20)
    at = first = struct.unpack("<H", file.read(2))[0]
    while at < end:
        file.seek(at)
        block = file.read(4)
        if block[:1] == b"\0" or len(block) < 4:
            break
        at += 4 + int.from_bytes(block[1:4], "little")
    return first, at - first
