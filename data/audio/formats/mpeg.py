"""MPEG audio (MP3, layers I to III), counted frame by frame; libsndfile estimates where no Xing frame says a length.

A stream is a row of frames; around and between them stand tags, zeros and what else a writer left. Joined files hold
several. What is decoded is the frames alone, behind a frame "Xing" with their true number: so libsndfile reads all of
them. The encoder's delay and padding are cut off as ffmpeg and players do.
"""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from data.audio.formats.mpeg_frames import (
    DECODER_DELAY,
    FrameHeader,
    behind_tag,
    behind_zeros,
    free_size,
    parse_header,
    read_info,
    skip_id3,
    trailing_tags,
)
from data.audio.formats.mpeg_sync import first_frame, is_tag, next_frame
from data.audio.formats.parts import Contents, Part
from data.utterance import AudioHeader
from trainer.errors import AudioError


@dataclass
class Stream:
    """Frames that belong together: one recording, with what its own first frame tells of it."""

    runs: list[tuple[int, int]] = field(default_factory=list)
    """(First byte, first byte behind) of whole frames that follow each other."""
    num_frames: int = 0
    promised: int | None = None
    """Frames that the Xing or VBRI frame tells of."""
    promised_end: int | None = None
    """The first byte behind the bytes that it tells of."""
    delay: int = 0
    """Samples at the start that are no sound: the encoder's delay and the decoder's."""
    padding: int = 0
    """Samples at the end that are no sound."""
    last_size: int = 0
    """Bytes of the last frame."""

    def add(self, start: int, stop: int, count: int, last_size: int) -> None:
        """`count` more frames, which follow each other directly."""
        if self.runs and self.runs[-1][1] == start:
            self.runs[-1] = (self.runs[-1][0], stop)
        else:
            self.runs.append((start, stop))
        self.num_frames += count
        self.last_size = last_size

    @property
    def first(self) -> int:
        """The first byte of its first frame."""
        return self.runs[0][0] if self.runs else 0

    def num_samples(self, per_frame: int) -> int:
        """Samples of sound. Padding is cut only where the frames are as many as promised, else the end is elsewhere."""
        return max(0, self.num_frames * per_frame - self.delay - (self.padding if self.is_whole else 0))

    @property
    def is_whole(self) -> bool:
        return self.promised == self.num_frames


def looks_like_mpeg(head: bytes) -> bool:
    """Whether a file that begins with `head`, behind ID3v2 tags, is a row of MPEG frames."""
    # a film (00 00 01) may hold such rows too
    return not head.startswith(b"\0\0\1") and first_frame(head, 0) is not None


def count_mpeg(data: bytes, name: str, *, thorough: bool) -> Contents:
    """What the MPEG stream `data` holds; AudioError when it is cut off or of several kinds.

    All frames are walked; unless `thorough`, LAME's frame is believed where as many bytes are there as it says.
    """
    tags = skip_id3(data)
    start = first_frame(data, tags)
    if start is not None and start > behind_zeros(data, tags) and (inside := first_frame(data, min(10, tags))):
        start = min(start, inside)  # frames inside the tag: its length is damaged
    header = None if start is None else parse_header(data[start : start + 4])
    if start is None or header is None:
        raise AudioError(f"{name}: not readable as audio (no two MPEG frames follow each other).")
    num_channels = 1 if header.mono else 2
    info = read_info(data, start, header)
    if (
        not thorough
        and info
        and info.delay
        and info.num_frames
        and info.num_bytes == trailing_tags(data, len(data)) - start
    ):
        believed = Stream(num_frames=info.num_frames, promised=info.num_frames, delay=info.delay, padding=info.padding)
        return Contents(AudioHeader(header.rate, num_channels, believed.num_samples(header.samples), False), ())
    streams, num_lost = _walk(data, tags, start, header, name)
    parts = tuple(
        Part(
            functools.partial(_as_file, data, stream),
            stream.num_samples(header.samples),
            stream.delay + (header.samples - DECODER_DELAY if header.layer == 3 else 0),
            is_mpeg=True,
        )
        for stream in streams
    )
    num_frames = sum(part.num_frames for part in parts)
    return Contents(
        AudioHeader(header.rate, num_channels, num_frames, False, num_missing=num_lost * header.samples), parts
    )


class _Sizes(dict[bytes, int]):
    """Bytes of a frame by its header's four bytes; 0 where they are no header of the stream's kind."""

    def __init__(self, first: FrameHeader, free: int) -> None:
        self.kind, self.free = first.kind, free

    def __missing__(self, four: bytes) -> int:
        header = parse_header(four)
        size = 0 if header is None or header.kind != self.kind else header.size or self.free + header.padding
        self[four] = size if size > 4 else 0
        return self[four]


def _walk(data: bytes, tags: int, at: int, first: FrameHeader, name: str) -> tuple[list[Stream], int]:
    """The streams that begin at `at`, and how many of their frames are missing: promised, or lost in junk (about)."""
    end, streams = len(data), [Stream()]
    junk = at - tags if any(data[tags:at]) else 0
    sizes = _Sizes(first, free_size(data, at, first) - first.padding if first.size == 0 else 0)
    marks = sorted(place for mark in (b"Xing", b"Info", b"VBRI") for place in _places(data, mark))
    while at < end:
        stream, size = streams[-1], sizes[data[at : at + 4]]
        is_cut = at + size > end
        if size and not is_cut:
            while marks and marks[0] < at:
                marks.pop(0)
            header = parse_header(data[at : at + 4]) or first
            info = read_info(data, at, header) if marks and marks[0] < at + size else None
            if info is None:
                at = _add_run(stream, data, at, marks[0] if marks else end, sizes)
                continue
            if stream.num_frames:
                streams.append(stream := Stream())
            stream.promised, stream.delay, stream.padding = info.num_frames, info.delay, info.padding
            stream.promised_end = None if info.num_bytes is None else at + info.num_bytes
            at += size
        elif (behind := behind_tag(data, at)) > at and is_tag(data, at, behind, first, name):
            at = behind
        else:
            found = next_frame(data, at + is_cut, first, name)
            if is_cut and found == end:
                _refuse_cut(stream, name)
                break
            if any(data[at:found]) and not stream.is_whole:
                if found == end and data[at:end][:2] == data[stream.first : stream.first + 2][: end - at]:
                    _refuse_cut(stream, name)  # less than a header is left of a frame
                junk += found - at
            at = found
    streams = [stream for stream in streams if stream.num_frames]
    for stream in streams:
        is_sure = stream.delay > 0 or len(stream.runs) > 1  # LAME counts right; in several runs a frame may be lost
        if stream.promised == stream.num_frames + 1 and stream.promised_end == stream.runs[-1][1] and not is_sure:
            stream.promised -= 1  # all bytes are there: this encoder, which is not LAME, counted the frame that tells
    if not streams:
        raise AudioError(f"{name}: its MPEG stream holds no frame of sound: truncated?")
    num_promised = sum(max(0, (stream.promised or 0) - stream.num_frames) for stream in streams)
    num_frames = sum(stream.num_frames for stream in streams)
    num_bytes = sum(stop - start for stream in streams for start, stop in stream.runs)
    return streams, max(num_promised, -(-junk * num_frames // num_bytes))


def _places(data: bytes, mark: bytes) -> Iterator[int]:
    at = -1
    while (at := data.find(mark, at + 1)) >= 0:
        yield at


def _add_run(stream: Stream, data: bytes, at: int, mark: int, sizes: _Sizes) -> int:
    """Add the frame at `at` and all that follow it directly, before the byte `mark`; the first byte behind them."""
    start, end, count = at, len(data), 0
    last = size = sizes[data[at : at + 4]]
    while size and at + size <= end and (not count or at + size <= mark):
        at, count, last = at + size, count + 1, size
        size = sizes[data[at : at + 4]]
    stream.add(start, at, count, last)
    return at


def _refuse_cut(stream: Stream, name: str) -> None:
    """AudioError over a last frame that is not all there, unless it is known how many are missing."""
    if (stream.promised or 0) <= stream.num_frames:
        raise AudioError(
            f"{name}: its last MPEG frame is cut off, and nothing in the file tells how long it was: truncated? "
            "If you want what is left of it, convert it to FLAC or WAV."
        )


def _as_file(data: bytes, stream: Stream) -> BinaryIO:
    """The frames of `stream` alone, as a file of which libsndfile reads every frame."""
    frames = b"".join(data[start:stop] for start, stop in stream.runs)
    header = parse_header(frames[:4])
    assert header is not None
    if header.layer == 3:
        # mpg123 takes the decoder's delay off whatever a frame "Xing" stands before, so a silent frame pays for it
        silence = _silent_frame(frames, header, b"")
        tells = _silent_frame(frames, header, b"Xing" + struct.pack(">II", 1, stream.num_frames + 1))
        return io.BytesIO(tells + silence + frames)
    # No such frame in layers I and II: libsndfile divides the bytes by the first frame's. Silence follows that no one
    # reads, until this estimate is long enough.
    size = header.size or len(frames) // stream.num_frames
    last = frames[-stream.last_size :]
    needed = size * (stream.num_frames + 2) * 1.01 - len(frames)
    return io.BytesIO(frames + last * max(2, -int(-needed // len(last))))


def _silent_frame(frames: bytes, header: FrameHeader, text: bytes) -> bytes:
    """A frame without sound, of the kind of the first in `frames`, with `text` where its sound would be."""
    four = bytearray(frames[:4])
    four[1] |= 1  # no checksum
    if header.size:
        four[2] = four[2] & 0x0D | 0xE0  # the most bits, no padding
        size = parse_header(bytes(four)).size  # type: ignore[union-attr]
    else:
        size = free_size(frames, 0, header)
    return (bytes(four) + bytes(header.side_info) + text).ljust(size, b"\0")
