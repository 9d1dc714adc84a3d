"""The header of a NIST SPHERE file, read by its own rules, and held against the file's size.

    NIST_1A\\n   1024\\n            magic and header size
    sample_count -i 46797          name, type (-i integer, -r real, -sN text of N bytes), value
    end_head                       then anything up to the header's size, then the samples

libsndfile reads truncated data, and headers that claim too much, short and without a word. Here every sample that
the header promises must be there, but for a few that are counted, and nothing behind them. No sample is decoded here.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from data.audio.formats.parts import refuse_short
from trainer.errors import AudioError

MAGIC = b"NIST_1A"
MAX_HEADER_BYTES = 2**20
MAX_CHANNELS = 1024
"""libsndfile's limit."""

_INTEGERS = ("channel_count", "sample_count", "sample_rate", "sample_n_bytes")
_TEXTS = ("sample_coding", "sample_byte_format", "channels_interleaved")
_PCM = {1: "PCM_S8", 2: "PCM_16", 3: "PCM_24", 4: "PCM_32"}
_FIELD, _INTEGER = re.compile(rb"(\S+) -(?:i (-?[0-9]+)|r (\S+)|s([0-9]+) (.*))"), re.compile(rb"[0-9]{1,10}")
_COMPANDED = {"ulaw": "ULAW", "mu-law": "ULAW", "alaw": "ALAW"}


@dataclass(frozen=True)
class SphereHeader:
    """What is needed to decode the samples, which begin at byte `num_bytes`."""

    num_bytes: int
    rate: int
    num_channels: int
    num_frames: int
    """Samples per channel."""
    width: int
    """Bytes per sample."""
    subtype: str
    """In libsndfile's words: PCM_16, ULAW, ..."""
    endian: str
    num_missing: int = 0
    """Samples per channel that the header promises beyond `num_frames`."""

    @property
    def raw_format(self) -> dict[str, Any]:
        """soundfile's arguments for the samples without their header."""
        return dict(
            format="RAW", subtype=self.subtype, endian=self.endian, samplerate=self.rate, channels=self.num_channels
        )


def read_sphere_header(file: BinaryIO, name: str) -> SphereHeader | None:
    """The header of `file`, which then stands at its first sample; None, and back at its start, if it is no SPHERE.

    AudioError when the header is cut off, damaged, of a coding that is not read, or at odds with the file's size.
    """
    start = file.read(16)
    if not start.startswith(MAGIC):
        file.seek(0)
        return None
    if start.startswith(MAGIC + b"\r\n"):
        raise AudioError(
            f"{name}: its SPHERE header has CR LF line ends: it was copied in text mode, which destroys the samples. "
            "Copy it again in binary mode."
        )
    size = re.fullmatch(MAGIC + rb"\n *([0-9]{1,7})\n.*", start, re.DOTALL)
    if size is None or not 1024 <= int(size[1]) <= MAX_HEADER_BYTES:
        raise AudioError(f"{name}: its SPHERE header does not begin with NIST_1A and its size: cut off or damaged.")
    num_bytes = int(size[1])
    text = start + file.read(num_bytes - len(start))
    if len(text) < num_bytes:
        raise AudioError(f"{name}: its SPHERE header is cut off: {len(text)} of {num_bytes} bytes are there.")
    header = _compare_with_size(_interpret(_fields(text, name), num_bytes, name), file.seek(0, os.SEEK_END), name)
    file.seek(num_bytes)
    return header


def _fields(header: bytes, name: str) -> dict[str, bytes]:
    """The values of those fields that matter here, each of the type and length that it declares."""
    lines = header.split(b"\n")
    if b"end_head" not in lines:
        raise AudioError(f"{name}: its SPHERE header has no end_head: cut off or damaged.")
    fields: dict[str, bytes] = {}
    for line in lines[2 : lines.index(b"end_head")]:
        if line.startswith(b";"):  # a comment
            continue
        match = _FIELD.fullmatch(line.rstrip(b" "))
        field = match[1].decode("latin-1") if match else ""
        if match and field not in _INTEGERS + _TEXTS:
            continue
        is_integer = field in _INTEGERS and match and _INTEGER.fullmatch(match[2] or b"")
        is_text = field in _TEXTS and match and match[4] and int(match[4]) == len(match[5])
        if match is None or not (is_integer or is_text) or field in fields:
            shown = line[:60].decode("latin-1")
            raise AudioError(f"{name}: its SPHERE header is damaged at {shown!r} (mistyped, or there twice).")
        fields[field] = match[2] or match[5]
    return fields


def _integer(fields: dict[str, bytes], field: str, name: str) -> int:
    if field not in fields:
        raise AudioError(f"{name}: its SPHERE header has no {field}.")
    return int(fields[field])


def _interpret(fields: dict[str, bytes], num_bytes: int, name: str) -> SphereHeader:
    channels, count, rate, width = (
        _integer(fields, field, name) for field in ("channel_count", "sample_count", "sample_rate", "sample_n_bytes")
    )
    coding = fields.get("sample_coding", b"pcm").decode("latin-1").lower()
    if "embedded" in coding:
        raise AudioError(
            f"{name}: its samples are compressed ({coding}). Expand it first: `sph2pipe -f wav IN OUT`, or NIST's "
            "`w_decode -o pcm IN OUT`."
        )
    subtype = _PCM.get(width) if coding == "pcm" else _COMPANDED.get(coding) if width == 1 else None
    if subtype is None:
        raise AudioError(
            f"{name}: SPHERE samples of coding {coding!r} in {width} bytes are not read. Convert it: "
            "`sph2pipe -f wav IN OUT`."
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(f"{name}: its SPHERE header says {channels} channels.")
    if channels > 1 and fields.get("channels_interleaved", b"TRUE").upper() != b"TRUE":
        raise AudioError(f"{name}: its channels are not interleaved. Convert it: `sph2pipe -f wav IN OUT`.")
    endian = "LITTLE"
    if width > 1:
        # "01": the least significant byte comes first
        order = fields.get("sample_byte_format", b"").decode("latin-1")
        ascending = "".join(map(str, range(width)))
        if order not in (ascending, ascending[::-1]):
            raise AudioError(f"{name}: its SPHERE header's sample_byte_format {order!r} is no order of {width} bytes.")
        endian = "LITTLE" if order == ascending else "BIG"
    return SphereHeader(num_bytes, rate, channels, count, width, subtype, endian)


def _compare_with_size(header: SphereHeader, size: int, name: str) -> SphereHeader:
    """`header` with as many samples as are there; AudioError when they are too few, or more than it says."""
    promised, present = header.num_frames * header.num_channels * header.width, size - header.num_bytes
    if present < promised:
        there = present // (header.num_channels * header.width)
        refuse_short(
            name,
            header.num_frames - there,
            there,
            header.rate,
            cause="truncated, or its sample_count is wrong.",
            header="its SPHERE header",
        )
        return replace(header, num_frames=there, num_missing=header.num_frames - there)
    if present > promised:
        raise AudioError(
            f"{name}: {present - promised} bytes stand behind the {header.num_frames} samples of its SPHERE header: "
            "its sample_count is wrong, or the file is damaged."
        )
    return header
