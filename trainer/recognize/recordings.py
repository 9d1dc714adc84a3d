"""What is to be transcribed: files, all audio below a folder, the rows of a manifest, or packed shards."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from data.audio.media import SUFFIXES, find_recordings, load_recording
from data.chain import Chain
from data.corpora.manifest import ManifestConfig, ManifestCorpus
from data.lazy import Lazy
from data.shards.index import SEAL
from data.shards.parts import part_bounds
from data.shards.table import Shards, ShardTable
from data.shards.tarring import key_of
from data.utterance import Utterance
from trainer.errors import AudioError, ConfigError, CorpusError

MANIFESTS = frozenset([".jsonl", ".json", ".csv", ".tsv"])
"""Suffixes of lists of utterances."""


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


def find_all(
    inputs: Sequence[str], cache_dir: Path, part: tuple[int, int] | None = None, channel: int | None = None
) -> Sequence[Recording]:
    """Every recording of `inputs`, or the K-th of N stretches of them; AudioError where one of them is nothing.

    `channel` of each file is read, 0 the first; None: the mean of all. ConfigError where inputs are no files.
    """
    files = [Path(text) for text in inputs if not is_shards(text) and not is_manifest(text)]
    found: list[Sequence[Recording]] = []
    if files:
        found.append([
            Recording(str(path), path, name, partial(load_recording, path, channel=channel))
            for path, name in find_recordings(files)
        ])  # fmt: skip
    for text in inputs:
        if channel is not None and (is_manifest(text) or is_shards(text)):
            raise ConfigError(f"--channel {channel + 1} is of files. The rows of {text} say which channel they are.")
        if is_manifest(text):
            found.append(_of_manifest(text))
        elif is_shards(text):
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


def is_manifest(text: str) -> bool:
    """Whether this names a list of utterances."""
    return Path(text).suffix.lower() in MANIFESTS and Path(text).is_file()


def _of_manifest(manifest: str) -> list[Recording]:
    """The utterances of a manifest, which needs no transcripts. What is wrong with a row is told when it is loaded."""
    readings = list(ManifestCorpus(ManifestConfig(eval=manifest), needs_text=False).readings("eval"))
    names = iter(file_names([one.id for one in readings if isinstance(one, Utterance)]))
    folder, found = Path(manifest).parent, list[Recording]()
    for number, one in enumerate(readings, 1):
        if isinstance(one, Utterance):
            name = next(names)
            name = name.with_name(f"{name.name}.wav")  # a suffix, as files have one
            found.append(Recording(one.id, folder / name, name, one.audio.load))
        else:
            row = Path(f"row-{number}.wav")
            found.append(Recording(manifest, folder / row, row, partial(_refuse, one)))
    return found


def _refuse(error: CorpusError) -> np.ndarray:
    raise AudioError(str(error))


def file_names(ids: Sequence[str]) -> list[Path]:
    """The path below --out, without a suffix, of each of these ids; CorpusError where two are equal.

    Most manifests have the audio's path as id. It is taken without its suffix, and without the folder that all absolute
    ones share. An id that is no path below a folder, or would take the place of another, becomes a key (key_of).

    >>> [str(name) for name in file_names(["wav/a.flac", "wav/b.wav", "wav/b.mp3", "../c.wav"])]
    ['wav/a', 'wav=2fb=2ewav', 'wav=2fb=2emp3', '=2e=2e=2fc=2ewav']
    """
    twice = [id for id, count in Counter(ids).items() if count > 1]
    if twice:
        raise CorpusError(f"the id {twice[0]!r} stands {ids.count(twice[0])} times. Give each utterance its own.")
    absolute = [os.path.dirname(id) for id in ids if id.startswith("/")]
    shared = os.path.commonpath(absolute) if absolute else ""
    paths = [_as_path(id.removeprefix(shared).lstrip("/") if id.startswith("/") else id) for id in ids]
    counts = Counter(paths)
    return [Path(key_of(id)) if path is None or counts[path] > 1 else path for id, path in zip(ids, paths, strict=True)]


def _as_path(id: str) -> Path | None:
    """The id as a relative path without the audio's suffix; None where a file cannot or should not have that name."""
    parts = id.split("/")
    # `=` is what a key has; a name of 255 bytes has room for a suffix
    if not id.isprintable() or "=" in id or any(part.startswith(".") or not part for part in parts):
        return None
    if any(len(part.encode()) > 200 for part in parts) or len(id.encode()) > 2000:
        return None
    path = Path(id)
    return path.with_suffix("") if path.suffix.lower() in SUFFIXES else path


def is_shards(text: str) -> bool:
    """Whether this names shards: an address, or a folder with their seal."""
    if text.startswith(("http://", "https://")):
        raise AudioError(f"{text}: fetch the file, and give the path to it.")
    return "://" in text or (Path(text) / SEAL).is_file()
