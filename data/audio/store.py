"""Audio decoded once: one flat memory-mapped file and a table of offsets.

    cache/audio/CONTENT_KEY/samples.bin   int16 where the source is 16-bit mono at 16 kHz, else float32
    cache/audio/CONTENT_KEY/index.json    byte offset, samples and type of each utterance, and what failed to decode
    cache/audio/listings/KEY              which CONTENT_KEY belongs to these paths, sizes and times
    cache/audio/listings/CONTENT_KEY.lock held while the store is written

The content key hashes every encoded byte, so a store is never mistaken for another; the listing spares
reading those bytes again. Any number of processes may open the same store at once: the first one writes it, the others
wait, and it gets its name only when it is whole. int16 samples over 32768 are exactly what libsndfile gives as float32.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import accumulate, groupby
from pathlib import Path

import numpy as np

from data.audio.segments import AudioSegment, forget_decoded, part_digest
from data.processes import do_tasks, num_cores
from data.utterance import SAMPLE_RATE, AudioSource
from trainer.errors import AudioError

FORMAT = "audio-store-4 soxr-HQ mean-downmix counted-frames"
"""Part of every key: changes whenever the same source would give other samples, or another failure."""
SLICE = 32
"""Utterances that a process decodes before it takes others, but for the parts of a file, which stay together."""
WORTH_A_PROCESS = 120.0
"""Seconds of audio. For each of these a process more is worth its start."""


class AudioStore:
    """Decoded utterances by position."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index = json.loads((folder / "index.json").read_text())
        self.offsets: list[int] = index["offsets"]
        self.lengths: list[int] = index["lengths"]
        self.is_int16: list[bool] = index["is_int16"]
        self.digests: list[str] = index["digests"]
        self.failures: dict[int, str] = {int(i): message for i, message in index["failures"].items()}

    @functools.cached_property
    def _bytes(self) -> np.memmap:
        return np.memmap(self.folder / "samples.bin", dtype=np.uint8, mode="r")

    def load(self, i: int) -> np.ndarray:
        """float32 (num_samples,), what the source's own `load` gives."""
        width, dtype = (2, np.int16) if self.is_int16[i] else (4, np.float32)
        samples = self._bytes[self.offsets[i] : self.offsets[i] + width * self.lengths[i]].view(dtype)
        return samples.astype(np.float32) / 32768 if self.is_int16[i] else np.array(samples)


def open_store(
    sources: Sequence[AudioSource],
    cache_dir: Path,
    *,
    log: Callable[[str], None],
    progress: Callable[[Iterator[None], int], Iterator[None]],
) -> AudioStore:
    """The store of `sources`, in their order, made if it is not there.

    `progress` wraps an iterator over `total` utterances while they are decoded. OSError when the disk is full.
    """
    listing = cache_dir / "audio" / "listings" / _key(source.identity for source in sources)
    if listing.exists():
        folder = cache_dir / "audio" / listing.read_text()
        if _is_whole(folder, len(sources)):
            return AudioStore(folder)
    digests = content_digests(sources)
    folder = cache_dir / "audio" / _key(iter(digests))
    listing.parent.mkdir(parents=True, exist_ok=True)
    with open(listing.with_name(f"{folder.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # wait for another run that decodes the same audio
        if not _is_whole(folder, len(sources)):
            num_bytes = sum(s.num_samples * (2 if _fits_int16(s) else 4) for s in sources)
            hours = sum(s.num_samples for s in sources) / SAMPLE_RATE / 3600
            log(f"decoding {len(sources)} files ({hours:.2f} h) once into {folder} ({num_bytes / 1e6:.0f} MB)")
            _write(sources, digests, folder, progress)
        temporary = listing.with_suffix(f".{folder.name}")
        temporary.write_text(folder.name)
        temporary.replace(listing)
        return AudioStore(folder)


def content_digests(sources: Sequence[AudioSource]) -> list[str]:
    """A digest of each source's encoded bytes, with the frames where it is a part of a file, which is read once."""

    def digest(source: AudioSource) -> str:
        return hashlib.blake2b(source.raw(), digest_size=16).hexdigest()

    files: list[AudioSource] = [source.whole if isinstance(source, AudioSegment) else source for source in sources]
    once = {id(file): file for file in files}
    with ThreadPoolExecutor(min(8, num_cores())) as pool:  # each holds a file; hashing lets the others run
        digests = dict(zip(once, pool.map(digest, once.values()), strict=True))
    return [part_digest(digests[id(file)], source) for file, source in zip(files, sources, strict=True)]


def _key(parts: Iterator[str]) -> str:
    key = hashlib.blake2b(FORMAT.encode(), digest_size=12)
    for part in parts:
        key.update(part.encode(errors="surrogateescape") + b"\n")
    return key.hexdigest()


def _fits_int16(source: AudioSource) -> bool:
    header = source.header
    return header.is_pcm16 and header.rate == SAMPLE_RATE and header.num_channels == 1


def _is_whole(folder: Path, num_sources: int) -> bool:
    try:
        index = json.loads((folder / "index.json").read_text())
        return len(index["offsets"]) == num_sources and (folder / "samples.bin").stat().st_size == index["num_bytes"]
    except (OSError, ValueError, KeyError):
        return False


def _write(sources: Sequence[AudioSource], digests: list[str], folder: Path, progress: Callable) -> None:
    """Decode `sources` into `folder`. The caller holds its lock."""
    temporary = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)  # left by a process that was killed
    temporary.mkdir(parents=True)
    is_int16 = [_fits_int16(source) for source in sources]
    # every utterance starts at a multiple of 4 bytes, so that float32 can be viewed in place
    sizes = [-(-s.num_samples * (2 if small else 4) // 4) * 4 for s, small in zip(sources, is_int16, strict=True)]
    *offsets, num_bytes = accumulate(sizes, initial=0)
    lengths, failures = [0] * len(sources), {}
    slices = _slices(sources)
    seconds = sum(source.num_samples for source in sources) / SAMPLE_RATE
    num_processes = min(num_cores(), len(slices), int(seconds / WORTH_A_PROCESS))
    try:
        with open(temporary / "samples.bin", "wb", buffering=0) as file:
            os.truncate(file.fileno(), num_bytes)

            def decode(number: int) -> list[int | str]:
                """Write a slice's samples to their places. Returns how many each utterance has, or why it has none."""
                return [_decode(sources[i], is_int16[i], file.fileno(), offsets[i]) for i in slices[number]]

            bar = progress(iter([None] * len(sources)), len(sources))
            with closing(do_tasks(decode, len(slices), num_processes)) as answers:
                for number, results in answers:
                    for i, result in zip(slices[number], results, strict=True):
                        next(bar, None)
                        if isinstance(result, str):
                            failures[i] = result
                        else:
                            lengths[i] = result
            next(bar, None)
        index = {
            "offsets": offsets,
            "lengths": lengths,
            "is_int16": is_int16,
            "failures": dict(sorted(failures.items())),
            "digests": digests,
            "num_bytes": num_bytes,
        }
        (temporary / "index.json").write_text(json.dumps(index))
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)
    finally:
        forget_decoded()
        shutil.rmtree(temporary, ignore_errors=True)


def _slices(sources: Sequence[AudioSource]) -> list[list[int]]:
    """Positions of `sources`, cut into slices. The parts of one file stay together, since it may be decoded whole."""
    files = [source.whole if isinstance(source, AudioSegment) else source for source in sources]
    slices: list[list[int]] = []
    for _, positions in groupby(range(len(sources)), key=lambda i: id(files[i])):
        if not slices or len(slices[-1]) >= SLICE:
            slices.append([])
        slices[-1] += positions
    return slices


def _decode(source: AudioSource, is_int16: bool, descriptor: int, offset: int) -> int | str:
    """Write the samples of `source` at byte `offset`. Returns their number, or why there are none."""
    try:
        samples = source.load()
    except AudioError as error:
        return str(error)
    assert len(samples) == source.num_samples, "a source has as many samples as its header says"
    left = ((samples * 32768).astype(np.int16) if is_int16 else samples).data.cast("B")
    while left:
        written = os.pwrite(descriptor, left, offset)
        left, offset = left[written:], offset + written
    return len(samples)
