"""Recordings of formats that libsndfile does not know, decoded by the program ffmpeg.

It runs under a limit of time and writes all channels as they are: one is taken here, or their mean, as everywhere.
What it says is read too: it goes on behind damage and ends with code 0, so only its complaints tell half a file from a
whole one.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import soxr

from data.audio.decode import (
    MAX_RATE,
    MIN_RATE,
    fit_length,
    refuse_no_channel,
    refuse_no_sound,
    resampled_length,
    to_one_channel,
)
from data.utterance import SAMPLE_RATE
from trainer.errors import AudioError

MAX_WAIT_SECONDS = 600.0
"""ffmpeg is stopped when it takes longer for one file; earlier where only short recordings are read (`wait_for`)."""
_DEMUXERS = "aac,ac3,amr,ape,asf,avi,caf,flac,flv,matroska,mov,mp3,mpeg,mpegts,ogg,wav,wv"
"""Containers that hold their own samples: a playlist (HLS, concat) would let a file name others to be read."""
_MAX_CHANNELS = 1024
_BLOCK_VALUES = 2**20
_MAX_SAID = 2**20
"""Bytes of what ffmpeg says that are looked at."""


def load_by_ffmpeg(path: Path, max_seconds: float, reason: str, channel: int | None = None) -> np.ndarray:
    """float32 (num_samples,), mono at SAMPLE_RATE, of a file that is not read here for `reason`, a sentence.

    `channel`: 0 is the first; None: the mean of all. AudioError when ffmpeg is not there, reads nothing, complains,
    takes too long, or finds above `max_seconds`.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise AudioError(
            f"{reason} Other formats are read through ffmpeg, which is not installed: install it, or convert the file "
            "to wav or flac."
        )
    # what the file holds in its own rate and channels, as AU: a header of a few bytes, then samples
    command = [program, "-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info", "-protocol_whitelist",
               "file,pipe", "-format_whitelist", _DEMUXERS, "-i", f"file:{os.path.abspath(path)}", "-map", "0:a:0",
               "-t", f"{max_seconds + 1:g}", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]  # fmt: skip
    limit = wait_for(max_seconds)
    with tempfile.TemporaryFile() as said, _running(command, said, limit) as (process, is_late):
        assert process.stdout is not None
        rate, num_channels, blocks, num_frames = 0, 0, [], 0
        if shape := _read_au_header(process.stdout):
            rate, num_channels = shape
            if not (MIN_RATE <= rate <= MAX_RATE and 1 <= num_channels <= _MAX_CHANNELS):
                raise AudioError(f"{path}: ffmpeg finds {num_channels} channels of {rate} Hz in it.")
            refuse_no_channel(str(path), channel, num_channels)
            stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
            for mono in _mono_blocks(process.stdout, num_channels, channel):
                num_frames += len(mono)
                if num_frames > max_seconds * rate:
                    seconds = num_frames / rate
                    raise AudioError(f"{path}: over {seconds:.0f} s long; at most {max_seconds:g} s are read here.")
                blocks.append(mono if rate == SAMPLE_RATE else stream.resample_chunk(mono))
            if rate != SAMPLE_RATE:
                blocks.append(stream.resample_chunk(np.zeros(0, np.float32), last=True))
        code = process.wait()
        said.seek(0)
        lines = said.read(_MAX_SAID).decode(errors="replace").splitlines()
    if is_late.is_set():
        raise AudioError(f"{path}: ffmpeg was stopped after {limit:g} s. Convert the file to wav or flac.")
    if code != 0 or not num_frames:
        is_opened = any("Input #0" in line for line in lines)
        has_sound = any(re.search(r"Stream #0:\d+.*: Audio:", line) for line in lines)
        last = _plain(lines[-1]) if lines and (has_sound or not is_opened) else "it holds no audio stream"
        raise AudioError(f"{reason} ffmpeg reads no sound from it either ({last}).")
    if complaint := find_complaint(lines):
        raise AudioError(
            f"{reason} ffmpeg finds it damaged or cut off ({complaint}). If you want what is left of it, run "
            "`ffmpeg -i IN OUT.wav` and read that."
        )
    samples = fit_length(np.concatenate(blocks), resampled_length(num_frames, rate))
    refuse_no_sound(samples, str(path), num_channels if channel is None else 1)
    return samples


def wait_for(max_seconds: float) -> float:
    """Seconds that ffmpeg may take for a recording of at most `max_seconds`: decoding is far faster than listening, and
    on a page one file must not keep others waiting.

    >>> wait_for(600), wait_for(43_200)
    (150.0, 600.0)
    """
    return min(MAX_WAIT_SECONDS, 30 + 0.2 * max_seconds)


@contextlib.contextmanager
def _running(
    command: list[str], said: IO[bytes], seconds: float
) -> Iterator[tuple[subprocess.Popen[bytes], threading.Event]]:
    """The process, and whether it was stopped because its time was up. At the end it is stopped in any case."""
    is_late = threading.Event()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said)

    def stop() -> None:
        is_late.set()
        process.kill()

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield process, is_late
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _read_au_header(file: IO[bytes]) -> tuple[int, int] | None:
    """(Rate, channels) of an AU stream of float32, of which the samples come next; None when nothing comes."""
    head = file.read(24)
    if len(head) < 24 or head[:4] != b".snd":
        return None
    offset, _, _, rate, num_channels = struct.unpack(">5I", head[4:])
    file.read(offset - 24)
    return rate, num_channels


def _mono_blocks(file: IO[bytes], num_channels: int, channel: int | None) -> Iterator[np.ndarray]:
    """float32 (n,): one channel or the mean of all, a block at a time."""
    width = 4 * num_channels
    while block := file.read(max(1, _BLOCK_VALUES // num_channels) * width):
        values = np.frombuffer(block[: len(block) // width * width], ">f4").astype(np.float32)
        yield to_one_channel(values.reshape(-1, num_channels), channel)


def find_complaint(lines: list[str]) -> str:
    """The first line in which ffmpeg tells of damage to the stream that is read; empty when there is none.

    Before it names its input it probes all streams, pictures too: there only what concerns this one counts.
    """
    stream = next((m[1] for line in lines if (m := re.search(r"Stream #0:(\d+).* -> #0:0", line))), "0")
    is_open = False
    for line in lines:
        is_open = is_open or "Input #0" in line
        corrupt = re.search(r"Packet corrupt \(stream = (\d+)", line)
        if corrupt:
            is_damage = corrupt[1] == stream
        else:
            is_damage = is_open and re.search(r"\[(error|fatal|panic)\]", line) is not None
        if is_damage:
            return _plain(line)
    return ""


def _plain(line: str) -> str:
    """`line` without what ffmpeg puts in front: `[mov @ 0x55] [error] `."""
    return re.sub(r"^(\[[^]]*\] *)+", "", line.strip())
