"""Audio that is refused, rows R1, R3 and R4 of the reliability matrix: silence, other codings, headers that lie.

What is odd but has a meaning is accepted with that meaning, and checked against it. `tally` counts both.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from data.audio.decode import FileAudio
from data.corpora.synthetic.sphere import write_sphere
from data.examples.measuring import describe_conversions
from data.utterance import Utterance
from tests.helpers.audio import MODEL, encoded, load, prepare, put_audio, quantized, sound, sphere_file, utterance
from tests.helpers.corpora import ManifestFolder
from trainer.errors import AudioError, CorpusError, UnknownAudioError

if TYPE_CHECKING:
    from tests.helpers.refused import Tally

pytestmark = pytest.mark.usefixtures("no_hang", "own_folder")

# R1: audio without sound, without numbers, without a frame


def test_file_of_no_bytes_is_refused(tally: Tally) -> None:
    with tally.refuses(AudioError, r"^a\.wav: not readable as audio \(an empty file, of 0 bytes\)\.$"):
        load(b"")


def test_audio_of_no_samples_is_refused_for_training(tally: Tally) -> None:
    with tally.refuses(CorpusError, r"^train\.jsonl:1: utterance u1: its audio has no samples"):
        prepare(utterance(encoded(sound(0))))


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_audio_of_zeros_is_refused(tally: Tally, subtype: str) -> None:
    with tally.refuses(AudioError, r"^a\.wav: all its samples are zero\.$"):
        load(encoded(np.zeros(1600, np.float32), subtype=subtype))


def test_channels_that_cancel_are_refused(tally: Tally) -> None:
    """Recorded with one channel's polarity reversed: the mean is silence."""
    left = sound(1600)
    with tally.refuses(AudioError, "all its samples are zero once its channels are averaged"):
        load(encoded(np.stack([left, -left], axis=1), subtype="FLOAT"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_samples_that_are_no_numbers_are_refused(tally: Tally, value: float) -> None:
    samples = sound(1600)
    samples[700] = value
    with tally.refuses(AudioError, r"^a\.wav: holds samples that are not numbers"):
        load(encoded(samples, subtype="FLOAT"))


@pytest.mark.parametrize("num_samples", [1, 399])
def test_audio_below_the_receptive_field_is_refused_for_training(tally: Tally, num_samples: int) -> None:
    message = f"utterance u1: its {num_samples} samples are too short: the encoder's first frame takes 400"
    with tally.refuses(CorpusError, message):
        prepare(utterance(encoded(sound(num_samples))))
    assert len(prepare(utterance(encoded(sound(400))))[0]) == 1


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (encoded(np.zeros(9000, np.float32)), "train-2.wav: all its samples are zero"),
        (
            encoded(np.full(9000, np.nan, np.float32), subtype="FLOAT"),
            "train-2.wav: holds samples that are not numbers",
        ),
        (encoded(sound(399)), "its 399 samples are too short"),
    ],
    ids=["zeros", "NaN", "399 samples"],
)
def test_training_on_unusable_audio_is_refused_by_line_and_id(
    tone_corpus: ManifestFolder, refused: Callable, content: bytes, what: str
) -> None:
    put_audio(tone_corpus, "train", 2, content)
    message = refused("manifest", *tone_corpus.options, *MODEL)
    assert message.startswith(f"{tone_corpus.train}:3: utterance train-2: ")
    assert what in message
    assert "--corpus.on-bad drop" in message


# R3: other rates, channels, widths and codings


ODD_BUT_FINE = {
    "8 kHz": (dict(rate=8000), "1 of 1 files are resampled to 16 kHz (1 from 8000 Hz)"),
    "44.1 kHz": (dict(rate=44_100), "1 of 1 files are resampled to 16 kHz (1 from 44100 Hz)"),
    "stereo": (dict(channels=2), "1 are downmixed to mono"),
    "24-bit": (dict(subtype="PCM_24"), ""),
    "float": (dict(subtype="FLOAT"), ""),
}


@pytest.mark.parametrize("name", ODD_BUT_FINE)
def test_other_rates_channels_and_widths_are_accepted_converted_and_counted(
    tally: Tally, write_tone: Callable, tone: Callable, name: str
) -> None:
    """Reference: the same tone, 440 Hz, written at 16 kHz in mono: the spectrum's peak is there, to a bin of 2 Hz."""
    shape, line = ODD_BUT_FINE[name]
    with tally.accepts():
        audio = FileAudio(write_tone("a.wav", 0.5, **shape))
        samples = audio.load()
        assert len(samples) == audio.num_samples == 8000
        peak = np.abs(np.fft.rfft(samples)).argmax() * 16_000 / 8000
        assert abs(peak - 440) <= 2
        assert describe_conversions([Utterance("a", audio, "a")]) == line


@pytest.mark.parametrize(
    ("dtype", "order", "size"), [("<i2", "01", 1024), (">i2", "10", 1024), ("<i2", "01", 2048), (">i2", "10", 3072)]
)
def test_sphere_is_read_in_either_byte_order(tally: Tally, dtype: str, order: str, size: int) -> None:
    """Reference: the int16 values that were written, over 32768."""
    with tally.accepts():
        content = sphere_file(sound(800), dtype=dtype, sample_byte_format=order, size=size)
        np.testing.assert_array_equal(load(content), quantized(sound(800)) / np.float32(32768))


@pytest.mark.parametrize("coding", ["pcm,embedded-shorten-v2.00", "ulaw,embedded-shorten-v1.1", "pcm,embedded-wavpack"])
def test_compressed_sphere_is_refused_with_what_to_run(tally: Tally, coding: str) -> None:
    with tally.refuses(AudioError, r"compressed \(.*\)\. Expand it first: `sph2pipe -f wav IN OUT`.*w_decode"):
        load(sphere_file(sound(800), sample_coding=coding))


@pytest.mark.parametrize(
    "fields",
    [dict(sample_coding="celp"), dict(sample_coding="ulaw"), dict(sample_n_bytes=5), dict(sample_coding="pculaw")],
    ids=["celp", "ulaw of two bytes", "five bytes", "pculaw"],
)
def test_sphere_of_an_unknown_coding_is_refused(tally: Tally, fields: dict[str, Any]) -> None:
    with tally.refuses(AudioError, r"SPHERE samples of coding '\w+' in \d bytes are not read\. Convert it: `sph2pipe"):
        load(sphere_file(sound(800), **fields))


@pytest.mark.parametrize("format", ["AU", "CAF", "W64", "AIFF", "RF64"])
def test_other_containers_are_accepted_whole_and_refused_when_cut(tally: Tally, format: str) -> None:
    """Reference: the samples that were written. libsndfile reads the cut file without an error: the control."""
    content = encoded(sound(1600), format)
    with tally.accepts():
        np.testing.assert_array_equal(load(content), load(encoded(sound(1600))))
    soundfile.read(io.BytesIO(content[:-200]))
    with tally.refuses(AudioError, r"^a\.wav: its header says 1600 samples, 1500 are there: truncated\?"):
        load(content[:-200])


@pytest.mark.parametrize("format", ["MAT5", "IRCAM", "PAF", "SVX"])
def test_format_whose_length_nobody_checks_is_refused_by_name(tally: Tally, format: str) -> None:
    name = "IFF|SVX" if format == "SVX" else format
    with tally.refuses(
        UnknownAudioError, rf"^a.wav: not readable as audio \(({name}|SF) files are not read: convert it"
    ):
        load(encoded(sound(800), format))


@pytest.mark.parametrize("rate", [1, 3999, 1_000_000])
def test_absurd_rate_is_refused(tally: Tally, rate: int) -> None:
    with tally.refuses(AudioError, f"a rate of {rate} Hz; 4000 to 768000 Hz are read"):
        load(sphere_file(sound(800), sample_rate=rate))


# R4: headers that lie, names that lie


WHOLE = sphere_file(sound(800))


@pytest.mark.parametrize("num_bytes", [8, 15, 16, 100, 1023])
def test_sphere_cut_in_its_header_is_refused(tally: Tally, num_bytes: int) -> None:
    with tally.refuses(AudioError, r"^a\.wav: its SPHERE header (is|does not begin).* (cut off|damaged|are there)"):
        load(WHOLE[:num_bytes])


@pytest.mark.parametrize("num_bytes", [1024, 1025, 2000, 1024 + 2 * 759])
def test_sphere_cut_in_its_data_is_refused(tally: Tally, num_bytes: int) -> None:
    """libsndfile reads the samples that are there, without an error: the control."""
    short, _ = soundfile.read(io.BytesIO(WHOLE[:num_bytes]))
    num_samples = (num_bytes - 1024) // 2
    assert len(short) == num_samples
    with tally.refuses(
        AudioError, rf"header says 800 samples, {num_samples} are there: truncated, or its sample_count"
    ):
        load(WHOLE[:num_bytes])


@pytest.mark.parametrize("count", [843, 1600, 2**31, 9_999_999_999])
def test_sphere_that_promises_more_samples_than_it_has_is_refused(tally: Tally, count: int) -> None:
    with tally.refuses(AudioError, f"says {count} samples"):
        load(sphere_file(sound(800), sample_count=count))


@pytest.mark.parametrize("count", [0, 1, 799])
def test_sphere_with_more_bytes_than_it_promises_is_refused(tally: Tally, count: int) -> None:
    with tally.refuses(AudioError, f"{1600 - 2 * count} bytes stand behind the {count} samples of its SPHERE header"):
        load(sphere_file(sound(800), sample_count=count))


@pytest.mark.parametrize("field", ["channel_count", "sample_count", "sample_rate", "sample_n_bytes"])
def test_sphere_without_a_field_is_refused_by_its_name(tally: Tally, field: str) -> None:
    with tally.refuses(AudioError, f"its SPHERE header has no {field}"):
        load(sphere_file(sound(800), drop=field))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b.replace(b"end_head", b"fin_head"), "has no end_head"),
        (lambda b: b.replace(b"\n", b"\r\n"), "copied in text mode"),
        (lambda b: b.replace(b"sample_rate -i 16000", b"sample_rate -s5 16000"), "damaged at 'sample_rate -s5 16000'"),
        (lambda b: b.replace(b"-s2 01", b"-s3 01"), "damaged at 'sample_byte_format -s3 01'"),
        (lambda b: b.replace(b"-s2 01", b"-s2 11"), "'11' is no order of 2 bytes"),
        (lambda b: b.replace(b"sample_rate -i 16000", b"sample_count -i 800"), "there twice"),
        (lambda b: b.replace(b"channel_count -i 1", b"channel_count -i 0"), "says 0 channels"),
        (lambda b: b.replace(b"   1024", b"   1000"), "does not begin with NIST_1A and its size"),
    ],
    ids=["end_head", "CR LF", "type", "length", "byte order", "twice", "channels", "size"],
)  # fmt: skip
def test_damaged_sphere_header_is_refused_where_it_is_damaged(
    tally: Tally, change: Callable[[bytes], bytes], message: str
) -> None:
    assert change(WHOLE) != WHOLE
    with tally.refuses(AudioError, message):
        load(change(WHOLE))


@pytest.mark.parametrize("name", ["a.wav", "a.WAV", "a.sph", "a.flac", "a.raw", "a.mp3", "a.txt", "a"])
@pytest.mark.parametrize("kind", ["WAV", "FLAC", "NIST"])
def test_audio_is_read_as_what_it_is_whatever_its_name(tally: Tally, tmp_path: Path, name: str, kind: str) -> None:
    """Reference: the samples that were written."""
    with tally.accepts():
        (tmp_path / name).write_bytes(encoded(sound(800), kind))
        audio = FileAudio(tmp_path / name)
        assert audio.num_samples == 800
        np.testing.assert_allclose(audio.load(), sound(800), atol=1 / 32768)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.raw", "a.sph"])
def test_text_named_as_audio_is_refused(tally: Tally, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("She had your dark suit in greasy wash water all year.\n" * 40)
    with tally.refuses(AudioError, f"{name}: not readable as audio"):
        FileAudio(tmp_path / name).header  # noqa: B018


@pytest.mark.parametrize("cut", [82, 100, 1500, 1600])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "ULAW"])
def test_truncated_riff_is_refused(tally: Tally, subtype: str, cut: int) -> None:
    """Over 5 % short. libsndfile reads the rest without an error: the control."""
    width = {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4, "ULAW": 1}[subtype]
    content = encoded(sound(1600), subtype=subtype)
    content = content[: content.index(b"data") + 8 + width * (1600 - cut)]
    soundfile.read(io.BytesIO(content))
    with tally.refuses(AudioError, rf"its header says 1600 samples, {1600 - cut} are there: truncated"):
        load(content)


@pytest.mark.parametrize(("seconds", "missing", "is_read"), [
    (1.0, 1, True), (1.0, 363, True), (1.0, 800, True), (1.0, 801, False),
    (12.0, 8000, True), (12.0, 8001, False),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["WAV", "SPHERE"])
def test_slightly_short_file_is_accepted_with_what_is_there_and_named(
    tally: Tally, seconds: float, missing: int, is_read: bool, kind: str
) -> None:
    """Up to 5 % and 0.5 s. Reference: the samples that were written."""
    samples = sound(round(16_000 * seconds))
    whole = encoded(samples) if kind == "WAV" else sphere_file(samples)
    content = whole[: -2 * missing]
    if not is_read:
        with tally.refuses(AudioError, rf"header says {len(samples)} samples, {len(samples) - missing} are there"):
            load(content)
        return
    with tally.accepts():
        np.testing.assert_array_equal(load(content), load(whole)[:-missing])
        assert describe_conversions([utterance(content)]) == (
            f"1 of 1 files are shorter than they say, by {missing / 16_000:.3f} s at most (u1)"
        )


def with_data_size(size: int, riff_size: int | None = None) -> bytes:
    content = bytearray(encoded(sound(800)))
    start = content.index(b"data") + 4
    content[start : start + 4] = struct.pack("<I", size)
    content[4:8] = content[4:8] if riff_size is None else struct.pack("<I", riff_size)
    return bytes(content)


@pytest.mark.parametrize("size", [0, 2**32 - 1, 2**32 - 37, 2**31 - 1, 2**31, 0x7FFFF000])
@pytest.mark.parametrize("riff_size", [None, 0, 8, 2**32 - 1])
def test_riff_written_through_a_pipe_is_accepted_up_to_its_end(tally: Tally, size: int, riff_size: int | None) -> None:
    """Sizes that ffmpeg, sox, arecord and a recorder that died leave. Reference: the samples that were written."""
    with tally.accepts():
        np.testing.assert_array_equal(load(with_data_size(size, riff_size)), load(encoded(sound(800))))


@pytest.mark.parametrize("size", [3 * 2**30, 2**30])
def test_riff_of_gigabytes_that_was_cut_is_refused(tally: Tally, size: int) -> None:
    with tally.refuses(AudioError, "800 are there: truncated"):
        load(with_data_size(size))


def test_empty_riff_with_a_chunk_behind_holds_no_samples(tally: Tally) -> None:
    """Not 13 samples made of the letters of a comment."""
    content = encoded(sound(0)) + b"LIST" + struct.pack("<I", 14) + b"INFOISFT\x02\0\0\0ab"
    with tally.refuses(AudioError, r"^a\.wav: holds no samples\.$"):
        load(content)


def test_riff_with_other_chunks_around_its_samples_is_accepted(tally: Tally) -> None:
    whole = encoded(sound(800))
    chunk = b"LIST" + struct.pack("<I", 5) + b"INFOx\0"
    with tally.accepts():
        content = whole[:12] + chunk + whole[12:] + chunk
        np.testing.assert_array_equal(load(content), load(whole))


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_truncated_flac_is_refused(tally: Tally, share: float) -> None:
    content = encoded(sound(16_000), "FLAC")
    with tally.refuses(AudioError, r"^a\.wav: (decoding failed|its header says 16000 samples, its last frame ends at)"):
        load(content[: int(share * len(content))])


@pytest.mark.parametrize("format", ["WAV", "FLAC"])
def test_id3_tag_in_front_is_accepted_and_passed_over(tally: Tally, format: str) -> None:
    content = encoded(sound(800), format)
    with tally.accepts():
        tagged = b"ID3\x04\0\0\0\0\x01\x00" + bytes(128) + content
        np.testing.assert_array_equal(load(tagged), load(content))


@pytest.mark.parametrize("between", [b"", b"LIST" + struct.pack("<I", 4) + b"INFO"], ids=["", "LIST"])
def test_second_data_chunk_is_left_as_other_programs_leave_it_and_named(tally: Tally, between: bytes) -> None:
    """ffmpeg and sox read the first, libsndfile none of it: the control."""
    whole = encoded(sound(800))
    content = whole + between + b"data" + struct.pack("<I", 400) + bytes(range(200)) * 2
    with pytest.raises(soundfile.SoundFileError):
        soundfile.read(io.BytesIO(content))
    with tally.accepts():
        np.testing.assert_array_equal(load(content), load(whole))
        assert describe_conversions([utterance(content)]).startswith("1 of 1 files: more than one data chunk")


def test_riff_that_holds_far_more_than_it_says_is_refused(tally: Tally) -> None:
    """A size that was never brought up to date: other programs read what it says, without a word."""
    content = bytearray(encoded(sound(32_000, 3)))
    content[40:44] = struct.pack("<I", 20_000)
    with tally.refuses(AudioError, r"its header says 20000 bytes of samples, but 44000 more stand behind them"):
        load(bytes(content))


def flac_through_a_pipe(num_samples: int) -> bytes:
    """FLAC whose header says no length."""
    content = bytearray(encoded(sound(num_samples), "FLAC"))
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    return bytes(content)


@pytest.mark.parametrize("num_samples", [1, 1600, 4096, 40_000])
@pytest.mark.parametrize("behind", [b"", b"TAG" + bytes(125), bytes(500)], ids=["", "ID3v1", "zeros"])
def test_flac_of_unknown_length_is_accepted_up_to_its_last_frame(tally: Tally, num_samples: int, behind: bytes) -> None:
    with tally.accepts():
        expected = load(encoded(sound(num_samples), "FLAC"))
        np.testing.assert_array_equal(load(flac_through_a_pipe(num_samples) + behind), expected)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_flac_of_unknown_length_that_is_cut_is_refused(tally: Tally, share: float) -> None:
    content = flac_through_a_pipe(40_000)
    with tally.refuses(AudioError, "does not say how long it is, and its last frame is cut off"):
        load(content[: int(share * len(content))])


@pytest.mark.parametrize("second", [16_000, 9000], ids=["as long", "shorter"])
@pytest.mark.parametrize("format", ["FLAC", "WAV"])
def test_joined_files_of_which_others_read_the_first_are_refused(tally: Tally, format: str, second: int) -> None:
    """`cat a.flac b.flac`. libsndfile or ffmpeg reads half of it."""
    content = encoded(sound(16_000), format) + encoded(sound(second), format)
    with tally.refuses(AudioError, r"a second (FLAC|WAV) file stands behind|joined of several files"):
        load(content)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_truncated_ogg_is_refused(tally: Tally, subtype: str, share: float) -> None:
    """Ten seconds are many pages: libsndfile reads the whole ones without an error."""
    content = encoded(sound(160_000), "OGG", subtype)
    assert len(load(content)) == 160_000
    with tally.refuses(AudioError, "last Ogg page is missing: truncated"):
        load(content[: int(share * len(content))])


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_that_ends_with_a_whole_page_before_its_last_is_refused(tally: Tally, subtype: str) -> None:
    content = encoded(sound(160_000), "OGG", subtype)
    with tally.refuses(AudioError, "last Ogg page is missing: truncated"):
        load(content[: content.rindex(b"OggS")])


def test_training_on_a_truncated_sphere_file_is_refused_by_name(
    tiny_timit: Path, tmp_path: Path, refused: Callable
) -> None:
    """Through the command line, on a tree of TIMIT's shape."""
    tree = tmp_path / "TIMIT"
    for path in tiny_timit.rglob("*"):
        if path.is_file():
            (tree / path.relative_to(tiny_timit)).parent.mkdir(parents=True, exist_ok=True)
            (tree / path.relative_to(tiny_timit)).write_bytes(path.read_bytes())
    bad = next((tree / "TRAIN").rglob("SX*.WAV"))
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
    message = refused("timit", "--corpus.root", str(tree), *MODEL)
    assert message.startswith(f"{bad}: utterance {bad.parent.name}_{bad.stem}: {bad}: its SPHERE header says ")
    assert "truncated" in message


def test_written_sphere_files_are_accepted_as_they_are(tally: Tally, tmp_path: Path) -> None:
    """Our own writer, TIMIT's fields in TIMIT's order; reference: the samples."""
    samples = quantized(sound(500))
    with tally.accepts():
        write_sphere(tmp_path / "a.WAV", samples, utterance_id="abc0_sa1")
        np.testing.assert_array_equal(FileAudio(tmp_path / "a.WAV").load(), samples / np.float32(32768))
