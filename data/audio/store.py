"""Audio decoded once: one flat memory-mapped file and a table of what lies where.

    cache/audio/CONTENT_KEY/samples.bin   int16 where the source is 16-bit mono at 16 kHz, else float32
    cache/audio/CONTENT_KEY/index.arrow   byte offset, samples, type and digest of each source, and why one failed
    cache/audio/listings/KEY              which CONTENT_KEY belongs to these paths, sizes and times
    cache/audio/listings/CONTENT_KEY.lock held while the store is written

The content key hashes every encoded byte, so a store is never mistaken for another; the listing spares
reading those bytes again. Any number of processes may open the same store at once: the first one writes it, the others
wait, and it gets its name only when it is whole. int16 samples over 32768 are exactly what libsndfile gives as float32.

Sources may be millions, so they are asked for one at a time, as often as needed, and all that is known of them lies in
arrays: of a source some 70 bytes.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import groupby, repeat
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.audio.segments import AudioSegment, forget_decoded, part_digest
from data.machine.filesystems import describe_no_locks, lock
from data.machine.limits import num_cores
from data.machine.processes import do_tasks
from data.utterance import SAMPLE_RATE, AudioSource
from trainer.errors import AudioError, StorageError

FORMAT = "audio-store-5 soxr-HQ mean-downmix counted-frames"
"""Part of every key: changes whenever the same source would give other samples, or another failure."""
SLICE = 32
"""Utterances that a process decodes before it takes others, but for the parts of a file, which stay together."""
WORTH_A_PROCESS = 120.0
"""Seconds of audio. For each of these a process more is worth its start."""
_HASHED_AT_ONCE = 16
"""Files that a thread hashes before it takes others."""
_NUM_BYTES = b"num_bytes"
"""Key of the index' metadata: how long samples.bin is."""


class AudioStore:
    """Decoded sources by position."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index = _read_index(folder)
        self.offsets: np.ndarray = index["offset"].to_numpy()
        """int64 (n,), in bytes of samples.bin."""
        self.lengths: np.ndarray = index["length"].to_numpy()
        """int64 (n,): samples; 0 where decoding failed."""
        self.is_int16: np.ndarray = index["is_int16"].to_numpy()
        """bool (n,)."""
        self.digests: pa.ChunkedArray = index["digest"]
        """Strings, as `content_digests` gives them."""
        self._failures: pa.ChunkedArray = index["failure"]

    @functools.cached_property
    def failures(self) -> dict[int, str]:
        """Why a source did not decode, by its position."""
        failed = np.flatnonzero(pc.is_valid(self._failures).to_numpy())
        return {int(i): self._failures[int(i)].as_py() for i in failed}

    def digest(self, i: int) -> str:
        return self.digests[i].as_py()

    @functools.cached_property
    def _bytes(self) -> np.memmap:
        path = self.folder / "samples.bin"
        try:
            return np.memmap(path, dtype=np.uint8, mode="r")
        except OSError as error:  # ENODEV: a file system without it, such as some of FUSE's and 9p
            raise StorageError(
                f"{path}: cannot be mapped into memory ({error.strerror or error}). Give a --cache-dir on a disk of "
                "this machine."
            ) from None

    def load(self, i: int) -> np.ndarray:
        """float32 (num_samples,), what the source's own `load` gives."""
        offset, length, is_int16 = int(self.offsets[i]), int(self.lengths[i]), self.is_int16[i]
        width, dtype = (2, np.int16) if is_int16 else (4, np.float32)
        samples = self._bytes[offset : offset + width * length].view(dtype)
        return samples.astype(np.float32) / 32768 if is_int16 else np.array(samples)


def open_store(
    sources: Sequence[AudioSource],
    cache_dir: Path,
    *,
    log: Callable[[str], None],
    progress: Callable[[Iterator[None], int], Iterator[None]],
    warn: Callable[[str], None] | None = None,
) -> AudioStore:
    """The store of `sources`, in their order, made if it is not there.

    `progress` wraps an iterator over `total` utterances while they are decoded. `warn` (or `log`) is told when other
    runs would not notice that it is being made. OSError when the disk is full.
    """
    listing = cache_dir / "audio" / "listings" / _key(source.identity for source in sources)
    if listing.exists():
        folder = cache_dir / "audio" / listing.read_text()
        if _is_whole(folder, len(sources)):
            return AudioStore(folder)
    digests = content_digests(sources)
    folder = cache_dir / "audio" / _key(digest for chunk in digests.chunks for digest in chunk.to_pylist())
    listing.parent.mkdir(parents=True, exist_ok=True)
    with open(listing.with_name(f"{folder.name}.lock"), "w") as file:
        reason = lock(file, waits=True)  # for another run that decodes the same audio
        if not _is_whole(folder, len(sources)):
            lengths = np.fromiter((source.num_samples for source in sources), np.int64, len(sources))
            if reason:
                (warn or log)(describe_no_locks(cache_dir, reason))
            is_int16 = np.fromiter((_fits_int16(source) for source in sources), np.bool_, len(sources))
            num_bytes, hours = int((lengths * np.where(is_int16, 2, 4)).sum()), lengths.sum() / SAMPLE_RATE / 3600
            log(f"decoding {len(sources)} files ({hours:.2f} h) once into {folder} ({num_bytes / 1e6:.0f} MB)")
            _write(sources, digests, lengths, is_int16, folder, progress)
        temporary = listing.with_suffix(f".{folder.name}")
        temporary.write_text(folder.name)
        temporary.replace(listing)
        return AudioStore(folder)


def content_digests(sources: Sequence[AudioSource]) -> pa.ChunkedArray:
    """A digest of each source's encoded bytes, with the frames where it is a part of a file, which is read once."""
    firsts, file_of = distinct(_whole(source).identity for source in sources)
    digests = np.zeros((len(firsts), 16), np.uint8)

    def hash_some(first: int) -> None:
        for k in range(first, min(first + _HASHED_AT_ONCE, len(firsts))):
            raw = _whole(sources[int(firsts[k])]).raw()
            digests[k] = np.frombuffer(hashlib.blake2b(raw, digest_size=16).digest(), np.uint8)

    with ThreadPoolExecutor(min(8, num_cores())) as pool:  # each holds a file; hashing lets the others run
        list(pool.map(hash_some, range(0, len(firsts), _HASHED_AT_ONCE)))
    hexadecimal = (digests[k].tobytes().hex() for k in file_of)
    written = (part_digest(digest, source) for digest, source in zip(hexadecimal, sources, strict=True))
    return pa.chunked_array([pa.array(written, pa.string(), size=len(sources))])


def distinct(names: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    """(Where each different name stands first, in that order, and the number of each position's name), int64 both.

    >>> [found.tolist() for found in distinct(["b", "a", "b", "c"])]
    [[0, 1, 3], [0, 1, 0, 2]]
    """
    digests = b"".join(
        hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=16).digest() for name in names
    )
    keys = np.frombuffer(digests, np.dtype([("high", "<u8"), ("low", "<u8")]))
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order))
    return first[order], number[which]


def _whole(source: AudioSource) -> AudioSource:
    """The file that the source is, or is a part of."""
    return source.whole if isinstance(source, AudioSegment) else source


def _key(parts: Iterator[str]) -> str:
    key = hashlib.blake2b(FORMAT.encode(), digest_size=12)
    for part in parts:
        key.update(part.encode(errors="surrogateescape") + b"\n")
    return key.hexdigest()


def _fits_int16(source: AudioSource) -> bool:
    header = source.header
    return header.is_pcm16 and header.rate == SAMPLE_RATE and header.num_channels == 1


def _read_index(folder: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(folder / "index.arrow"))).read_all()


def _is_whole(folder: Path, num_sources: int) -> bool:
    try:
        index = _read_index(folder)
        num_bytes = int(index.schema.metadata[_NUM_BYTES])
        return len(index) == num_sources and (folder / "samples.bin").stat().st_size == num_bytes
    except (OSError, ValueError, KeyError, TypeError):  # Arrow's errors of a damaged file are ValueErrors
        return False


def _write(
    sources: Sequence[AudioSource], digests: pa.ChunkedArray, expected: np.ndarray, is_int16: np.ndarray, folder: Path,
    progress: Callable,
) -> None:  # fmt: skip
    """Decode `sources`, of `expected` samples each, into `folder`. The caller holds its lock."""
    temporary = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)  # left by a process that was killed
    temporary.mkdir(parents=True)
    # every utterance starts at a multiple of 4 bytes, so that float32 can be viewed in place
    ends = np.cumsum(-(-expected * np.where(is_int16, 2, 4) // 4) * 4)
    offsets, num_bytes = np.concatenate([[0], ends[:-1]]), int(ends[-1]) if len(ends) else 0
    lengths, failures = np.zeros(len(sources), np.int64), {}
    slices = _slices(sources)
    num_processes = min(num_cores(), len(slices), int(expected.sum() / SAMPLE_RATE / WORTH_A_PROCESS))
    try:
        with open(temporary / "samples.bin", "wb", buffering=0) as file:
            os.truncate(file.fileno(), num_bytes)

            def decode(number: int) -> list[int | str]:
                """Write a slice's samples to their places. Returns how many each utterance has, or why it has none."""
                return [_decode(sources[i], bool(is_int16[i]), file.fileno(), int(offsets[i])) for i in slices[number]]

            bar = progress(repeat(None, len(sources)), len(sources))
            with closing(do_tasks(decode, len(slices), num_processes)) as answers:
                for number, results in answers:
                    for i, result in zip(slices[number], results, strict=True):
                        next(bar, None)
                        if isinstance(result, str):
                            failures[i] = result
                        else:
                            lengths[i] = result
            next(bar, None)
        columns = {
            "offset": pa.array(offsets, pa.int64()),
            "length": pa.array(lengths, pa.int64()),
            "is_int16": pa.array(is_int16, pa.bool_()),
            "digest": digests,
            "failure": pa.array(map(failures.get, range(len(sources))), pa.string()),
        }
        index = pa.table(columns).replace_schema_metadata({_NUM_BYTES: str(num_bytes)})
        with pa.OSFile(str(temporary / "index.arrow"), "wb") as file, pa.ipc.new_file(file, index.schema) as writer:
            writer.write_table(index)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)
    finally:
        forget_decoded()
        shutil.rmtree(temporary, ignore_errors=True)


def _slices(sources: Sequence[AudioSource]) -> list[range]:
    """Positions of `sources`, cut into slices. The parts of one file stay together, since it may be decoded whole."""
    bounds, files = [0], groupby(_whole(source).identity for source in sources)
    end = 0
    for _, parts in files:
        if end - bounds[-1] >= SLICE:
            bounds.append(end)
        end += sum(1 for _ in parts)
    return [range(first, last) for first, last in zip(bounds, [*bounds[1:], end], strict=True)] if end else []


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
