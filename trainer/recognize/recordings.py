"""What is to be transcribed: files, all audio below a folder, or the utterances of packed shards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from data.audio.media import find_recordings, load_recording
from data.chain import Chain
from data.lazy import Lazy
from data.shards.index import SEAL
from data.shards.parts import part_bounds
from data.shards.table import Shards, ShardTable
from data.shards.tarring import key_of
from trainer.errors import AudioError, ConfigError


@dataclass(frozen=True)
class Recording:
    """One recording, not yet read."""

    title: str
    """For messages and transcripts: the file's path, or the utterance's id."""
    path: Path
    """Where it lies; for an utterance in a shard the shards' folder and its key."""
    name: Path
    """Its path relative to the folder that was given."""
    load: Callable[[], np.ndarray]
    """float32 (num_samples,), mono at 16 kHz; AudioError when it cannot be read."""


class ShardRecordings(Lazy[Recording]):
    """The utterances of a folder of shards, each made when it is asked for."""

    def __init__(self, table: ShardTable) -> None:
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def some(self, positions: range) -> Sequence[Recording]:
        if positions.step != 1:
            return super().some(positions)
        return ShardRecordings(self.table.slice(positions.start, positions.stop))

    def at(self, i: int) -> Recording:
        utterance = self.table[i]
        key = key_of(utterance.id)
        return Recording(utterance.id, Path(self.table.shards.storage.url, key), Path(key), utterance.audio.load)


def find_all(inputs: Sequence[str], cache_dir: Path, part: tuple[int, int] | None = None) -> Sequence[Recording]:
    """Every recording of `inputs`, or the K-th of N stretches of them; AudioError where one of them is nothing."""
    files = [Path(text) for text in inputs if not is_shards(text)]
    found: list[Sequence[Recording]] = []
    if files:
        found.append([
            Recording(str(path), path, name, partial(load_recording, path)) for path, name in find_recordings(files)
        ])  # fmt: skip
    for text in inputs:
        if is_shards(text):
            found.append(ShardRecordings(ShardTable(Shards(text, cache_dir, cache_bytes=0))))
    recordings = found[0] if len(found) == 1 else Chain(found)
    if part is None:
        return recordings
    first, last = part_bounds(len(recordings), part)
    if first == last:
        raise ConfigError(
            f"--part {part[0]}/{part[1]} is empty: there are {len(recordings)} recordings. Ask for fewer parts."
        )
    return recordings[first:last]


def is_shards(text: str) -> bool:
    """Whether this names shards: an address, or a folder with their seal."""
    if text.startswith(("http://", "https://")):
        raise AudioError(f"{text}: fetch the file, and give the path to it.")
    return "://" in text or (Path(text) / SEAL).is_file()
