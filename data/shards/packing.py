"""The bytes that stand for an utterance's audio in a shard. What they decode to is what the source decodes to.

    a whole file that is compressed already (FLAC, Ogg, MP3)    its bytes as they are
    samples that are whole numbers of 16 or 24 bits             mono FLAC at the file's own rate
    any others (float, 32 bits, what an MP3 part decodes to)    mono wav of 32-bit floats at the file's own rate

Channels are averaged, or one is taken, as the reader does; resampling stays with the reader, since it would make
floats of all. A part of a file becomes a file of its own. What was packed is decoded again and compared, bit for bit,
before it is kept.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

import numpy as np
import soundfile

from data.audio.decode import EncodedAudio, decode_mono, read_header, refuse_no_sound
from data.audio.segments import AudioSegment, channel_digest
from data.audio.wav import as_wav
from data.utterance import AudioHeader, AudioSource
from trainer.errors import AudioError

_COMPRESSED = {b"fLaC": "flac", b"OggS": "ogg", b"ID3": "mp3"}
"""First bytes of what is kept as it is. MPEG audio without a tag begins with its sync word instead."""


@dataclass(frozen=True)
class Packed:
    """Encoded audio, and where it comes from."""

    content: bytes
    suffix: str
    header: AudioHeader
    """Of `content`."""
    source: bytes
    """16 bytes: digest of the source file's content, or of one channel of it."""
    part: tuple[int, int] | None
    """First frame and the one behind the last, where the source was a part of that file."""


def pack(audio: AudioSource) -> Packed:
    """The audio as it is kept; AudioError when it does not decode, or holds no sound."""
    part, raw = None, b""
    if isinstance(audio, AudioSegment) and audio.is_the_file:
        audio = audio.whole
    if isinstance(audio, AudioSegment):
        part, source = audio.frames, channel_digest(_digest_of_whole(audio.whole), audio)
    else:
        raw = audio.raw()
        source = digest(raw)
    mono, header = audio.mono(), audio.header
    refuse_no_sound(mono, audio.name, header.num_channels)
    suffix = _suffix_of_compressed(raw) if isinstance(audio, EncodedAudio) else ""
    if suffix:
        return Packed(raw, suffix, header, source, part)
    content, suffix = encode(mono, header.rate)
    return Packed(content, suffix, read_header(io.BytesIO(content), audio.name), source, part)


def encode(mono: np.ndarray, rate: int) -> tuple[bytes, str]:
    """(File, suffix) of float32 samples (n,): FLAC if that gives back every bit of them, else a wav of floats."""
    for bits in (16, 24):
        whole = _whole_numbers(mono, bits)
        if whole is None:
            continue
        buffer = io.BytesIO()
        try:
            soundfile.write(buffer, whole, rate, format="FLAC", subtype=f"PCM_{bits}")
        except soundfile.SoundFileError:  # a rate that FLAC cannot write down
            break
        if _decodes_to(buffer.getvalue(), mono):
            return buffer.getvalue(), "flac"
        break
    content = as_wav(mono[:, None], rate)
    if not _decodes_to(content, mono):
        raise AssertionError("a wav of floats decodes to the floats")
    return content, "wav"


def _whole_numbers(mono: np.ndarray, bits: int) -> np.ndarray | None:
    """The samples as libsndfile takes integers of this width (n,), or None where they are none."""
    scaled = mono * np.float32(2 ** (bits - 1))  # exact: a power of two
    if scaled.min(initial=0) < -(2 ** (bits - 1)) or scaled.max(initial=0) >= 2 ** (bits - 1):
        return None
    whole = scaled.astype(np.int32)
    if not np.array_equal(whole, scaled):
        return None
    return whole.astype(np.int16) if bits == 16 else whole << 8


def _decodes_to(content: bytes, mono: np.ndarray) -> bool:
    """Whether the reader finds these very bits (a zero with a sign is another zero)."""
    try:
        header = read_header(io.BytesIO(content), "packed audio")
        return decode_mono(io.BytesIO(content), "packed audio", header).tobytes() == mono.tobytes()
    except AudioError:
        return False


def _suffix_of_compressed(raw: bytes) -> str:
    """The usual suffix of a compressed file, by its content; empty for anything else."""
    if raw.startswith(b"OggS") and b"OpusHead" in raw[:64]:
        return "opus"
    for magic, suffix in _COMPRESSED.items():
        if raw.startswith(magic):
            return suffix
    is_mpeg = len(raw) > 1 and raw[0] == 0xFF and raw[1] & 0xE0 == 0xE0 and raw[1] & 0x06 != 0
    return "mp3" if is_mpeg else ""


def digest(content: bytes) -> bytes:
    """16 bytes; the same hash that a store of decoded audio has of a file."""
    return hashlib.blake2b(content, digest_size=16).digest()


_last_whole: dict[str, bytes] = {}
"""Digest of the file whose parts are packed just now, by its identity."""


def _digest_of_whole(whole: AudioSource) -> bytes:
    if whole.identity not in _last_whole:
        _last_whole.clear()
        _last_whole[whole.identity] = digest(whole.raw())
    return _last_whole[whole.identity]
