"""RIFF (wav) by its own sizes: where its samples lie, whatever the writer of its header knew.

A recorder that writes through a pipe leaves sizes of 0, 2**31 or 2**32; a download ends early; a tagger puts an ID3
tag in front; MP3 may be inside. What libsndfile reads right is handed to it as it is, the rest in a new RIFF of the
same samples. Sizes are 32 bits, in RF64 and BW64 64 bits (chunk ds64).
"""

from __future__ import annotations

import functools
import io
import os
import re
import struct
from dataclasses import dataclass, field, replace
from typing import BinaryIO

import soundfile

from data.audio.formats.mpeg import count_mpeg
from data.audio.formats.parts import MOST_SHORT_SECONDS, MOST_SHORT_SHARE, Contents, Part, reason_of, refuse_short
from data.utterance import AudioHeader
from trainer.errors import AudioError, UnknownAudioError

MAGICS = (b"RIFF", b"RIFX", b"RF64", b"BW64")
_PCM, _FLOAT, _ALAW, _ULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_MPEG = (0x50, 0x55)
_UNKNOWN_SIZES = (2**31, 2**32)
"""A size just below one of these is what writers put who do not know it yet."""


@dataclass
class _Chunks:
    """What stands in a RIFF file."""

    format: bytes = b""
    fact: bytes = b""
    data: list[tuple[int, int]] = field(default_factory=list)
    """(First byte, size that its header says) of each data chunk."""
    is_ordered: bool = False
    """The format stands before the samples."""
    has_others: bool = False
    """Other chunks stand there too, which libsndfile reads in its own ways."""
    end: int = 0
    """The first byte behind the last chunk that could be read."""


def count_riff(file: BinaryIO, start: int, name: str, *, thorough: bool) -> Contents:
    """What the RIFF at byte `start` of `file` holds; AudioError when it is cut off or no audio."""
    size = file.seek(0, os.SEEK_END)
    file.seek(start)
    order = ">" if file.read(4) == b"RIFX" else "<"
    chunks = _read_chunks(file, start + 12, size, order)
    if len(chunks.format) < 14 or not chunks.data:
        what = "samples" if len(chunks.format) >= 14 else "format (chunk fmt)"
        raise AudioError(f"{name}: not readable as audio (no {what} in its RIFF chunks: truncated?).")
    tag, num_channels, rate, _, block = struct.unpack(f"{order}HHIIH", chunks.format[:14])
    if tag == _EXTENSIBLE and len(chunks.format) >= 26:
        tag = struct.unpack(f"{order}H", chunks.format[24:26])[0]
    begin, promised = _choose_data(chunks, size)
    present = min(promised, size - begin)
    remark = "more than one data chunk, of which the first is read, as other programs do" if chunks.data[1:] else ""
    if tag in _MPEG:
        return _mpeg_inside(file, begin, present, promised, name, thorough)
    if not block or not num_channels:
        raise AudioError(f"{name}: its RIFF header says {num_channels} channels, {block} bytes a sample: damaged?")
    has_width = tag in (_PCM, _FLOAT, _ALAW, _ULAW)
    if present < promised and not has_width:
        raise AudioError(f"{name}: its header says {promised} bytes of samples, {present} are there: truncated?")
    _refuse_more(file, max(chunks.end, begin + present), size, present, block * rate, name)
    is_plain = start == 0 and chunks.is_ordered and chunks.data == [(begin, present)]
    content = functools.partial(_as_it_is, file) if is_plain else functools.partial(
        _rebuilt, file, order, chunks, begin, present
    )  # fmt: skip
    is_known = is_plain and not thorough and not chunks.has_others and not chunks.fact
    header = _plain_header(chunks.format, order, present) if is_known else None
    if header is None:
        header = _open(content, remark, name)
    num_missing = 0
    if has_width:
        if header.num_frames != present // block:
            raise AudioError(
                f"{name}: its header says {present // block} samples, {header.num_frames} can be read: damaged?"
            )
        num_missing = promised // block - present // block
    refuse_short(name, num_missing, header.num_frames, rate)
    return Contents(replace(header, num_missing=num_missing), (Part(content, header.num_frames),))


def _read_chunks(file: BinaryIO, at: int, end: int, order: str) -> _Chunks:
    """All chunks from byte `at` on, until one is none."""
    found, size_in_ds64 = _Chunks(end=at), None
    while at + 8 <= end:
        file.seek(at)
        kind, size = struct.unpack(f"{order}4sI", file.read(8))
        if not re.fullmatch(rb"[ -~]{4}", kind):
            break
        at += 8
        if kind == b"ds64":
            size_in_ds64 = struct.unpack("<Q", file.read(16)[8:16].ljust(8, b"\0"))[0]
        elif kind == b"fmt " and not found.format:
            found.format = file.read(min(size, 256))
        elif kind == b"fact" and not found.fact:
            found.fact = file.read(min(size, 256))
        elif kind == b"data":
            if size == 0xFFFFFFFF and size_in_ds64 is not None and not found.data:
                size = size_in_ds64
            found.data.append((at, size))
            found.is_ordered = bool(found.format)
        elif kind in MAGICS or at + size > end:
            break  # no chunk: what stands behind the last one
        else:
            found.has_others = True
        at += size + size % 2
        found.end = min(at, end)
    return found


def _choose_data(chunks: _Chunks, end: int) -> tuple[int, int]:
    """(First byte, size) of the samples: the first data chunk that is not empty, to the end where its size is none."""
    begin, size = next((chunk for chunk in chunks.data if chunk[1]), chunks.data[0])
    is_unknown = any(limit - 4096 <= size < limit for limit in _UNKNOWN_SIZES) or size == 2**31 or size >= 2**63
    if is_unknown and begin + size > end:
        return begin, end - begin
    if size == 0 and chunks.end + 8 <= end:
        return begin, end - begin  # no chunk follows: samples do
    if size == 0 and chunks.end < end and not chunks.data[1:]:
        return begin, 0
    return begin, size


def _as_it_is(file: BinaryIO) -> BinaryIO:
    file.seek(0)
    return file


def _rebuilt(file: BinaryIO, order: str, chunks: _Chunks, begin: int, size: int) -> BinaryIO:
    """A RIFF of these samples alone, with sizes that are right."""
    file.seek(begin)
    data = file.read(size)
    body = b"WAVE"
    for kind, content in ((b"fmt ", chunks.format), (b"fact", chunks.fact), (b"data", data)):
        if content or kind == b"data":
            body += kind + struct.pack(f"{order}I", len(content)) + content + bytes(len(content) % 2)
    return io.BytesIO((b"RIFX" if order == ">" else b"RIFF") + struct.pack(f"{order}I", len(body)) + body)


def _open(content: functools.partial[BinaryIO], remark: str, name: str) -> AudioHeader:
    try:
        with soundfile.SoundFile(content()) as sound:
            return AudioHeader(sound.samplerate, sound.channels, sound.frames, sound.subtype == "PCM_16", remark=remark)
    except (soundfile.SoundFileError, TypeError) as error:
        raise UnknownAudioError(f"{name}: not readable as audio ({reason_of(error)}).") from None


def _plain_header(format: bytes, order: str, num_bytes: int) -> AudioHeader | None:
    """What libsndfile makes of whole numbers of 8 to 32 bits, which it need not be asked for: that is half of the time
    of a header. None for anything else."""
    if len(format) not in (16, 18):
        return None
    tag, num_channels, rate, _, block, bits = struct.unpack(f"{order}HHIIHH", format[:16])
    if tag != _PCM or bits not in (8, 16, 24, 32) or not 0 < num_channels <= 32 or block * 8 != num_channels * bits:
        return None
    return AudioHeader(rate, num_channels, num_bytes // block, bits == 16)


def _mpeg_inside(file: BinaryIO, begin: int, present: int, promised: int, name: str, thorough: bool) -> Contents:
    if present < promised:
        raise AudioError(f"{name}: its header says {promised} bytes of MP3, {present} are there: truncated?")
    file.seek(begin)
    return count_mpeg(file.read(present), name, thorough=thorough)


def _refuse_more(file: BinaryIO, end: int, size: int, num_bytes: int, bytes_per_second: int, name: str) -> None:
    """AudioError when a second file stands behind the chunks, or so much that the size of the samples is wrong."""
    behind = size - end
    if behind <= 0:
        return
    file.seek(end)
    rest = file.read()
    if rest[:4] in MAGICS and rest[8:12] == b"WAVE":
        raise AudioError(f"{name}: a second WAV file stands behind the first (byte {end}): split them.")
    if behind > MOST_SHORT_SECONDS * bytes_per_second and behind > MOST_SHORT_SHARE * num_bytes and any(rest):
        raise AudioError(
            f"{name}: its header says {num_bytes} bytes of samples, but {behind} more stand behind them: not closed "
            "properly? Write it again, for instance with ffmpeg or sox."
        )
