"""Mutated MP3 and Ogg streams: refused, or accepted with as many samples as an independent walk counts in them.

10,000 of each for `make test-reliability`, a small sample of them in every run of the tests.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.utterance import SAMPLE_RATE
from tests.helpers.audio import BytesAudio, encoded, sound
from tests.helpers.fuzz import NUM_INPUTS, inputs, mutated
from tests.helpers.streams import (
    mp3,
    mpeg_frames,
    ogg_pages,
    reference_mpeg,
    reference_ogg,
    with_checksum,
    without_info,
)

if TYPE_CHECKING:
    from tests.helpers.refused import Tally

SAMPLE = 200
NUMBERS = pytest.mark.parametrize(
    "number", [SAMPLE, pytest.param(NUM_INPUTS, marks=[pytest.mark.slow, pytest.mark.reliability])]
)


def num_samples(content: bytes) -> int:
    """What is read of it at 16 kHz; the header's promise is the same."""
    audio = BytesAudio(content, "a", "a")
    promised = audio.num_samples
    assert len(audio.load()) == promised
    assert audio.header.rate == SAMPLE_RATE
    return promised


# MP3


CONSTANT, VARIABLE = mp3(sound(9000)), mp3(sound(12_000, 1) * 0.1, mode="VARIABLE")
ID3 = b"ID3\x04\0\0\0\0\0\x14" + bytes(20)
STREAMS = [
    CONSTANT, VARIABLE, without_info(CONSTANT), without_info(VARIABLE), ID3 + without_info(VARIABLE),
    CONSTANT + VARIABLE, without_info(CONSTANT) + ID3 + VARIABLE, CONSTANT + b"TAG" + bytes(125),
]  # fmt: skip
TOKENS = [b"Xing", b"Info", b"VBRI", b"ID3\x04\0\0\0\0\0\x14", b"TAG", b"\xff\xf3\x48\xc4", b"\xff\xfb\x90\x64", b""]


@st.composite
def mutated_mpeg(draw: st.DrawFn) -> bytes:
    """A stream with bytes mutated, or with whole frames dropped, doubled, cut or headed otherwise."""
    if draw(st.booleans()):
        return draw(mutated(STREAMS, TOKENS, focus=200))
    content = draw(st.sampled_from(STREAMS))
    pieces = [content[at : at + size] for at, size, _ in mpeg_frames(content)]
    for _ in range(draw(st.integers(1, 3))):
        i = draw(st.integers(0, len(pieces) - 1))
        match draw(st.sampled_from(["drop", "double", "cut", "head", "zeros", "junk", "swap"])):
            case "drop":
                pieces[i] = b""
            case "double":
                pieces[i] *= 2
            case "cut":
                pieces[i] = pieces[i][: draw(st.integers(0, len(pieces[i])))]
            case "head" if len(pieces[i]) > 3:
                at, bit = draw(st.integers(0, 3)), draw(st.integers(0, 7))
                pieces[i] = pieces[i][:at] + bytes([pieces[i][at] ^ 1 << bit]) + pieces[i][at + 1 :]
            case "zeros":
                pieces[i] += bytes(draw(st.integers(1, 600)))
            case "junk":
                pieces[i] += draw(st.binary(min_size=1, max_size=40))
            case "swap":
                pieces[i], pieces[-1] = pieces[-1], pieces[i]
    return b"".join(pieces)


@NUMBERS
def test_mp3_streams_are_refused_or_read_with_every_frame(compare: Callable, tally: Tally, number: int) -> None:
    for content in STREAMS:
        assert num_samples(content) == reference_mpeg(content)

    @inputs(number)
    @given(mutated_mpeg())
    def fuzz(content: bytes) -> None:
        compare(lambda: num_samples(content), lambda: reference_mpeg(content), "a: ")

    fuzz()
    assert min(tally.refused, tally.accepted) > number / 20, "the mutations are too strong or too weak"


# Ogg


VORBIS, OPUS = encoded(sound(9000), "OGG", "VORBIS"), encoded(sound(40_000), "OGG", "OPUS")
CHAINS = [VORBIS, OPUS, VORBIS + VORBIS, OPUS + encoded(sound(5000, 2), "OGG", "OPUS"), OPUS + VORBIS]


@st.composite
def mutated_ogg(draw: st.DrawFn) -> bytes:
    """A chain with bytes mutated, or with pages dropped, doubled, swapped, renumbered, and their checksums right."""
    content = draw(st.sampled_from(CHAINS))
    if draw(st.integers(0, 3)) == 0:
        return draw(mutated([content], [b"OggS", b"OpusHead", b""], focus=100))
    pages = ogg_pages(content)
    for _ in range(draw(st.sampled_from([1, 1, 2]))):
        i = draw(st.integers(0, len(pages) - 1))
        page = pages[i]
        if len(page) < 27:
            continue
        match draw(st.sampled_from(["drop", "double", "swap", "flags", "granule", "serial", "number", "junk", "data"])):
            case "drop":
                pages[i] = b""
            case "double":
                pages[i] = page + page
            case "swap":
                pages[i], pages[-1] = pages[-1], page
            case "flags":
                pages[i] = with_checksum(page[:5] + bytes([page[5] ^ draw(st.sampled_from([2, 4]))]) + page[6:])
            case "granule":
                # a last page that claims more than there is changes nothing: what is there is read
                shift = draw(st.sampled_from([-4000, -100, -1] if page[5] & 4 else [-4000, -1, 1, 4000]))
                granule = max(0, struct.unpack("<q", page[6:14])[0] + shift)
                pages[i] = with_checksum(page[:6] + struct.pack("<q", granule) + page[14:])
            case "serial":
                pages[i] = with_checksum(page[:14] + struct.pack("<I", draw(st.integers(0, 3))) + page[18:])
            case "number":
                pages[i] = with_checksum(page[:18] + struct.pack("<I", draw(st.integers(0, 9))) + page[22:])
            case "junk":
                pages[i] = page + draw(st.binary(min_size=1, max_size=60))
            case "data":
                at = draw(st.integers(27, len(page) - 1))
                pages[i] = page[:at] + bytes([page[at] ^ 1]) + page[at + 1 :]
    return b"".join(pages)


@NUMBERS
def test_ogg_streams_are_refused_or_read_to_their_last_page(compare: Callable, tally: Tally, number: int) -> None:
    for content in CHAINS[:-1]:
        assert num_samples(content) == reference_ogg(content)

    @inputs(number)
    @given(mutated_ogg())
    def fuzz(content: bytes) -> None:
        compare(lambda: num_samples(content), lambda: reference_ogg(content), "a")

    fuzz()
    assert min(tally.refused, tally.accepted) > number / 40, "the mutations are too strong or too weak"
