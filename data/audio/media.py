"""Any recording to samples: what data.audio.decode reads, and the rest through ffmpeg (data.audio.by_ffmpeg).

A file whose container is counted here and that is damaged is refused: another program would read what is left of it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from data.audio.by_ffmpeg import load_by_ffmpeg
from data.audio.decode import FileAudio
from data.audio.files import files_below, stat_regular
from data.audio.segments import AudioSegment
from trainer.errors import AudioError, UnknownAudioError

SUFFIXES = frozenset([
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".sph", ".nist", ".aiff", ".aif", ".aifc", ".au", ".snd",
    ".caf", ".w64", ".rf64", ".voc",
    # through ffmpeg
    ".m4a", ".m4b", ".mp4", ".m4v", ".aac", ".webm", ".mkv", ".mka", ".mov", ".3gp", ".wma", ".wmv", ".asf", ".amr",
    ".avi", ".ac3", ".mpg", ".mpeg", ".ts", ".flv",
])  # fmt: skip
"""What is looked for in a folder; a file given by name may have any name."""
MAX_SECONDS = 12 * 3600
"""No recording that is longer is read at once: its samples alone would be 2.8 GB."""
_MAX_VALUES_PER_SECOND = 2 * 192_000
"""Decoded values per second of the limit on length: a small file can claim a thousand channels."""


def find_recordings(paths: Iterable[Path]) -> list[tuple[Path, Path]]:
    """(File, its path relative to the folder that was given) of each file, and of all audio files below each folder.

    One that is named twice counts once. Whether a file can be opened is not looked at. AudioError when a path does not
    exist, or a folder holds none.
    """
    found = []
    for path in paths:
        if path.is_dir():
            inside = [p for p in files_below(path) if p.suffix.lower() in SUFFIXES]
            if not inside:
                raise AudioError(f"{path}: no audio file in this folder. Files of other names must be given by name.")
            found += [(p, p.relative_to(path)) for p in inside]
        elif path.exists():
            found.append((path, Path(path.name)))
        elif str(path) == "-":
            raise AudioError("-: standard input is not read, since formats need a whole file. Write it to one first.")
        else:
            raise AudioError(f"{path}: no such file or folder.")
    once: dict[str, tuple[Path, Path]] = {}
    for path, name in found:
        once.setdefault(os.path.abspath(path), (path, name))
    return list(once.values())


def load_recording(path: Path, max_seconds: float = math.inf, channel: int | None = None) -> np.ndarray:
    """float32 (num_samples,), mono at SAMPLE_RATE; AudioError when it cannot be read, or lasts above `max_seconds`.

    `channel`: 0 is the first; None: the mean of all.
    """
    try:
        return _load(path, min(max_seconds, MAX_SECONDS), channel)
    except OSError as error:
        raise AudioError(f"{path}: {error.strerror or error}.") from None


def _load(path: Path, max_seconds: float, channel: int | None) -> np.ndarray:
    stat_regular(path)
    audio = FileAudio(path)
    try:
        header = audio.header
    except UnknownAudioError as error:
        return load_by_ffmpeg(path, max_seconds, str(error), channel)
    refuse_longer(path, header.num_frames / header.rate, max_seconds)
    if header.num_frames * header.num_channels > max_seconds * _MAX_VALUES_PER_SECOND:
        raise AudioError(f"{path}: {header.num_channels} channels at {header.rate} Hz are too much to read at once.")
    return audio.load() if channel is None else AudioSegment(audio, channel=channel).load()


def refuse_longer(path: Path, seconds: float, max_seconds: float) -> None:
    """AudioError when `seconds` are more than `max_seconds`."""
    if seconds > max_seconds:
        raise AudioError(f"{path}: {seconds:.0f} s long; at most {max_seconds:g} s are read here.")
