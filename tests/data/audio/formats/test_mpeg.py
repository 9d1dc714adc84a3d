"""MP3: every frame is counted. Reference: the samples that were encoded, and a frame walk of the tests' own.

pytest tests/data/audio/formats/test_mpeg.py
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
import threading
from collections.abc import Callable

import numpy as np
import pytest
import soundfile

from data.audio.formats.containers import examine
from data.audio.formats.mpeg_frames import parse_header
from tests.helpers.audio import BytesAudio, load
from tests.helpers.corpora import make_tone
from tests.helpers.streams import is_info, mp3, mpeg_frames, mpeg_header, reference_mpeg, without_info
from trainer.errors import AudioError

RATES = [8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000]


def tone(seconds: float = 1.0, rate: int = 16_000, channels: int = 1) -> np.ndarray:
    """Loud and soft by turns, so that a variable rate varies."""
    samples = make_tone(seconds, rate=rate, channels=channels)
    envelope = 0.02 + (np.arange(len(samples)) // (rate // 5) % 2)
    return samples * (envelope if channels == 1 else envelope[:, None])


def decoded(content: bytes) -> np.ndarray:
    """float32 (n, channels) at the file's own rate, all parts one behind the other."""
    parts = examine(io.BytesIO(content), "x", thorough=True).parts
    blocks = []
    for part in parts:
        block, _ = soundfile.read(part.open(), dtype="float32", always_2d=True, frames=part.skip + part.num_frames)
        blocks.append(block[part.skip :])
    return np.concatenate(blocks)


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("rate", RATES)
def test_every_frame_of_a_stream_without_an_info_frame_is_read(rate: int, mode: str) -> None:
    """Reference: the frames of the tests' own walk; and LAME's own file, whose Info frame gives the true length."""
    samples = tone(1.0, rate, 1)
    whole = mp3(samples, rate, mode=mode)
    stream = without_info(whole)
    frames = mpeg_frames(stream)
    found = BytesAudio(stream, "a.mp3", "a").header
    assert (found.rate, found.num_channels, found.num_frames) == (rate, 1, len(frames) * frames[0][2])
    out = decoded(stream)
    assert len(out) == found.num_frames
    expected, _ = soundfile.read(io.BytesIO(whole), dtype="float32", always_2d=True)
    assert len(expected) == len(samples)
    delay = len(out) - 529 - len(samples)  # somewhere in it the encoder's delay ends
    best = min(
        abs(out[i : i + len(samples)] - expected).max() for i in range(delay + 529 + 1) if i + len(samples) <= len(out)
    )
    assert best < 1e-6


def test_libsndfile_alone_cuts_a_variable_rate() -> None:
    """The control: its estimate from the first frame."""
    stream = without_info(mp3(tone(4.0, 44_100), 44_100, mode="VARIABLE"))
    assert len(soundfile.read(io.BytesIO(stream))[0]) < 0.9 * len(decoded(stream))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("mode", ["CONSTANT", "AVERAGE", "VARIABLE"])
def test_delay_and_padding_are_cut_where_lame_tells_of_them(mode: str, channels: int) -> None:
    """Reference: as many samples as were encoded, and those of libsndfile, which reads this kind right."""
    samples = tone(1.0, 44_100, channels)
    content = mp3(samples, 44_100, mode=mode)
    assert BytesAudio(content, "a.mp3", "a").header.num_frames == len(decoded(content)) == len(samples)
    expected, _ = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    np.testing.assert_allclose(decoded(content), expected, atol=1e-6)


ID3V2 = b"ID3\x04\0\0\0\0\x01\x48" + b"TIT2\0\0\0\x05\0\0\0song".ljust(200, b"\0")
ID3V1 = b"TAG" + b"song".ljust(125, b"\0")
APE_HEADER = b"APETAGEX" + struct.pack("<IIII", 2000, 32 + 60, 1, 0xA0000000) + bytes(8)
APE = APE_HEADER + b"x" * 60 + b"APETAGEX" + struct.pack("<IIII", 2000, 32 + 60, 1, 0x80000000) + bytes(8)
LYRICS = b"LYRICSBEGIN" + b"IND00002" + b"10" + b"000021" + b"LYRICS200"
AROUND: dict[str, Callable[[bytes], bytes]] = {
    "ID3v2": lambda c: ID3V2 + c,
    "two ID3v2": lambda c: ID3V2 + ID3V2 + c,
    "ID3v2 and zeros": lambda c: ID3V2 + bytes(700) + c,
    "zeros before": lambda c: bytes(5000) + c,
    "zeros behind": lambda c: c + bytes(5000),
    "ID3v1": lambda c: c + ID3V1,
    "APE": lambda c: c + APE,
    "APE and ID3v1": lambda c: c + APE + ID3V1,
    "Lyrics3 and ID3v1": lambda c: c + LYRICS + ID3V1,
    "all": lambda c: ID3V2 + c + APE + LYRICS + ID3V1,
}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
@pytest.mark.parametrize("has_info", [True, False])
def test_tags_and_zeros_change_no_sample(around: Callable[[bytes], bytes], has_info: bool) -> None:
    content = mp3(tone())
    content = content if has_info else without_info(content)
    np.testing.assert_array_equal(decoded(around(content)), decoded(content))
    found = BytesAudio(around(content), "a.mp3", "a").header
    assert (found.num_frames, found.num_missing) == (len(decoded(content)), 0)


@pytest.mark.parametrize("between", [b"", ID3V2, ID3V1 + ID3V2, APE], ids=["nothing", "ID3v2", "ID3v1 ID3v2", "APE"])
@pytest.mark.parametrize("has_info", [True, False])
def test_joined_recordings_are_read_whole(between: bytes, has_info: bool) -> None:
    """Reference: both, decoded alone, one behind the other; without Info frames nothing tells where the first ends."""
    first, second = mp3(tone(0.7)), mp3(tone(0.4)[::-1], mode="VARIABLE")
    if has_info:
        expected = np.concatenate([decoded(first), decoded(second)])
        np.testing.assert_array_equal(decoded(first + between + second), expected)
        return
    first, second = without_info(first), without_info(second)
    assert len(decoded(first + between + second)) == len(decoded(first)) + len(decoded(second))


def test_frames_behind_those_that_the_info_frame_tells_of_are_read() -> None:
    """Reference: the tests' own count, less the encoder's delay (529 of the decoder and 576 of LAME)."""
    first, second = mp3(tone(0.7)), without_info(mp3(tone(0.4)))
    count = sum(n for _, _, n in mpeg_frames(without_info(first)) + mpeg_frames(second))
    assert BytesAudio(first + second, "a.mp3", "a").header.num_frames == count - 529 - 576


@pytest.mark.parametrize("mark", [b"Xing", b"VBRI"])
@pytest.mark.parametrize("more", [0, 1])
def test_encoder_that_counts_the_frame_which_tells_is_read_whole(mark: bytes, more: int) -> None:
    """As many bytes are there as it says: nothing is missing. Neither kind tells of delay or padding."""
    stream = without_info(mp3(tone()))
    frames = mpeg_frames(stream)
    first = stream[: frames[0][1]]
    numbers = (len(frames) + more, len(stream) + len(first))
    told = (
        first[:4] + bytes(32) + b"VBRI" + bytes(6) + struct.pack(">II", *numbers[::-1])
        if mark == b"VBRI"
        else first[:4] + bytes(9) + mark + struct.pack(">III", 3, *numbers)
    )
    content = told.ljust(len(first), b"\0") + stream
    found = BytesAudio(content, "a.mp3", "a").header
    assert (found.num_frames, found.num_missing) == (576 * len(frames), 0)
    np.testing.assert_array_equal(load(content), load(stream))


@pytest.mark.parametrize(
    "head",
    [b"APETAGEX" + b"\xff" * 24, b"ID3\4\0\0\x7f\x7f\x7f\x7f", b"ID3\4\0\0\0\0\x03\x14", b"TAG"],
    ids=["APE beyond the end", "ID3v2 beyond the end", "ID3v2 too long", "letters of ID3v1"],
)
def test_tag_whose_length_is_damaged_hides_no_frame(head: bytes) -> None:
    """Frames stand in what it claims; the few bytes of its own count as junk, of about one frame."""
    stream = without_info(mp3(tone(3.0)))
    at = [place for place, _, _ in mpeg_frames(stream)]
    odd = stream[: at[5]] + head + stream[at[5] :]
    np.testing.assert_array_equal(decoded(odd), decoded(stream))
    assert BytesAudio(odd, "a.mp3", "a").header.num_missing == 576


def test_first_tag_whose_length_is_damaged_hides_no_frame() -> None:
    stream = without_info(mp3(tone()))
    np.testing.assert_array_equal(decoded(b"ID3\4\0\0\0\0\x03\x14" + stream), decoded(stream))


@pytest.mark.parametrize("behind", [bytes(1), bytes(90), b"junk" * 20], ids=["a zero", "zeros", "junk"])
@pytest.mark.parametrize("before", [b"", b"junk" * 20], ids=["first", "behind junk"])
def test_info_frame_is_known_by_its_mark_whatever_stands_around_it(before: bytes, behind: bytes) -> None:
    """An editor that writes it anew may give it another size; as ffmpeg does, the delay is cut all the same."""
    content = mp3(tone())
    size = mpeg_frames(content)[0][1]
    odd = before + content[:size] + behind + content[size:]
    np.testing.assert_array_equal(decoded(odd), decoded(content))
    assert reference_mpeg(odd) == len(decoded(content))


def test_lame_tag_is_read_where_the_header_makes_the_info_frame_too_short() -> None:
    content = mp3(tone())
    short = content[:2] + bytes([content[2] & 0x0F | 0x40]) + content[3:]
    assert mpeg_frames(short)[0][1] == 144 < content.index(b"LAME") + 24
    np.testing.assert_array_equal(decoded(short), decoded(content))


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("has_checksum", [True, False])
def test_mark_stands_behind_a_checksum_only_where_there_is_one(shift: int, has_checksum: bool) -> None:
    """Two bytes on, in a frame without a checksum, the same letters are sound."""
    content = mp3(tone())
    size = mpeg_frames(content)[0][1]
    info = content[:1] + bytes([content[1] & ~has_checksum]) + content[2:4] + bytes(shift) + content[4 : size - shift]
    num_samples = len(decoded(content))
    num_more = 0 if has_checksum or not shift else sum(n for _, _, n in mpeg_frames(content)) - num_samples
    odd = info + content[size:]
    assert BytesAudio(odd, "a.mp3", "a").header.num_frames == reference_mpeg(odd) == num_samples + num_more


def test_frame_between_junk_and_zeros_is_read() -> None:
    """It is lost where a frame behind junk must be followed directly by another."""
    stream = without_info(mp3(tone()))
    at = [place for place, _, _ in mpeg_frames(stream)]
    odd = stream[: at[5]] + b"junk" + stream[at[5] : at[6]] + bytes(3) + stream[at[6] :]
    np.testing.assert_array_equal(decoded(odd), decoded(stream))


def test_whole_last_frame_behind_a_cut_one_is_read() -> None:
    """The cut one claims more bytes than are left of the file; one frame is missing, not two."""
    content = mp3(tone(2.0), mode="VARIABLE")
    frames = mpeg_frames(content)
    before, size, _ = frames[-2]
    tiny = bytes.fromhex("fff328c4").ljust(72, b"\xaa")
    assert mpeg_frames(tiny) == [(0, 72, 576)]
    assert size > 90
    found = BytesAudio(content[: before + 10] + tiny, "a.mp3", "a").header
    assert found.num_missing == 576
    assert found.num_frames == (len(frames) - 2) * 576 - 529 - 576


def test_first_frame_of_other_channels_than_the_rest_is_no_frame() -> None:
    """ffmpeg compares the channels too when it looks for the first."""
    stream = without_info(mp3(tone(2.0)))
    frames = mpeg_frames(stream)
    odd = stream[:3] + bytes([stream[3] & 0x3F]) + stream[4:]
    found = BytesAudio(odd, "a.mp3", "a").header
    assert (found.num_channels, found.num_frames, found.num_missing) == (1, 576 * (len(frames) - 1), 576)


@pytest.mark.parametrize(("rate", "channels"), [(22_050, 1), (16_000, 2), (44_100, 1)])
def test_joined_recordings_of_several_kinds_are_refused_with_both(rate: int, channels: int) -> None:
    content = mp3(tone(0.5)) + mp3(tone(0.5, rate, channels), rate)
    mode = "mono" if channels == 1 else "stereo"
    with pytest.raises(AudioError, match=rf"several kinds .* 16000 Hz in mono, then .* {rate} Hz in {mode}\. Convert"):
        load(content)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.99])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_stream_that_is_cut_inside_a_frame_is_refused(share: float, mode: str) -> None:
    stream = without_info(mp3(tone(), mode=mode))
    cut = int(share * len(stream))
    cut += any(at + size == cut for at, size, _ in mpeg_frames(stream))
    with pytest.raises(AudioError, match="last MPEG frame is cut off, and nothing in the file tells how long it was"):
        load(stream[:cut])


@pytest.mark.parametrize(("missing", "is_read"), [(1, True), (2, True), (3, True), (8, False), (20, False)])
def test_file_whose_info_frame_promises_more_is_read_up_to_five_per_cent(missing: int, is_read: bool) -> None:
    """2.3 s are 66 frames of 576 samples, so three of them are within 5 % and eight are not."""
    content = mp3(tone(2.3))
    frames = mpeg_frames(content)
    cut = content[: frames[-missing][0] + 7]
    if is_read:
        found = BytesAudio(cut, "a.mp3", "a").header
        assert (found.num_missing, found.num_frames) == (576 * missing, 576 * (len(frames) - 1 - missing) - 529 - 576)
        assert len(decoded(cut)) == found.num_frames
        return
    with pytest.raises(AudioError, match=r"its header says \d+ samples, \d+ are there: truncated"):
        load(cut)


def test_frame_that_is_lost_inside_is_counted_and_many_are_refused() -> None:
    stream = bytearray(without_info(mp3(tone(2.3))))
    frames = mpeg_frames(bytes(stream))
    lost = bytearray(stream)
    lost[frames[20][0]] = 0
    found = BytesAudio(bytes(lost), "a.mp3", "a").header
    assert (found.num_missing, found.num_frames) == (576, 576 * (len(frames) - 1))
    for at, _, _ in frames[20:40]:
        stream[at] = 0
    with pytest.raises(AudioError, match="MPEG frames are damaged"):
        load(bytes(stream))


@pytest.mark.parametrize("tag", [0x55, 0x50])
@pytest.mark.parametrize("has_info", [True, False])
def test_mp3_in_riff_is_read_as_mp3(tag: int, has_info: bool) -> None:
    inside = mp3(tone()) if has_info else without_info(mp3(tone()))
    fmt = struct.pack("<HHIIHHH", tag, 1, 16_000, 8000, 1, 0, 0)
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(inside)) + inside
    content = b"RIFF" + struct.pack("<I", len(body)) + body
    np.testing.assert_array_equal(load(content), load(inside))
    with pytest.raises(AudioError, match=r"bytes of MP3, \d+ are there: truncated"):
        load(content[:-300])


def silent_frames(header: bytes, count: int, size: int) -> bytes:
    return (header + bytes(size - 4)) * count


@pytest.mark.parametrize(
    ("four", "samples"),
    [
        ("fffd9000", 1152),
        ("fff5a4c0", 1152),
        ("ffffa000", 384),
        ("fff7a4c0", 384),
        ("fffb9000", 1152),
        ("ffe340c0", 576),
    ],
    ids=["layer II", "layer II of MPEG 2", "layer I", "layer I of MPEG 2", "layer III", "layer III of MPEG 2.5"],
)
def test_every_layer_is_counted_and_decoded_whole(four: str, samples: int) -> None:
    """Frames without sound, made by bytes; libsndfile's estimate is off for layers I and II."""
    header = bytes.fromhex(four)
    described = mpeg_header(header, 0)
    assert described is not None
    content = silent_frames(header, 40, described[1])
    assert BytesAudio(content, "a", "a").header.num_frames == 40 * samples
    assert len(decoded(content)) == 40 * samples


def test_free_format_is_counted_and_decoded_whole() -> None:
    """Bit rate index 0: a frame ends where the next begins. ffmpeg does not read it, mpg123 does."""
    content = silent_frames(bytes.fromhex("fffb00c0"), 40, 333)
    assert BytesAudio(content, "a", "a").header.num_frames == len(decoded(content)) == 40 * 1152


def test_headers_say_what_the_tests_own_reading_says() -> None:
    """Every header of 32 bits with the sync word but for the lowest six: 16,384 of them."""
    for middle in range(0xE000, 0x10000, 2):
        for last in (0x00, 0xC0):
            four = bytes([0xFF, middle >> 8, middle & 0xFF, last])
            mine, reference = parse_header(four), mpeg_header(four + b"\0", 0)
            if mine is None or mine.size == 0:
                assert reference is None
            else:
                assert reference is not None
                assert reference[1:] == (mine.size, mine.samples)
                assert reference[0][1:] == (mine.layer, mine.rate, mine.mono)


def test_nothing_is_written_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    """libmpg123 complains there of junk, of sizes in the Xing frame, of a missing reservoir. The control: it does."""
    content = bytearray(mp3(tone(2.0), mode="VARIABLE"))
    joined = bytes(content) * 2
    soundfile.read(io.BytesIO(joined))
    assert "Xing stream size off" in capfd.readouterr().err
    rng = np.random.default_rng(0)
    for _ in range(30):
        damaged = bytearray(joined)
        for at in rng.integers(200, len(joined), 5):
            damaged[at] = rng.integers(256)
        with contextlib.suppress(AudioError):
            load(bytes(damaged))
    assert capfd.readouterr().err == ""
    assert is_info(bytes(content), mpeg_frames(bytes(content))[0])


def test_what_others_write_while_an_mp3_is_decoded_reaches_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    """Lines and bars of another thread, each once and in order."""
    content = without_info(mp3(tone(6.0)))
    done = threading.Event()

    def write() -> None:
        for i in range(200):
            os.write(2, f"line {i}\n".encode() if i % 2 else f"bar {i}\r".encode())
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        load(content)
    writer.join()
    os.write(2, b"behind\n")
    expected = "".join(f"line {i}\n" if i % 2 else f"bar {i}\r" for i in range(200)) + "behind\n"
    assert capfd.readouterr().err.replace("\r\n", "\r") == expected.replace("\r\n", "\r")
