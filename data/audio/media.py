"""Any recording to samples: what data.audio.decode reads, libsndfile's other formats, and the rest through ffmpeg.

Training reads less on purpose (data.audio): it must know a file's length, and whether it is whole, beforehand.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile

from data.audio.containers import READ
from data.audio.decode import MAX_RATE, MIN_RATE, FileAudio, decode, resampled_length
from data.audio.files import open_regular, stat_regular
from data.utterance import SAMPLE_RATE, AudioHeader
from trainer.errors import AudioError

SUFFIXES = frozenset([
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".sph", ".nist", ".aiff", ".aif", ".aifc", ".au", ".snd",
    ".caf", ".w64", ".rf64", ".voc",
    # through ffmpeg
    ".m4a", ".m4b", ".mp4", ".m4v", ".aac", ".webm", ".mkv", ".mka", ".mov", ".3gp", ".wma", ".wmv", ".asf", ".amr",
    ".avi", ".ac3", ".mpg", ".mpeg", ".ts", ".flv",
])  # fmt: skip
"""What is looked for in a folder; a file given by name may have any name."""
_DEMUXERS = "aac,ac3,amr,ape,asf,avi,caf,flac,flv,matroska,mov,mp3,mpeg,mpegts,ogg,wav,wv"
"""Containers that hold their own samples: a playlist (HLS, concat) would let a file name others to be read."""
_MAX_VALUES_PER_SECOND = 2 * 192_000
"""Decoded values per second of the limit on length: a small file can claim a thousand channels."""


FFMPEG_PATIENCE = 60.0
"""Seconds that ffmpeg may take beyond the limit on length, where there is one: a file can be made to keep it busy."""


def find_recordings(paths: Iterable[Path]) -> list[tuple[Path, Path]]:
    """(File, its path relative to the folder that was given) of each file, and of all audio files below each folder.

    One that is named twice counts once. AudioError when a path does not exist, or a folder holds none.
    """
    found = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            if not inside:
                raise AudioError(f"{path}: no audio file in this folder. Files of other names must be given by name.")
            found += [(p, p.relative_to(path)) for p in inside]
        elif path.exists():
            found.append((path, Path(path.name)))
        else:
            raise AudioError(f"{path}: no such file or folder.")
    once: dict[str, tuple[Path, Path]] = {}
    for path, name in found:
        once.setdefault(os.path.abspath(path), (path, name))
    return list(once.values())


def load_recording(path: Path, max_seconds: float = math.inf) -> np.ndarray:
    """float32 (num_samples,), mono at SAMPLE_RATE; AudioError when it cannot be read, or lasts above `max_seconds`."""
    try:
        return _load(path, max_seconds)
    except OSError as error:
        raise AudioError(f"{path}: {error.strerror or error}.") from None


def _load(path: Path, max_seconds: float) -> np.ndarray:
    stat_regular(path)
    try:
        header = FileAudio(path).header
    except AudioError as error:
        opened = _as_libsndfile_opens(path)
        if opened is None:
            return _load_by_ffmpeg(path, max_seconds, str(error))
        format, header = opened
        if format in (*READ, "NIST"):
            raise  # damaged: others would read what is left of it without a word
        if not MIN_RATE <= header.rate <= MAX_RATE or header.num_frames >= 2**62:
            raise AudioError(f"{path}: its header says {header.rate} Hz and {header.num_frames} samples.") from None
    refuse_longer(path, header.num_frames / header.rate, max_seconds)
    if header.num_frames * header.num_channels > max_seconds * _MAX_VALUES_PER_SECOND:
        raise AudioError(f"{path}: {header.num_channels} channels at {header.rate} Hz are too much to read at once.")
    with open_regular(path) as file:
        return decode(file, str(path), header)


def refuse_longer(path: Path, seconds: float, max_seconds: float) -> None:
    """AudioError when `seconds` are more than `max_seconds`."""
    if seconds > max_seconds:
        raise AudioError(f"{path}: {seconds:.0f} s long; at most {max_seconds:g} s are read here.")


def _as_libsndfile_opens(path: Path) -> tuple[str, AudioHeader] | None:
    """(Format, header) of a file that libsndfile knows, else None."""
    try:
        with open_regular(path) as file, soundfile.SoundFile(file) as sound:
            return sound.format, AudioHeader(sound.samplerate, sound.channels, sound.frames, False)
    except (soundfile.SoundFileError, TypeError):
        return None


def _load_by_ffmpeg(path: Path, max_seconds: float, reason: str) -> np.ndarray:
    program = shutil.which("ffmpeg")
    if program is None:
        raise AudioError(
            f"{reason} Other formats are read through ffmpeg, which is not installed: install it, or convert the file "
            "to wav or flac."
        )
    limit = ["-t", f"{max_seconds + 1:g}"] if math.isfinite(max_seconds) else []
    command = [program, "-nostdin", "-v", "error", "-protocol_whitelist", "file,pipe", "-format_whitelist", _DEMUXERS,
               "-i", f"file:{os.path.abspath(path)}", "-map", "0:a:0", *limit,
               "-ac", "1", "-ar", str(SAMPLE_RATE), "-f", "f32le", "pipe:1"]  # fmt: skip
    patience = FFMPEG_PATIENCE + max_seconds if math.isfinite(max_seconds) else None
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=patience)
    except subprocess.TimeoutExpired:
        raise AudioError(f"{path}: ffmpeg had not read it after {patience:.0f} s. Convert it to wav or flac.") from None
    samples = np.frombuffer(done.stdout[: len(done.stdout) // 4 * 4], "<f4").astype(np.float32)
    if done.returncode != 0 or not len(samples):
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise AudioError(f"{path}: ffmpeg reads no sound from it ({said[-1] if said else 'no audio stream'}).")
    refuse_longer(path, resampled_length(len(samples), SAMPLE_RATE) / SAMPLE_RATE, max_seconds)
    if not np.isfinite(samples).all() or not samples.any():
        raise AudioError(f"{path}: its samples are all zero, or not numbers.")
    return samples
