"""Ogg: chains are read whole, a missing page is an error. Reference: each recording decoded alone by soundfile.

pytest tests/data/audio/formats/test_ogg.py
"""

from __future__ import annotations

import io
import itertools
import struct

import numpy as np
import pytest
import soundfile

from data.audio.formats.ogg import count_ogg
from tests.helpers.audio import BytesAudio, encoded, load, quantized, sound
from tests.helpers.streams import ogg_pages, reference_ogg, with_checksum
from trainer.errors import AudioError, UnknownAudioError


def ogg_page(data: bytes, flags: int, granule: int, number: int, serial: int = 7) -> bytes:
    """A page of packets that are each one page's whole content, or its part (a multiple of 255 bytes goes on)."""
    lacing = bytes([255] * (len(data) // 255)) + bytes([len(data) % 255])
    head = b"OggS\0" + struct.pack("<BqIIIB", flags, granule, serial, number, 0, len(lacing))
    return with_checksum(head + lacing + data)


def ogg_flac(num_samples: int, *, says_length: bool = True) -> bytes:
    """FLAC in Ogg, a frame a page, as the mapping tells: libsndfile writes none."""
    native = encoded(sound(num_samples), "FLAC")
    info, at, blocks = bytearray(native[:42]), 42, []
    if not says_length:
        info[21] &= 0xF0
        info[22:26] = bytes(4)
    is_last = info[4] & 0x80
    while not is_last:
        is_last, size = native[at] & 0x80, int.from_bytes(native[at + 1 : at + 4], "big")
        blocks.append(native[at : at + 4 + size])
        at += 4 + size
    starts = [i for i in range(at, len(native) - 4) if native[i : i + 2] == b"\xff\xf8" and native[i + 3] & 0xF == 8]
    starts = [i for k, i in enumerate(starts) if native[i + 4] == k] + [len(native)]
    pages = [ogg_page(b"\x7fFLAC\1\0" + struct.pack(">H", len(blocks)) + bytes(info), 2, 0, 0)]
    pages += [ogg_page(block, 0, 0, 1 + i) for i, block in enumerate(blocks)]
    for i, (start, stop) in enumerate(itertools.pairwise(starts)):
        is_end = stop == len(native)
        granule = num_samples if is_end else 4096 * (i + 1)
        pages.append(ogg_page(native[start:stop], 4 if is_end else 0, granule, 1 + len(blocks) + i))
    return b"".join(pages)


def decode_alone(content: bytes) -> np.ndarray:
    return soundfile.read(io.BytesIO(content), dtype="float32")[0]


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("is_same", [True, False])
def test_chain_is_read_whole(subtype: str, is_same: bool) -> None:
    """`cat a.ogg b.ogg`, also of one file twice (the same serial number). libsndfile alone reads the first link."""
    first = encoded(sound(9000), "OGG", subtype)
    second = first if is_same else encoded(sound(16_000, 1), "OGG", subtype)
    chain = first + second + first
    expected = np.concatenate([decode_alone(part) for part in (first, second, first)])
    assert len(decode_alone(chain)) == 9000
    assert BytesAudio(chain, "a", "a").num_samples == reference_ogg(chain) == len(expected)
    np.testing.assert_array_equal(load(chain), expected)


@pytest.mark.parametrize("says_length", [True, False])
def test_flac_in_ogg_is_read_and_chained(says_length: bool) -> None:
    """libsndfile reads none of it. Reference: the samples that were written."""
    one = ogg_flac(20_000, says_length=says_length)
    np.testing.assert_array_equal(load(one), quantized(sound(20_000)) / np.float32(32768))
    two = ogg_flac(5000, says_length=says_length)
    np.testing.assert_array_equal(load(one + two), np.concatenate([load(one), load(two)]))


def test_chain_of_several_kinds_is_refused_with_both() -> None:
    chain = encoded(sound(9000), "OGG", "VORBIS") + encoded(sound(9000), "OGG", "VORBIS", rate=8000)
    with pytest.raises(AudioError, match=r"^a\.wav: .*1 channels of 16000 Hz, then 1 of 8000 Hz\. Convert"):
        load(chain)


@pytest.mark.parametrize("where", [1, 2, -2])
@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_missing_or_damaged_page_is_refused(where: int, subtype: str) -> None:
    """libogg passes over it, and what is read is shorter by a second, or silent."""
    pages = ogg_pages(encoded(sound(64_000), "OGG", subtype))
    lost = [*pages]
    del lost[where]
    damaged = [*pages]
    damaged[where] = pages[where][:-3] + bytes([pages[where][-3] ^ 4]) + pages[where][-2:]
    for content in (lost, damaged):
        with pytest.raises(AudioError, match="one is missing or damaged"):
            load(b"".join(content))


def test_chain_whose_first_link_has_no_end_is_refused() -> None:
    pages = ogg_pages(encoded(sound(160_000), "OGG", "VORBIS"))
    with pytest.raises(AudioError, match=r"recording 1 of the 2 joined in it: its last Ogg page is missing: truncated"):
        load(b"".join(pages[:-1] + pages))


def test_stream_without_its_first_page_is_refused() -> None:
    pages = ogg_pages(encoded(sound(16_000), "OGG", "VORBIS"))
    with pytest.raises(AudioError, match="begins in its middle"):
        load(b"".join(pages[1:]))


@pytest.mark.parametrize("around", [(b"ID3\x04\0\0\0\0\0\x0a" + bytes(10), b""), (b"", bytes(900)), (b"", b"TAG" * 40)])
def test_what_stands_around_the_pages_changes_no_sample(around: tuple[bytes, bytes]) -> None:
    content = encoded(sound(16_000), "OGG", "VORBIS")
    np.testing.assert_array_equal(load(around[0] + content + around[1]), load(content))


def test_sound_is_picked_of_a_film_and_two_sounds_are_refused() -> None:
    """Streams side by side: first pages first, then the pages of both by turns."""
    voice = ogg_pages(encoded(sound(16_000), "OGG", "VORBIS"))
    film = [ogg_page(b"\x80theora" + bytes(35), 2, 0, 0), ogg_page(b"picture", 4, 9, 1)]
    mixed = b"".join([film[0], voice[0], *voice[1:3], film[1], *voice[3:]])
    np.testing.assert_array_equal(load(mixed), load(b"".join(voice)))
    other = [with_checksum(page[:14] + struct.pack("<I", 99) + page[18:]) for page in voice]
    with pytest.raises(AudioError, match="2 audio streams side by side"):
        load(b"".join([voice[0], other[0], *voice[1:], *other[1:]]))


def test_page_of_sound_that_says_it_begins_a_stream_is_not_lost() -> None:
    """Between two recordings it would else pass for a picture beside the second one."""
    pages = ogg_pages(encoded(sound(64_000), "OGG", "OPUS"))
    ended = with_checksum(pages[-2][:5] + b"\4" + pages[-2][6:])
    begun = with_checksum(pages[-1][:5] + b"\6" + pages[-1][6:])
    other = [with_checksum(page[:14] + struct.pack("<I", 99) + page[18:]) for page in pages]
    with pytest.raises(AudioError, match="begins a stream of an unknown kind") as refused:
        load(b"".join([*pages[:-2], ended, begun, *other]))
    assert not isinstance(refused.value, UnknownAudioError)  # no other program is asked


@pytest.mark.parametrize("magic", [b"Speex   ", b"fishead\0", b"OggMIDI\0"])
def test_other_codecs_are_left_to_other_programs(magic: bytes) -> None:
    content = ogg_page(magic + bytes(72), 2, 0, 0) + ogg_page(b"packet", 4, 9, 1)
    with pytest.raises(UnknownAudioError, match=r"Speex is not read|no Vorbis, Opus or FLAC stream"):
        count_ogg(content, "a")


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_recording_that_begins_late_is_refused_or_read_right(subtype: str) -> None:
    """Cut out of a broadcast: its pages count from elsewhere. Reference: the same without the offset."""
    pages = ogg_pages(encoded(sound(48_000), "OGG", subtype))
    late = []
    for page in pages:
        granule = struct.unpack("<q", page[6:14])[0]
        late.append(with_checksum(page[:6] + struct.pack("<q", granule + 480_000 * (granule > 0)) + page[14:]))
    try:
        found = load(b"".join(late))
    except AudioError:
        return
    assert len(found) == 48_000
