"""Recordings of any format (data.audio.media): libsndfile's, and ffmpeg's where it is installed.

pytest tests/data/audio/test_media.py
"""

from __future__ import annotations

import doctest
import errno
import os
import shutil
import stat
import struct
import subprocess
import threading
import time
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np
import pytest
import soundfile

import data.audio.by_ffmpeg
from data.audio.decode import FileAudio
from data.audio.media import find_recordings, load_recording
from tests.helpers.audio import sphere_file
from tests.helpers.corpora import make_tone
from trainer.errors import AudioError

HAS_FFMPEG = shutil.which("ffmpeg") is not None
NEEDS_FFMPEG = pytest.mark.skipif(not HAS_FFMPEG, reason="ffmpeg is not installed")


def stand_in_for_ffmpeg(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """An `ffmpeg` that notes its arguments and runs `script`, first on the path."""
    program, noted = folder / "bin" / "ffmpeg", folder / "arguments"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {noted}\n{script}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return noted


@pytest.mark.parametrize(
    ("name", "format"), [("a.aiff", "AIFF"), ("a.au", "AU"), ("a.caf", "CAF"), ("a.w64", "W64"), ("a.voc", "VOC")]
)
def test_formats_of_libsndfile_are_read_as_wav_is(name: str, format: str, tmp_path: Path) -> None:
    """Reference: data.audio.decode on the same samples as wav; stereo of 44.1 kHz, 16 bits."""
    samples = make_tone(0.4, rate=44_100, channels=2)
    soundfile.write(tmp_path / name, samples, 44_100, format=format, subtype="PCM_16")
    soundfile.write(tmp_path / "a.wav", samples, 44_100, subtype="PCM_16")
    assert np.array_equal(load_recording(tmp_path / name), FileAudio(tmp_path / "a.wav").load())


def test_truncated_wav_stays_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where ffmpeg would read what is left."""
    stand_in_for_ffmpeg(tmp_path, monkeypatch, "head -c 64000 /dev/urandom")
    soundfile.write(tmp_path / "a.wav", make_tone(1.0), 16_000)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:9000])
    with pytest.raises(AudioError, match="truncated"):
        load_recording(tmp_path / "a.wav")


def test_without_ffmpeg_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(200))
    with pytest.raises(AudioError, match=r"ffmpeg, which is not installed: install it, or convert the file to wav"):
        load_recording(tmp_path / "a.m4a")


def au_script(folder: Path, samples: np.ndarray, rate: int, says: str = "", then: str = "") -> str:
    """A script that writes what ffmpeg writes: AU of float32, all channels."""
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    header = b".snd" + struct.pack(">5I", 24, 0xFFFFFFFF, 6, rate, channels)
    (folder / "output.au").write_bytes(header + samples.astype(">f4").tobytes())
    (folder / "said").write_text(says)
    return f"cat {folder / 'said'} >&2; cat {folder / 'output.au'}; {then}"


def test_ffmpeg_may_read_nothing_but_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No protocol but file, no playlist; a name that looks like an option or a protocol is a name."""
    noted = stand_in_for_ffmpeg(tmp_path, monkeypatch, au_script(tmp_path, np.array([0.5]), 16_000))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-i.m4a").write_bytes(b"not libsndfile's")
    assert load_recording(Path("-i.m4a")).tolist() == [0.5]
    arguments = noted.read_text().splitlines()
    assert arguments[arguments.index("-protocol_whitelist") + 1] == "file,pipe"
    assert not {"hls", "concat", "dash"} & set(arguments[arguments.index("-format_whitelist") + 1].split(","))
    assert arguments[arguments.index("-i") + 1] == f"file:{tmp_path}/-i.m4a"
    assert "-nostdin" in arguments


@pytest.mark.parametrize("script", ["echo bad header >&2; exit 1", "echo bad header >&2"])
def test_what_ffmpeg_says_is_passed_on_behind_the_first_readers_reason(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_for_ffmpeg(tmp_path, monkeypatch, script)
    (tmp_path / "a.m4a").write_bytes(b"nothing")
    with pytest.raises(
        AudioError,
        match=r"a\.m4a: not readable as audio \(.*\)\. ffmpeg reads no sound from it either \(bad header\)",
    ):
        load_recording(tmp_path / "a.m4a")


def test_a_video_without_sound_is_called_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ffmpeg 5.1 says of one; its last line would be about its own options."""
    said = (
        "[info] Input #0, mov,mp4, from 'x':",
        "[info]   Stream #0:0[0x1](und): Video: h264, yuv444p",
        "[fatal] Stream map '0:a:0' matches no streams.",
        "To ignore this, add a trailing '?' to the map.",
    )
    (tmp_path / "said").write_text("\n".join(said))
    stand_in_for_ffmpeg(tmp_path, monkeypatch, f"cat {tmp_path / 'said'} >&2; exit 1")
    (tmp_path / "a.mp4").write_bytes(b"nothing")
    with pytest.raises(AudioError, match=r"no sound from it either \(it holds no audio stream\)"):
        load_recording(tmp_path / "a.mp4")


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 2), (44_100, 2), (48_000, 6), (8000, 1)])
def test_channels_that_ffmpeg_decodes_are_averaged(
    rate: int, channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reference: data.audio.decode on the same samples as WAV. ffmpeg's own downmix makes stereo 1.41 times as loud."""
    samples = make_tone(1.3, rate=rate, channels=channels)
    stand_in_for_ffmpeg(tmp_path, monkeypatch, au_script(tmp_path, samples, rate))
    (tmp_path / "a.m4a").write_bytes(b"nothing")
    soundfile.write(tmp_path / "a.wav", samples, rate, subtype="FLOAT")
    np.testing.assert_allclose(load_recording(tmp_path / "a.m4a"), FileAudio(tmp_path / "a.wav").load(), atol=1e-5)


@pytest.mark.parametrize("channel", [0, 1])
def test_a_channel_is_the_same_through_ffmpeg_and_without(
    channel: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reference: the channel as a recording of its own."""
    samples = np.stack([make_tone(1.3, rate=44_100), 0.5 * make_tone(1.3, rate=44_100)], axis=1)
    stand_in_for_ffmpeg(tmp_path, monkeypatch, au_script(tmp_path, samples, 44_100))
    (tmp_path / "a.m4a").write_bytes(b"nothing")
    soundfile.write(tmp_path / "a.wav", samples, 44_100, subtype="FLOAT")
    soundfile.write(tmp_path / "one.wav", samples[:, channel], 44_100, subtype="FLOAT")
    expected = FileAudio(tmp_path / "one.wav").load()
    np.testing.assert_array_equal(load_recording(tmp_path / "a.wav", channel=channel), expected)
    np.testing.assert_allclose(load_recording(tmp_path / "a.m4a", channel=channel), expected, atol=1e-5)
    for name in ("a.wav", "a.m4a"):
        with pytest.raises(AudioError, match=r"it has 2 channels, so there is no channel 3"):
            load_recording(tmp_path / name, channel=2)


DAMAGE = {
    "error": "[info] Input #0, matroska\n[matroska @ 0x5] [error] File ended prematurely\n",
    "this stream": "[mpegts @ 0x5] [warning] Packet corrupt (stream = 1, dts = 7).\n[info] Input #0, mpegts\n"
                   "[info]   Stream #0:1 -> #0:0 (mp2 (native) -> pcm_f32be (native))\n",
}  # fmt: skip
NO_DAMAGE = {
    "pictures, while it probes": "[h264 @ 0x5] [error] non-existing PPS 0 referenced\n[info] Input #0, mpegts\n",
    "another stream": "[info] Input #0, mpegts\n[info]   Stream #0:1 -> #0:0 (mp2 -> pcm)\n"
                      "[mpegts @ 0x5] [warning] Packet corrupt (stream = 0, dts = 7).\n",
    "a guess": "[info] Input #0, asf\n[warning] Guessed Channel Layout for Input Stream #0.0 : stereo\n",
}  # fmt: skip


@pytest.mark.parametrize("said", [*DAMAGE.values(), *NO_DAMAGE.values()], ids=[*DAMAGE, *NO_DAMAGE])
def test_damage_that_ffmpeg_reads_past_is_refused(said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its exit code is 0 and half the samples are there: only what it says tells."""
    stand_in_for_ffmpeg(tmp_path, monkeypatch, au_script(tmp_path, make_tone(0.5), 16_000, said))
    (tmp_path / "a.ts").write_bytes(b"nothing")
    if said in NO_DAMAGE.values():
        assert len(load_recording(tmp_path / "a.ts")) == 8000
        return
    with pytest.raises(AudioError, match=r"a\.ts: .*damaged or cut off \((File ended prem|Packet corr)[^[]*\)"):
        load_recording(tmp_path / "a.ts")


def test_ffmpeg_is_stopped_when_its_time_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.audio.by_ffmpeg.MAX_WAIT_SECONDS", 0.2)
    stand_in_for_ffmpeg(tmp_path, monkeypatch, au_script(tmp_path, make_tone(0.5), 16_000, then="exec sleep 60"))
    (tmp_path / "a.m4a").write_bytes(b"nothing")
    begin = time.monotonic()
    with pytest.raises(AudioError, match=r"a\.m4a: ffmpeg was stopped after 0\.2 s"):
        load_recording(tmp_path / "a.m4a")
    assert time.monotonic() - begin < 10


def test_ffmpeg_has_less_time_where_only_short_recordings_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that on a page a file that never ends does not hold a place for ten minutes. Decoding takes no time here."""
    assert doctest.testmod(data.audio.by_ffmpeg).failed == 0
    waited: list[float] = []

    def timer(seconds: float, stop: Any) -> Timer:
        waited.append(seconds)
        return Timer(seconds, stop)

    monkeypatch.setattr(threading, "Timer", timer)
    stand_in_for_ffmpeg(tmp_path, monkeypatch, au_script(tmp_path, make_tone(0.5), 16_000))
    (tmp_path / "a.m4a").write_bytes(b"nothing")
    for max_seconds in (600, 1e9):
        load_recording(tmp_path / "a.m4a", max_seconds)
    assert waited == [150, 600]


def test_endless_output_is_stopped_at_the_limit_of_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory holds no more than the limit allows, whatever comes."""
    endless = au_script(tmp_path, make_tone(0.5), 16_000, then="exec cat /dev/zero")
    stand_in_for_ffmpeg(tmp_path, monkeypatch, endless)
    (tmp_path / "a.m4a").write_bytes(b"nothing")
    with pytest.raises(AudioError, match=r"a\.m4a: over \d+ s long; at most 20 s are read here"):
        load_recording(tmp_path / "a.m4a", 20.0)


def test_samples_of_zeros_and_no_samples_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.m4a").write_bytes(b"")
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16_000)
    soundfile.write(tmp_path / "zeros.wav", np.zeros(1600), 16_000)
    for name, message in (
        ("empty.m4a", "an empty file"),
        ("none.wav", "no samples"),
        ("zeros.wav", "samples are zero"),
    ):
        with pytest.raises(AudioError, match=message):
            load_recording(tmp_path / name)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff", "a.sph"])
def test_damaged_file_of_a_known_container_never_goes_to_ffmpeg(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where libsndfile does not open it any more: ffmpeg would read what is left."""
    noted = stand_in_for_ffmpeg(tmp_path, monkeypatch, au_script(tmp_path, make_tone(0.5), 16_000))
    if name == "a.sph":
        content = sphere_file(make_tone(1.0), sample_coding="pcm,embedded-shorten-v2.00")
    else:
        soundfile.write(tmp_path / name, make_tone(1.0), 16_000)
        content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2 + 1])
    with pytest.raises(AudioError, match="sph2pipe" if name == "a.sph" else r"truncated|cut off"):
        load_recording(tmp_path / name)
    assert not noted.exists()


@NEEDS_FFMPEG
@pytest.mark.parametrize("suffix", ["m4a", "mka", "ts", "aac"])
def test_real_ffmpeg_does_not_read_half_a_file(suffix: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", make_tone(3.0, channels=2), 16_000)
    options = ["-movflags", "+faststart"] if suffix == "m4a" else []
    path = tmp_path / f"a.{suffix}"
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", *options, path], check=True)
    assert len(load_recording(path)) >= 48_000
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AudioError, match="damaged or cut off"):
        load_recording(path)


@NEEDS_FFMPEG
@pytest.mark.parametrize("suffix", ["m4a", "webm", "mka"])
def test_real_ffmpeg_reads_its_formats(suffix: str, tmp_path: Path) -> None:
    """Reference: the tone that was encoded; its length and frequency."""
    soundfile.write(tmp_path / "a.wav", make_tone(1.0, frequency=440), 16_000)
    codec = ["-c:a", "libopus"] if suffix == "webm" else []
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", *codec, tmp_path / f"a.{suffix}"], check=True)
    samples = load_recording(tmp_path / f"a.{suffix}")
    assert abs(len(samples) - 16_000) < 1600
    assert abs(np.argmax(abs(np.fft.rfft(samples, 16_000))) - 440) <= 1


@NEEDS_FFMPEG
def test_real_ffmpeg_refuses_a_playlist_that_names_other_files(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "secret.wav", make_tone(1.0), 16_000)
    (tmp_path / "a.m4a").write_text(f"#EXTM3U\n#EXTINF:1,\nfile:{tmp_path}/secret.wav\n#EXT-X-ENDLIST\n")
    (tmp_path / "b.m4a").write_text(f"ffconcat version 1.0\nfile '{tmp_path}/secret.wav'\n")
    for name in ("a.m4a", "b.m4a"):
        with pytest.raises(AudioError, match="ffmpeg reads no sound"):
            load_recording(tmp_path / name)


def test_limit_on_length_is_checked_before_decoding(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", make_tone(2.0), 16_000)
    assert len(load_recording(tmp_path / "a.flac", 2.0)) == 32_000
    with pytest.raises(AudioError, match=r"a\.flac: 2 s long; at most 1\.5 s"):
        load_recording(tmp_path / "a.flac", 1.5)


def test_small_file_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    """8 channels at 655,350 Hz, the most that FLAC can say, within the limit on its length."""
    soundfile.write(tmp_path / "a.flac", np.zeros((65_535, 8), np.int16), 655_350)
    with pytest.raises(AudioError, match="too much to read at once"):
        load_recording(tmp_path / "a.flac", 1.0)


@pytest.mark.parametrize("kind", ["folder", "missing", "fifo"])
def test_what_is_no_file_is_named(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        subprocess.run(["mkfifo", path], check=True)
    with pytest.raises(AudioError, match=r"x\.wav"):
        load_recording(path)


@pytest.mark.parametrize("name", ["a.flac", "a.aiff", "a.m4a"])
def test_what_the_system_does_not_open_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permission denied, which chmod would not bring about for root."""

    def refuse(*args: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    (tmp_path / name).write_bytes(b"anything")
    monkeypatch.setattr("data.audio.files.os.open", refuse)
    with pytest.raises(AudioError, match=rf"{name}: Permission denied\.$"):
        load_recording(tmp_path / name)


def test_folder_is_searched_below_and_in_order(tmp_path: Path) -> None:
    for name in ("b.WAV", "a.mp3", "deep/er/c.m4a", "notes.txt", ".DS_Store"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_recordings([tmp_path, tmp_path / "notes.txt"])
    assert [name.as_posix() for _, name in found] == ["a.mp3", "b.WAV", "deep/er/c.m4a", "notes.txt"]
    assert all(path.exists() for path, _ in found)
    assert find_recordings([tmp_path, tmp_path / "a.mp3", tmp_path / "deep"]) == find_recordings([tmp_path])


def test_what_macos_knows_of_a_file_is_no_recording(tmp_path: Path) -> None:
    """It lies beside each file on disks of another kind, and in archives. A name alone hides nothing."""
    (tmp_path / "__MACOSX").mkdir()
    for name in ("a.wav", ".hidden.wav", "._only a name.wav"):
        soundfile.write(tmp_path / name, make_tone(0.1), 16_000)
    for name in ("._a.wav", "__MACOSX/._a.wav"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(60))
    found = [name.as_posix() for _, name in find_recordings([tmp_path])]
    assert found == ["._only a name.wav", ".hidden.wav", "a.wav"]


def test_a_folder_is_read_through_links_and_nothing_of_it_is_passed_over(tmp_path: Path) -> None:
    """Corpora are often links to another disk. A broken link and a FIFO are named when they are read."""
    folder, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    for place in (folder / "real", elsewhere):
        place.mkdir(parents=True)
    (folder / "real" / "a.wav").touch()
    (elsewhere / "b.WAV").touch()
    (elsewhere / "note.txt").touch()
    (folder / "disk").symlink_to(elsewhere)
    (folder / "again").symlink_to(folder / "real")
    (folder / "circle").symlink_to(folder)
    (folder / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    os.mkfifo(folder / "pipe.wav")
    found = find_recordings([folder])
    assert [name.as_posix() for _, name in found] == ["disk/b.WAV", "gone.wav", "pipe.wav", "real/a.wav"]
    for (path, name), message in zip(found[1:3], ("No such file", "a FIFO, not a file"), strict=True):
        with pytest.raises(AudioError, match=f"{name}: {message}"):
            load_recording(path)
