"""MP3 and Ogg by their own bytes, for tests: what a stream holds, and streams that no encoder at hand writes.

Written from ISO 11172-3, RFC 3533 and RFC 7845. No line is shared with data.audio, and libsndfile has no part in the
counting.
"""

from __future__ import annotations

import io
import re
import struct

import numpy as np
import soundfile

from tests.helpers.reference import Unreadable

Frame = tuple[int, int, int]
"""(First byte, bytes, samples) of an MPEG frame."""


def mpeg_header(content: bytes, at: int) -> tuple[tuple[int, int, int, bool], int, int] | None:
    """((version, layer, rate, is mono), bytes, samples) of the frame of a fixed bit rate at `at`, or None."""
    if at + 4 > len(content):
        return None
    word = int.from_bytes(content[at : at + 4], "big")
    version, layer = {0: 25, 2: 2, 3: 1}.get(word >> 19 & 3), {1: 3, 2: 2, 3: 1}.get(word >> 17 & 3)
    index, rate_index, padding = word >> 12 & 15, word >> 10 & 3, word >> 9 & 1
    if word >> 21 != 0x7FF or version is None or layer is None or index in (0, 15) or rate_index == 3:
        return None
    rate = (44_100, 48_000, 32_000)[rate_index] // {1: 1, 2: 2, 25: 4}[version]
    if version == 1:
        steps = {1: "32 64 96 128 160 192 224 256 288 320 352 384 416 448",
                 2: "32 48 56 64 80 96 112 128 160 192 224 256 320 384",
                 3: "32 40 48 56 64 80 96 112 128 160 192 224 256 320"}[layer]  # fmt: skip
    else:
        steps = "32 48 56 64 80 96 112 128 144 160 176 192 224 256" if layer == 1 else (
            "8 16 24 32 40 48 56 64 80 96 112 128 144 160"
        )  # fmt: skip
    bits = 1000 * int(steps.split()[index - 1])
    samples = 384 if layer == 1 else 576 if layer == 3 and version != 1 else 1152
    size = (12 * bits // rate + padding) * 4 if layer == 1 else samples // 8 * bits // rate + padding
    return (version, layer, rate, word >> 6 & 3 == 3), size, samples


def mpeg_frames(content: bytes) -> list[Frame]:
    """Every frame of the kind of the first.

    By ISO 11172-3 frames follow each other directly. Its sync word may stand in sound or junk by chance, so a header
    alone is no frame. Accepted is one

    - that follows a frame, with nothing or zeros between. No header begins with a zero byte, so zeros hide none: behind
      700 of them ffmpeg, mpg123 and libsndfile read every frame, behind 5000 ffmpeg alone does;
    - that is followed by a frame of its kind or by nothing (zeros and an ID3v1 tag aside). Behind junk, zeros may stand
      before the follower: mpg123 and libsndfile read such a frame, ffmpeg loses it. Not so for the first of all: all
      three pass over a first frame with zeros behind it, since no stream is known yet to which it could belong;
    - that is an information frame (`is_info`). Header and mark together are 64 bits, which do not stand there by
      chance: ffmpeg cuts the delay of which such a frame tells, also where zeros or junk stand behind it.
    """
    frames: list[Frame] = []
    at, kind = 0, None
    while at < len(content):
        header = mpeg_header(content, at)
        if header is not None and (kind is None or header[0] == kind) and at + header[1] <= len(content):
            frame = (at, *header[1:])
            rest = content[at + header[1] :]
            follower = rest.lstrip(b"\0") if frames else rest
            following = mpeg_header(follower, 0)
            is_followed = following is not None and following[0] == header[0]
            is_behind = bool(frames) and not any(content[sum(frames[-1][:2]) : at])
            if is_followed or is_behind or _is_end(rest) or is_info(content, frame):
                kind = header[0]
                frames.append(frame)
                at += header[1]
                continue
        at += 1
    return frames


def _is_end(rest: bytes) -> bool:
    rest = rest.lstrip(b"\0")
    return not rest or (rest[:3] == b"TAG" and len(rest) == 128)


def is_info(content: bytes, frame: Frame) -> bool:
    """Whether the frame tells of the others: Xing's mark (LAME's "Info" too) or Fraunhofer's, each in its own place.

    "Xing" stands behind the header's 4 bytes and the side information, whose length depends on version and channels.
    LAME, ffmpeg, mpg123 and libsndfile count no checksum before it. A writer that counts it puts the mark two bytes on:
    no sound either, but only where the header's protection bit is 0, else there is no checksum. "VBRI" stands 32 bytes
    behind the header of every kind. The same letters elsewhere are sound. Layers I and II have no such frame.
    """
    (version, layer, _, is_mono), _, _ = mpeg_header(content, frame[0]) or ((0, 0, 0, False), 0, 0)
    side = {(1, False): 32, (1, True): 17, (2, False): 17, (2, True): 9}[min(version, 2), is_mono]
    here = content[frame[0] : frame[0] + frame[1]]
    marks = [here[4 + side : 8 + side], here[6 + side : 10 + side] if not here[1] & 1 else b""]
    return layer == 3 and (here[36:40] == b"VBRI" or b"Xing" in marks or b"Info" in marks)


def reference_mpeg(content: bytes) -> int:
    """Samples of sound per channel: each recording's frames, less the delay and padding of which its first tells.

    LAME's tag follows the fields of which Xing's flags tell: 21 bytes on, 12 bits of delay and 12 of padding. A decoder
    adds 529 samples of its own in front, so as many fewer are to be cut at the end. ffmpeg believes the tag of LAME and
    of itself. Where other frames follow than the tag promises, the padding is elsewhere, and nothing is cut at the end.
    """
    streams: list[list[Frame]] = []
    infos: list[bytes] = []
    for frame in mpeg_frames(content):
        if is_info(content, frame):
            streams.append([])
            infos.append(content[frame[0] : frame[0] + 200])  # ffmpeg reads on where a wrong header makes it shorter
        else:
            if not streams:
                streams.append([])
                infos.append(b"")
            streams[-1].append(frame)
    if not any(streams):
        raise Unreadable("no frame")
    total = 0
    for frames, info in zip(streams, infos, strict=True):
        count = sum(samples for _, _, samples in frames)
        mark = None if info[36:40] == b"VBRI" else re.search(rb"(?:Xing|Info)(....)", info, re.DOTALL)
        if frames and mark:
            flags, at = int.from_bytes(mark[1], "big"), mark.end()
            promised = int.from_bytes(info[at : at + 4], "big") if flags & 1 else None
            at += 4 * (flags & 1) + 2 * (flags & 2) + 25 * (flags & 4) + (flags & 8) // 2
            if info[at : at + 4] in (b"LAME", b"Lavf", b"Lavc"):
                both = int.from_bytes(info[at + 21 : at + 24], "big")
                count -= both // 4096 + 529
                if promised == len(frames):
                    count -= max(0, both % 4096 - 529)
        total += max(0, count) if frames else 0
    return total


def mp3(samples: np.ndarray, rate: int = 16_000, *, mode: str = "CONSTANT", level: float = 0.5) -> bytes:
    """MP3 as LAME writes it, with its frame "Info"."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="MP3", bitrate_mode=mode, compression_level=level)
    return file.getvalue()


def without_info(content: bytes) -> bytes:
    """The frames of sound alone, as a stream has them."""
    frames = [frame for frame in mpeg_frames(content) if not is_info(content, frame)]
    return b"".join(content[at : at + size] for at, size, _ in frames)


# Ogg


_CRC = []
for _byte in range(256):
    _register = _byte << 24
    for _ in range(8):
        _register = (_register << 1 ^ (0x04C11DB7 if _register >> 31 else 0)) & 0xFFFFFFFF
    _CRC.append(_register)


def ogg_checksum(page: bytes) -> int:
    register = 0
    for byte in page[:22] + bytes(4) + page[26:]:
        register = register << 8 & 0xFFFFFFFF ^ _CRC[register >> 24 ^ byte]
    return register


def with_checksum(page: bytes) -> bytes:
    """`page` with the checksum that belongs to it."""
    return page[:22] + struct.pack("<I", ogg_checksum(page)) + page[26:]


def ogg_pages(content: bytes) -> list[bytes]:
    """The pages whose checksum is right."""
    pages, at = [], 0
    while 0 <= (at := content.find(b"OggS\0", at)) <= len(content) - 27:
        lacing = content[at + 27 : at + 27 + content[at + 26]]
        page = content[at : at + 27 + len(lacing) + sum(lacing)]
        is_whole = len(lacing) == content[at + 26] and len(page) == 27 + len(lacing) + sum(lacing)
        if is_whole and struct.unpack("<I", page[22:26])[0] == ogg_checksum(page):
            pages.append(page)
            at += len(page)
        else:
            at += 1
    return pages


def reference_ogg(content: bytes) -> int:
    """Samples per channel of all recordings of a chain, from the places where each begins and its last page ends it."""
    links: list[list[bytes]] = []
    for page in ogg_pages(content):
        if page[5] & 2:
            links.append([])
        if not links or page[14:18] != (links[-1] or [page])[0][14:18]:
            raise Unreadable("a page of no stream, or several side by side")
        if links[-1] and struct.unpack("<I", page[18:22])[0] != len(links[-1]) + _number(links[-1][0]):
            raise Unreadable("a page is missing")
        links[-1].append(page)
    if not links or not all(link[-1][5] & 4 for link in links):
        raise Unreadable("no end")
    total = 0
    for link in links:
        packet = link[0][27 + link[0][26] :]
        end = struct.unpack("<q", link[-1][6:14])[0]
        if packet[:8] == b"OpusHead":
            skip, rate = struct.unpack("<HI", packet[10:16])
            total += (
                (end - _opus_start(link) - skip)
                * (rate if rate in (8000, 12_000, 16_000, 24_000, 48_000) else 48_000)
                // 48_000
            )
        else:
            total += end
    return total


def _opus_start(link: list[bytes]) -> int:
    """Where an Opus recording begins, at 48 kHz: the first page of sound says where its packets end (RFC 7845, 4.5).

    Not 0 where a stream was joined late. Where that page is the last too, its place cuts the end instead.
    """
    page = next((page for page in link if int.from_bytes(page[6:14], "little", signed=True) > 0), link[-1])
    if page[5] & 4:
        return 0
    at, length, samples = 27 + page[26], 0, 0
    for lacing in page[27 : 27 + page[26]]:
        length += lacing
        if lacing < 255:
            samples += _opus_samples(page[at : at + length])
            at, length = at + length, 0
    return max(0, int.from_bytes(page[6:14], "little") - samples)


def _opus_samples(packet: bytes) -> int:
    """Samples at 48 kHz of a packet, by its first bytes (RFC 6716, 3.1)."""
    config, code = packet[0] >> 3, packet[0] & 3
    if config < 12:
        frame = (480, 960, 1920, 2880)[config % 4]
    else:
        frame = (480, 960)[config % 2] if config < 16 else (120, 240, 480, 960)[config % 4]
    return frame * (packet[1] & 63 if code == 3 else 1 if code == 0 else 2)


def _number(page: bytes) -> int:
    return int.from_bytes(page[18:22], "little")
