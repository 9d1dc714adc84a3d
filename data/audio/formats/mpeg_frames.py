"""The frames of MPEG audio (MP3, layers I to III) and the tags around them, each by its own bytes.

A frame begins with four bytes that tell its length and its kind. The first may be no sound but tell of the rest: how
many frames and bytes follow ("Xing", "Info", "VBRI"), how many samples of delay and padding the encoder added ("LAME").

Sources: ISO/IEC 11172-3 and 13818-3; gabriel.mp3-tech.org/mp3infotag.html; id3.org; wiki.hydrogenaud.io (APEv2).
"""

from __future__ import annotations

import functools
import re
import struct
from dataclasses import dataclass

_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""Samples per second by version bits (3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5) and index."""
_KBITS = {
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Kilobits per second by (MPEG 1, layer) and index; index 0 is free format, 15 is forbidden."""
DECODER_DELAY = 529
"""Samples that every decoder of layer III adds before the encoder's own delay."""
_GAPLESS = (b"LAME", b"Lavf", b"Lavc")
"""Encoders whose delay and padding ffmpeg believes."""


@dataclass(frozen=True)
class FrameHeader:
    """What the four bytes of a frame say, but for the channel mode's details."""

    version: int
    layer: int
    rate: int
    mono: bool
    samples: int
    """Per channel."""
    size: int
    """Bytes, header included; 0 where the format is free."""
    padding: int
    """Bytes of padding, part of `size`; of a free-format frame too."""
    has_checksum: bool

    @property
    def kind(self) -> tuple[int, int, int, bool]:
        """What is the same in all frames of one recording."""
        return self.version, self.layer, self.rate, self.mono

    @property
    def side_info(self) -> int:
        """Bytes of layer III's side information."""
        return (17 if self.mono else 32) if self.version == 3 else (9 if self.mono else 17)


@functools.lru_cache(maxsize=4096)
def parse_header(four: bytes) -> FrameHeader | None:
    """The header in these four bytes, or None.

    >>> parse_header(bytes.fromhex("fffb9064")).size
    417
    """
    if len(four) < 4 or four[0] != 0xFF or four[1] < 0xE0:
        return None
    version, layer = four[1] >> 3 & 3, 4 - (four[1] >> 1 & 3)
    bits, rate_index, padding = four[2] >> 4, four[2] >> 2 & 3, four[2] >> 1 & 1
    if version == 1 or layer == 4 or bits == 15 or rate_index == 3:
        return None
    rate, kbits = _RATES[version][rate_index], _KBITS[version == 3, layer][bits]
    slot = 4 if layer == 1 else 1
    samples = 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1152
    size = (samples // 8 // slot * 1000 * kbits // rate + padding) * slot if kbits else 0
    return FrameHeader(version, layer, rate, four[3] >> 6 == 3, samples, size, padding * slot, not four[1] & 1)


@dataclass(frozen=True)
class Info:
    """A frame that tells of the others."""

    num_frames: int | None
    num_bytes: int | None
    delay: int
    padding: int


def skip_id3(data: bytes, at: int = 0) -> int:
    """The first byte behind the ID3v2 tags (there may be several) that stand at `at`."""
    while data[at : at + 3] == b"ID3" and len(data) >= at + 10 and max(data[at + 6 : at + 10]) < 0x80:
        size = functools.reduce(lambda n, byte: n << 7 | byte, data[at + 6 : at + 10], 0)
        at += 10 + size + (10 if data[at + 5] & 0x10 else 0)
    return at


def trailing_tags(data: bytes, end: int) -> int:
    """Where the tags (ID3v1, Lyrics3, APE) begin that end at `end`."""
    while True:
        before = end
        if data[end - 128 : end - 125] == b"TAG":
            end -= 128
        if data[end - 9 : end] == b"LYRICS200" and data[end - 15 : end - 9].isdigit():
            end -= int(data[end - 15 : end - 9]) + 15
        if data[end - 9 : end] == b"LYRICSEND" and (start := data.rfind(b"LYRICSBEGIN", 0, end)) >= 0:
            end = start
        if data[end - 32 : end - 24] == b"APETAGEX":
            size, _, flags = struct.unpack("<III", data[end - 20 : end - 8])
            end -= size + (32 if flags & 0x80000000 else 0)
        if end == before or end <= 0:
            return max(0, before)


def behind_tag(data: bytes, at: int) -> int:
    """The first byte behind the tag, or the zeros, that stand at `at`; `at` itself when there is neither.

    What claims to end behind the end of the data is no tag: damage would hide all that follows.
    """
    if data[at : at + 3] == b"ID3":
        behind = skip_id3(data, at)
        return behind if behind <= len(data) else at
    if data[at : at + 3] == b"TAG" and len(data) - at >= 128:
        return at + 128
    if data[at : at + 8] == b"APETAGEX" and len(data) - at >= 32:
        # its size counts the footer, and the header too only if this is one
        behind = at + 32 + struct.unpack("<I", data[at + 12 : at + 16])[0]
        return behind if behind <= len(data) else at
    if data[at : at + 11] == b"LYRICSBEGIN":
        ends = [data.find(mark, at) + 9 for mark in (b"LYRICS200", b"LYRICSEND") if mark in data[at:]]
        return min(ends, default=at)
    return behind_zeros(data, at)


def behind_zeros(data: bytes, at: int) -> int:
    found = re.compile(rb"\0*").match(data, at)
    return found.end() if found else at


def free_size(data: bytes, at: int, header: FrameHeader) -> int:
    """Bytes of a free-format frame, from where the next one of its kind begins; 0 when none does."""
    sync, end = data[at : at + 2], min(len(data), at + 8192)
    found = at + 32
    while (found := data.find(sync, found, end)) >= 0:
        other = parse_header(data[found : found + 4])
        if other is not None and other.size == 0 and other.kind == header.kind:
            return found - at
        found += 1
    return 0


def read_info(data: bytes, at: int, header: FrameHeader) -> Info | None:
    """What the frame at `at` tells of the others, or None where it is sound."""
    if header.layer != 3:
        return None
    if data[at + 36 : at + 40] == b"VBRI":
        num_bytes, num_frames = struct.unpack(">II", data[at + 46 : at + 54].ljust(8, b"\0"))
        return Info(num_frames or None, num_bytes or None, 0, 0)
    # a checksum of two bytes may stand before the side information; LAME, ffmpeg and mpg123 do not count it
    for tag in (at + 4 + header.side_info, at + 6 + header.side_info)[: 2 if header.has_checksum else 1]:
        if data[tag : tag + 4] not in (b"Xing", b"Info"):
            continue
        flags, fields = int.from_bytes(data[tag + 4 : tag + 8], "big"), tag + 8
        values: list[int | None] = [None, None]
        for i in range(2):
            if flags >> i & 1:
                values[i] = int.from_bytes(data[fields : fields + 4], "big")
                fields += 4
        fields += 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1)
        delay = padding = 0
        if data[fields : fields + 4] in _GAPLESS:
            both = int.from_bytes(data[fields + 21 : fields + 24], "big")
            delay, padding = (both >> 12) + DECODER_DELAY, max(0, (both & 0xFFF) - DECODER_DELAY)
        return Info(values[0] or None, values[1] or None, delay, padding)
    return None
