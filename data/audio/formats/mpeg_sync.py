"""Where MPEG frames begin: a sync word may stand by chance in sound, in tags and in junk.

Evidence is a second frame where the first says that it ends, the end of the data there, or a mark that tells of the
rest (Xing, Info, VBRI): header and mark together are 64 bits. Zeros hide no frame, since no header begins with one.
"""

from __future__ import annotations

from data.audio.formats.mpeg_frames import (
    FrameHeader,
    behind_tag,
    behind_zeros,
    free_size,
    parse_header,
    read_info,
    trailing_tags,
)
from trainer.errors import AudioError

MOST_JUNK = 4096
"""Bytes before the first frame that may be no frame: the rest of one that was cut."""


def first_frame(data: bytes, start: int) -> int | None:
    """Where the first frame stands, behind zeros and a little junk; None when no row of frames begins there."""
    start = at = behind_zeros(data, start)
    while (at := data.find(b"\xff", at, start + MOST_JUNK)) >= 0:
        # right at the start two frames are evidence enough, or one that is all; in junk four bytes are soon right
        if _row_length(data, at) >= (2 if at == start else 3) or _tells(data, at):
            return at
        at += 1
    return None


def _row_length(data: bytes, at: int) -> int:
    """How many frames of one kind follow each other at `at`, up to three; the end of the data counts as one."""
    first = header = parse_header(data[at : at + 4])
    length = 0
    while header is not None and first is not None and header.kind == first.kind and length < 3:
        size = header.size or free_size(data, at, header)
        if not size:
            return length
        at, length = at + size, length + 1
        if _nothing_follows(data, at):
            return length + 1
        header = parse_header(data[at : at + 4])
    return length


def next_frame(data: bytes, at: int, first: FrameHeader, name: str) -> int:
    """Where the next frame of `first`'s kind stands; the end when there is none.

    AudioError when three frames of another kind follow each other there: another recording is joined to this one.
    """
    end, start = len(data), at
    while (at := data.find(b"\xff", at)) >= 0:
        header = parse_header(data[at : at + 4])
        if header is not None and header.size:
            second = parse_header(data[at + header.size : at + header.size + 4])
            if header.kind == first.kind:
                if _stands_in_junk(data, at, header):
                    return at
            elif second is not None and second.kind == header.kind and second.size:
                third = at + header.size + second.size
                following = parse_header(data[third : third + 4])
                if third == end or (following is not None and following.kind == header.kind):
                    raise AudioError(
                        f"{name}: recordings of several kinds are joined in it: {_describe(first)}, then (byte {at}) "
                        f"{_describe(header)}. Convert it to FLAC or WAV."
                    )
        elif header is not None and first.size == 0 and header.kind == first.kind and at > start:
            return at
        at += 1
    return end


def _stands_in_junk(data: bytes, at: int, header: FrameHeader) -> bool:
    """Whether a frame stands at `at`, behind junk, in which a header may be chance.

    It does if another follows it, with zeros between or not, if nothing follows it, or if it tells of the others.
    """
    behind = behind_zeros(data, at + header.size)
    following = parse_header(data[behind : behind + 4])
    is_followed = following is not None and following.kind == header.kind and following.size > 0
    return is_followed or _nothing_follows(data, at + header.size) or _tells(data, at)


def is_tag(data: bytes, at: int, behind: int, first: FrameHeader, name: str) -> bool:
    """Whether the tag, or the zeros, at `at` end at `behind`: else frames stand inside, and its length is damaged."""
    following = parse_header(data[behind : behind + 4])
    if behind == len(data) or not any(data[at:behind]) or (following is not None and following.kind == first.kind):
        return True
    return behind_tag(data, behind) > behind or next_frame(data, at, first, name) >= behind


def _tells(data: bytes, at: int) -> bool:
    """Whether a frame stands at `at` that tells of the others: its mark is evidence enough, whatever follows it."""
    header = parse_header(data[at : at + 4])
    return header is not None and header.size > 0 and read_info(data[at : at + header.size], 0, header) is not None


def _nothing_follows(data: bytes, at: int) -> bool:
    """Whether only zeros and tags stand at `at` and behind it."""
    return at <= len(data) and behind_zeros(data, at) == trailing_tags(data, len(data))


def _describe(header: FrameHeader) -> str:
    return f"layer {header.layer} of {header.rate} Hz in {'mono' if header.mono else 'stereo'}"
