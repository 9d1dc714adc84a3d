"""FLAC: whether the last frame is the one with which STREAMINFO ends, or, where it says no length, where that is.

libsndfile reads as many samples as STREAMINFO says, and none behind; nothing there tells how long a stream is that was
written through a pipe. But every frame's header holds its own place in the stream.

Source: RFC 9639.
"""

from __future__ import annotations

import functools
import io
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from data.audio.formats.mpeg_frames import trailing_tags
from data.audio.formats.parts import Contents, Part
from data.utterance import AudioHeader
from trainer.errors import AudioError

MAGIC = b"fLaC"
_TAIL = 65_536
"""Bytes at the end in which the last frame is looked for first."""
_BLOCK_SIZES = {1: 192, **{i: 144 << i for i in range(2, 6)}, **{i: 1 << i for i in range(8, 16)}}


@dataclass(frozen=True)
class StreamInfo:
    """What FLAC's first metadata block says."""

    max_block: int
    rate: int
    num_channels: int
    bits: int
    num_samples: int
    """0: not said."""


def count_flac(file: BinaryIO, start: int, name: str, *, thorough: bool) -> Contents:
    """What the FLAC stream at byte `start` of `file` holds; AudioError when its end is not there, or not its own.

    Only `thorough` looks for a second stream behind the first: that takes reading all.
    """
    file.seek(start)
    head = file.read(42)
    if len(head) < 42 or head[4] & 0x7F or head[5:8] != b"\0\0\x22":
        raise AudioError(f"{name}: not readable as audio (its FLAC header is cut off or damaged).")
    info = _stream_info(head[8:42])
    if not info.rate or info.max_block < 16:
        raise AudioError(f"{name}: not readable as audio (its FLAC header is damaged: {info.rate} Hz).")
    size = file.seek(0, os.SEEK_END)
    file.seek(max(start, size - _TAIL))
    tail = file.read()
    num_samples = info.num_samples
    if not num_samples or all(end != num_samples for _, end in _frame_ends(tail, info)):
        file.seek(start)
        found = _last_whole_frame(file.read(), info)
        if num_samples:
            raise AudioError(
                f"{name}: its header says {num_samples} samples, its last frame ends at {found or 'none'}: truncated, "
                "damaged, or joined of several files?"
            )
        if found is None:
            raise AudioError(
                f"{name}: its header does not say how long it is, and its last frame is cut off: truncated?"
            )
        num_samples = found
    if thorough:
        file.seek(start)
        if (second := file.read().find(head[:8], 8)) >= 0:
            raise AudioError(f"{name}: a second FLAC file stands behind the first (byte {start + second}): split them.")
    header = AudioHeader(info.rate, info.num_channels, num_samples, info.bits == 16)
    return Contents(header, (Part(functools.partial(_with_length, file, start, num_samples), num_samples),))


def _stream_info(block: bytes) -> StreamInfo:
    (max_block,) = struct.unpack(">H", block[2:4])
    packed = int.from_bytes(block[10:18], "big")
    return StreamInfo(
        max_block,
        rate=packed >> 44,
        num_channels=(packed >> 41 & 7) + 1,
        bits=(packed >> 36 & 31) + 1,
        num_samples=packed & (1 << 36) - 1,
    )


def _with_length(file: BinaryIO, start: int, num_samples: int) -> BinaryIO:
    """The stream as it is, with its length in STREAMINFO."""
    file.seek(start)
    if start == 0:
        head = file.read(26)
        if int.from_bytes(head[21:26], "big") & (1 << 36) - 1 == num_samples:
            file.seek(0)
            return file
        file.seek(0)
    content = bytearray(file.read())
    content[21:26] = (int.from_bytes(content[21:26], "big") >> 36 << 36 | num_samples).to_bytes(5, "big")
    return io.BytesIO(bytes(content))


def _frame_ends(data: bytes, info: StreamInfo) -> Iterator[tuple[int, int]]:
    """(Byte, sample behind its last) of what looks like a frame's header, from the last one back."""
    at = len(data)
    while (at := data.rfind(b"\xff", 0, at)) >= 0:
        if data[at + 1 : at + 2] in (b"\xf8", b"\xf9") and (end := _frame_end(data[at : at + 16], info)) is not None:
            yield at, end


def _frame_end(header: bytes, info: StreamInfo) -> int | None:
    """The sample behind the last of the frame with this header, or None when it is none (its checksum tells)."""
    if len(header) < 6 or header[3] & 1 or header[2] >> 4 == 0 or header[2] & 15 == 15:
        return None
    number, at = header[4], 5
    if 0xC0 <= number < 0xFF:  # as in UTF-8, up to seven bytes
        more = 8 - (number ^ 0xFF).bit_length() - 1
        number &= (1 << 6 - more) - 1
        for byte in header[5 : 5 + more]:
            number = number << 6 | byte & 0x3F
        at += more
    elif number >= 0x80:
        return None
    code, rate_code = header[2] >> 4, header[2] & 15
    if code in (6, 7):
        num_samples = int.from_bytes(header[at : at + code - 5], "big") + 1
        at += code - 5
    else:
        num_samples = _BLOCK_SIZES[code]
    at += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if len(header) <= at or _checksum(header[: at + 1], _CRC8, 8) != 0:
        return None
    return (number if header[1] & 1 else number * info.max_block) + num_samples


def _last_whole_frame(data: bytes, info: StreamInfo) -> int | None:
    """The sample behind the last frame, when that is all there."""
    most_bytes = 4 * info.max_block * info.num_channels + 256
    for at, end in _frame_ends(data, info):
        if _is_whole(data[at:]):
            return end
        if len(data) - at > 2 * most_bytes:
            break
    return None


def _is_whole(frame: bytes) -> bool:
    """Whether a frame's checksum stands at its end, or before tags and zeros there."""
    bare = len(frame.rstrip(b"\0"))
    ends = {len(frame), trailing_tags(frame, len(frame)), bare, bare + 1}
    return any(8 < end <= len(frame) and _checksum(frame[:end], _CRC16, 16) == 0 for end in ends)


def _table(polynomial: int, width: int) -> tuple[int, ...]:
    """What each byte makes of an empty register."""
    table = []
    for byte in range(256):
        register = byte << width - 8
        for _ in range(8):
            register = register << 1 ^ (polynomial if register >> width - 1 else 0)
            register &= (1 << width) - 1
        table.append(register)
    return tuple(table)


_CRC8, _CRC16 = _table(0x07, 8), _table(0x8005, 16)


def _checksum(content: bytes, table: tuple[int, ...], width: int) -> int:
    """0 when `content` ends with its own checksum."""
    register, mask = 0, (1 << width) - 1
    for byte in content:
        register = register << 8 & mask ^ table[register >> width - 8 ^ byte]
    return register
