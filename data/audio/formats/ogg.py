"""Ogg, page by page: which recordings follow each other in a file, and whether every page of each is there.

`cat a.ogg b.ogg` is a valid file, a chain of two links, of which libsndfile reads the first. A link may hold several
streams side by side (a video's picture and sound). Here every page's checksum and number is verified, one audio stream
is picked of each link, and libsndfile is given it alone; FLAC without its pages, since libsndfile reads no Ogg FLAC.

Source: RFC 3533 (pages), RFC 7845 (Opus), xiph.org/flac/ogg_mapping.html.
"""

from __future__ import annotations

import functools
import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import soundfile

from data.audio.formats.parts import Contents, Part, reason_of
from data.utterance import AudioHeader
from trainer.errors import AudioError, UnknownAudioError

MAGIC = b"OggS"
_FIRST, _LAST = 2, 4
_AUDIO = {b"\x01vorbis": "Vorbis", b"OpusHead": "Opus", b"\x7fFLAC": "FLAC"}
_UNREAD = {b"Speex   ": "Speex", b"CELT    ": "CELT", b"\x01audio": "OGM audio", b"PCM     ": "PCM"}
_SILENT = (
    b"\x80theora", b"\x80daala", b"BBCD\0", b"OVP80\x01", b"\x01video", b"YUV4MPEG", b"\x89PNG", b"\x8aMNG", b"\x8bJNG",
    b"UVS ", b"fishead\0", b"\x80kate", b"\x01text", b"CMML\0", b"Annodex\0", b"AnxData\0",
)  # fmt: skip
"""How streams of pictures and of texts begin, and those that describe others; they may stand beside the sound."""
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True)
class Page:
    """One page, whose checksum is right."""

    start: int
    stop: int
    flags: int
    granule: int
    serial: int
    number: int
    lacing: bytes
    """Lengths of its segments."""


@dataclass
class Stream:
    """The pages of one serial number in one link."""

    serial: int
    pages: list[Page] = field(default_factory=list)


def count_ogg(data: bytes, name: str) -> Contents:
    """What the Ogg file `data` holds; AudioError when a page is missing or damaged, or no one stream is to be read."""
    links = list(_links(data, name))
    if not links:
        raise AudioError(f"{name}: not readable as audio (no Ogg page is whole).")
    headers, parts = [], []
    for number, streams in enumerate(links, 1):
        where = f"{name}, recording {number} of the {len(links)} joined in it" if len(links) > 1 else name
        for stream in streams:
            _check_whole(stream, where)
        stream, codec = _audio_stream(data, streams, where)
        content = functools.partial(_as_flac if codec == "FLAC" else _as_ogg, data, stream.pages)
        try:
            with soundfile.SoundFile(content()) as sound:
                headers.append(AudioHeader(sound.samplerate, sound.channels, sound.frames, False))
        except soundfile.SoundFileError as error:
            raise UnknownAudioError(f"{where}: not readable as audio (Ogg {codec}: {reason_of(error)}).") from None
        parts.append(Part(content, headers[-1].num_frames))
    first = headers[0]
    for header in headers[1:]:
        if (header.rate, header.num_channels) != (first.rate, first.num_channels):
            raise AudioError(
                f"{name}: recordings of several kinds are joined in it: {first.num_channels} channels of {first.rate} "
                f"Hz, then {header.num_channels} of {header.rate} Hz. Convert it to FLAC or WAV."
            )
    total = sum(header.num_frames for header in headers)
    return Contents(AudioHeader(first.rate, first.num_channels, total, False), tuple(parts))


def read_pages(data: bytes) -> Iterator[Page]:
    """The whole pages, in their order. What stands between them, a damaged page too, is passed over."""
    at = 0
    while (at := data.find(MAGIC, at)) >= 0:
        num_segments = data[at + 26] if at + 27 <= len(data) else 0
        lacing = data[at + 27 : at + 27 + num_segments]
        stop = at + 27 + num_segments + sum(lacing)
        if at + 27 <= len(data) and stop <= len(data) and len(lacing) == num_segments and data[at + 4] == 0:
            flags, granule, serial, number, checksum = struct.unpack("<BqIII", data[at + 5 : at + 26])
            if _checksum(data[at : at + 22] + bytes(4) + data[at + 26 : stop]) == checksum:
                yield Page(at, stop, flags, granule, serial, number, lacing)
                at = stop
                continue
        at += 1


def _checksum(page: bytes) -> int:
    """Ogg's CRC-32: the polynomial of zlib's, but the high bit first, and nothing inverted."""
    mirrored = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


def _links(data: bytes, name: str) -> Iterator[list[Stream]]:
    """The streams of each link: first all their first pages, then the others."""
    streams: dict[int, Stream] = {}
    began = False
    for page in read_pages(data):
        if page.flags & _FIRST:
            if began or page.serial in streams:
                yield list(streams.values())
                streams, began = {}, False
            streams[page.serial] = Stream(page.serial, [page])
        elif page.serial in streams:
            began = True
            streams[page.serial].pages.append(page)
        else:
            raise AudioError(
                f"{name}: an Ogg stream begins in its middle (byte {page.start}): its first page is missing or damaged."
            )
    if streams:
        yield list(streams.values())


def _audio_stream(data: bytes, streams: Sequence[Stream], where: str) -> tuple[Stream, str]:
    """The one stream that is audio, and its codec."""
    found, strange = [], []
    for stream in streams:
        page = stream.pages[0]
        packet = data[page.start + 27 + len(page.lacing) : page.stop]
        codecs = [codec for magic, codec in (*_AUDIO.items(), *_UNREAD.items()) if packet.startswith(magic)]
        found += [(stream, codec) for codec in codecs]
        if not codecs and not packet.startswith(_SILENT):
            strange.append((page.start, packet[:8]))
    if found and strange:
        raise AudioError(
            f"{where}: beside its sound, the Ogg page at byte {strange[0][0]} begins a stream of an unknown kind "
            f"({strange[0][1]!r}). If it is sound too, it would be lost: convert the file to FLAC or WAV."
        )
    if len(found) != 1:
        many = f"{len(found)} audio streams side by side" if found else "no Vorbis, Opus or FLAC stream"
        error = AudioError if found else UnknownAudioError
        raise error(f"{where}: {many}. Convert the one that is meant to FLAC or WAV.")
    if found[0][1] not in _AUDIO.values():
        raise UnknownAudioError(f"{where}: Ogg {found[0][1]} is not read. Convert it to FLAC or WAV.")
    return found[0]


def _check_whole(stream: Stream, where: str) -> None:
    """AudioError when a page lacks: they are numbered, and the last says that it is the last."""
    for before, page in zip(stream.pages, stream.pages[1:], strict=False):
        if page.number != (before.number + 1) % 2**32:
            raise AudioError(
                f"{where}: behind Ogg page {before.number} comes page {page.number}: one is missing or damaged."
            )
    if not stream.pages[-1].flags & _LAST:
        raise AudioError(f"{where}: its last Ogg page is missing: truncated?")


def _as_ogg(data: bytes, pages: Sequence[Page]) -> io.BytesIO:
    return io.BytesIO(b"".join(data[page.start : page.stop] for page in pages))


def _as_flac(data: bytes, pages: Sequence[Page]) -> io.BytesIO:
    """The same stream without Ogg: its first packet holds STREAMINFO behind 9 bytes, every other packet a block."""
    packets = list(_packets(data, pages))
    num_samples = max(pages[-1].granule, 0)
    info = bytearray(packets[0][9:])
    if not info[21] & 15 and not any(info[22:26]):  # written through a pipe: the last page knows
        info[21] |= num_samples >> 32 & 15
        info[22:26] = struct.pack(">I", num_samples & 0xFFFFFFFF)
    return io.BytesIO(bytes(info) + b"".join(packets[1:]))


def _packets(data: bytes, pages: Sequence[Page]) -> Iterator[bytes]:
    """The packets, put together of segments: one shorter than 255 bytes ends a packet."""
    segments: list[bytes] = []
    for page in pages:
        at = page.start + 27 + len(page.lacing)
        for length in page.lacing:
            segments.append(data[at : at + length])
            at += length
            if length < 255:
                yield b"".join(segments)
                segments = []
