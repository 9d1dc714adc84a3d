"""From any container to what it truly holds: which reader counts its samples, and how they are decoded.

No length is believed that libsndfile estimates, or that a header promises without the bytes to keep it.
"""

from __future__ import annotations

import functools
import io
import os
from typing import BinaryIO

import soundfile

from data.audio.formats import ogg, riff
from data.audio.formats.chunked import count_chunked, is_chunked
from data.audio.formats.flac import MAGIC as FLAC_MAGIC
from data.audio.formats.flac import count_flac
from data.audio.formats.mpeg import count_mpeg, looks_like_mpeg
from data.audio.formats.mpeg_frames import skip_id3
from data.audio.formats.parts import Contents, Part, reason_of, refuse_short
from data.audio.formats.sphere_header import read_sphere_header
from data.audio.quiet import quiet_mpg123
from data.utterance import AudioHeader
from trainer.errors import AudioError, UnknownAudioError

_HEAD = 16_384


def examine(file: BinaryIO, name: str, *, thorough: bool = False) -> Contents:
    """What `file` holds; AudioError when it is damaged or shorter than it says, UnknownAudioError when not read here.

    `thorough`: every frame is walked, and the parts can be decoded; else what a header is sure of is believed.
    """
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        raise AudioError(f"{name}: not readable as audio (an empty file, of 0 bytes).")
    file.seek(0)
    sphere = read_sphere_header(file, name)
    if sphere is not None:
        header = AudioHeader(
            sphere.rate, sphere.num_channels, sphere.num_frames, sphere.subtype == "PCM_16", sphere.num_missing
        )
        content = functools.partial(_without_header, file, sphere.num_bytes)
        return Contents(header, (Part(content, header.num_frames, raw=sphere.raw_format),))
    head = file.read(_HEAD)
    start = skip_id3(head)
    if start:
        file.seek(start)
        head = file.read(_HEAD)
    if head[:4] in riff.MAGICS and head[8:12] == b"WAVE":
        return riff.count_riff(file, start, name, thorough=thorough)
    if head[:4] == FLAC_MAGIC:
        return count_flac(file, start, name, thorough=thorough)
    if head[:4] == ogg.MAGIC:
        file.seek(start)
        return ogg.count_ogg(file.read(), name)
    if start == 0 and is_chunked(head):
        return count_chunked(file, name)
    if looks_like_mpeg(head):
        file.seek(0)
        contents = count_mpeg(file.read(), name, thorough=thorough)
        header = contents.header
        cause = "truncated, or its MPEG frames are damaged?"
        refuse_short(name, header.num_missing, header.num_frames, header.rate, cause)
        return contents
    raise UnknownAudioError(f"{name}: not readable as audio ({_who_knows(file)}).")


def _without_header(file: BinaryIO, start: int) -> BinaryIO:
    file.seek(start)
    return io.BytesIO(file.read())


def _who_knows(file: BinaryIO) -> str:
    """What libsndfile says of a format that is not read here."""
    file.seek(0)
    try:
        with quiet_mpg123(), soundfile.SoundFile(file) as sound:
            return f"{sound.format} files are not read: convert it to FLAC or WAV"
    except (soundfile.SoundFileError, TypeError) as error:
        return reason_of(error)
