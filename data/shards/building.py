"""Pack utterances into shards, by as many processes as there are cores. Killed at any point, it goes on.

A shard is a stretch of the corpus, so what is in it does not depend on who packs it or when. It gets its name when it
is whole and on the disk; DIR/work/shard-N.arrow then says what was packed and the shard's digest. A later call keeps
a shard whose digest is still that, if its utterances and their files are the same, and packs all others.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.audio.segments import forget_decoded
from data.durations import describe_segment, segments_among
from data.processes import do_tasks
from data.shards.index import (
    FORMAT,
    INDEX,
    SCHEMA,
    SEAL,
    Seal,
    Sealed,
    map_table,
    read_seal,
    rows_to_table,
    write_index,
    write_table,
)
from data.shards.packing import digest, pack
from data.shards.tarring import END, key_of, member
from data.utterance import SAMPLE_RATE, Utterance
from trainer.errors import AudioError, CorpusError

WORK = "work"
"""Folder of what is known of the shards so far; gone when all are packed."""


@dataclass
class Packing:
    """What is to be packed, and how."""

    utterances: Sequence[Utterance]
    folder: Path
    per_shard: int = 2048
    drops_bad: bool = False
    """Whether an utterance that does not decode is left out and named; else it is an error."""
    option: str = "--on-bad"
    """The option that decides it, for the message."""

    @property
    def num_shards(self) -> int:
        return -(-len(self.utterances) // self.per_shard)

    def of_shard(self, number: int) -> Iterator[Utterance]:
        first = number * self.per_shard
        return (self.utterances[i] for i in range(first, min(first + self.per_shard, len(self.utterances))))

    def path(self, number: int) -> Path:
        return self.folder / f"shard-{number:06d}.tar"

    def note(self, number: int) -> Path:
        return self.folder / WORK / f"shard-{number:06d}.arrow"


def build(
    packing: Packing,
    num_processes: int,
    progress: Callable[[Iterator[None], int], Iterator[None]],
    say: Callable[[str], None],
) -> Seal:
    """Pack everything, or go on with it; CorpusError where something is in the way, with what to do."""
    folder = packing.folder
    inputs = _digest_of_texts(packing.utterances)
    with _disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            if (finished := _finished(packing, inputs)) is not None:
                say(
                    f"{folder}: all {len(finished.shards)} shards are packed already; --verify reads every byte of them"
                )
                return finished
            (folder / WORK).mkdir(exist_ok=True)
            num_kept = _pack_all(packing, num_processes, progress)
            if num_kept:
                say(f"{folder}: {num_kept} of {packing.num_shards} shards were there already, with their digests")
            return _seal(packing, inputs)


class _StreamPacking(Packing):
    """Utterances that pass by once: only those of one shard are at hand."""

    def __init__(self, folder: Path, per_shard: int, drops_bad: bool) -> None:
        super().__init__([], folder, per_shard, drops_bad, "--corpus.on-bad")
        self.at_hand: list[Utterance] = []
        self.num_written = 0

    @property
    def num_shards(self) -> int:
        return self.num_written

    def of_shard(self, number: int) -> Iterator[Utterance]:
        return iter(self.at_hand)


def build_from_stream(
    utterances: Iterable[Utterance], folder: Path, per_shard: int, drops_bad: bool, progress: Callable[[int], None]
) -> Seal:
    """Pack utterances as they come; memory holds those of one shard. `progress` is told how many came so far.

    What was interrupted reads the stream again from its beginning, and keeps the shards that it finds the same.
    """
    packing, digest, first = _StreamPacking(folder, per_shard, drops_bad), _texts_hash(), dict[str, str]()

    def write() -> None:
        _pack_or_keep(packing, packing.num_written)
        packing.num_written += 1
        packing.at_hand.clear()

    with _disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            (folder / WORK).mkdir(exist_ok=True)
            for number, u in enumerate(utterances, 1):
                if (before := first.setdefault(u.id, u.origin)) != u.origin:
                    raise CorpusError(
                        f"{u.origin}: id {u.id!r} stands already at {before}. Ids must be unique in a split."
                    )
                digest.update(_said(u))
                packing.at_hand.append(u)
                if len(packing.at_hand) == per_shard:
                    write()
                    progress(number)
            if packing.at_hand:
                write()
            if not packing.num_written:
                raise CorpusError(f"{folder}: the stream holds no utterance.")
            for path in folder.glob("shard-*"):
                if path not in {packing.path(n) for n in range(packing.num_written)}:
                    path.unlink()
            return _seal(packing, digest.hexdigest())


def _finished(packing: Packing, inputs: str) -> Seal | None:
    """The seal of a folder that holds all of this already; CorpusError if it holds something else."""
    seal_path = packing.folder / SEAL
    if not seal_path.exists():
        strange = sorted(path.name for path in packing.folder.iterdir() if not _is_ours(path.name))
        if strange:
            raise CorpusError(f"{packing.folder}: holds {strange[0]}, which is no shard. Give another --out.")
        return None
    seal = read_seal(seal_path.read_text(encoding="utf-8"), str(seal_path))
    if seal.inputs != inputs:
        raise CorpusError(
            f"{packing.folder}: holds the shards of other utterances ({seal.utterances}; these are "
            f"{len(packing.utterances)}). Give another --out, or delete that folder."
        )
    shutil.rmtree(packing.folder / WORK, ignore_errors=True)
    return seal


def _is_ours(name: str) -> bool:
    return (
        name in (WORK, INDEX, SEAL, ".lock") or name.removesuffix(".part") in (INDEX, SEAL) or name.startswith("shard-")
    )


def _pack_all(packing: Packing, num_processes: int, progress: Callable) -> int:
    """Pack what is not there. Returns how many shards were."""
    num_kept, num_shards = 0, packing.num_shards
    bar = progress(iter([None] * num_shards), num_shards)
    with closing(do_tasks(lambda number: _pack_or_keep(packing, number), num_shards, num_processes)) as answers:
        for _, was_there in answers:
            num_kept += was_there
            next(bar, None)
    next(bar, None)
    for extra in packing.folder.glob("shard-*"):  # of a longer corpus that was begun here, or left by a kill
        if extra not in {packing.path(n) for n in range(num_shards)}:
            extra.unlink()
    return num_kept


def _pack_or_keep(packing: Packing, number: int) -> bool:
    """Whether the shard was there."""
    inputs, note, path = _digest_of_inputs(packing, number), packing.note(number), packing.path(number)
    if note.exists() and path.exists():
        try:
            known = pa.ipc.open_file(str(note)).schema.metadata or {}
        except (pa.ArrowInvalid, OSError):
            known = {}
        if known.get(b"inputs") == inputs.encode() and known.get(b"digest") == digest_of_file(path).encode():
            return True
    note.unlink(missing_ok=True)
    part = path.with_name(f"{path.name}.part")
    with open(part, "wb") as file:
        rows, dropped, total = _write_shard(packing, number, file)
        file.flush()
        os.fsync(file.fileno())
    forget_decoded()
    part.replace(path)
    told = {"inputs": inputs, "digest": total, "bytes": str(path.stat().st_size), "dropped": json.dumps(dropped)}
    unfinished = note.with_name(f"{note.name}.part")
    write_table(unfinished, rows_to_table(rows, told))
    unfinished.replace(note)
    return False


def _write_shard(
    packing: Packing, number: int, file: BinaryIO
) -> tuple[list[dict[str, Any]], list[tuple[str, str]], str]:
    """(Rows of the index, what was left out, digest of the file) of a shard that is written to `file`."""
    rows: list[dict[str, Any]] = []
    dropped: list[tuple[str, str]] = []
    total, at = hashlib.blake2b(digest_size=16), 0

    def write(data: bytes) -> None:
        nonlocal at
        file.write(data)
        total.update(data)
        at += len(data)

    for utterance in packing.of_shard(number):
        try:
            packed = pack(utterance.audio)
        except AudioError as error:
            if not packing.drops_bad:
                raise CorpusError(
                    f"{utterance.origin}: utterance {utterance.id}: {str(error).rstrip('.')}. Mend it, or leave such "
                    f"utterances out, counted and named: {packing.option} drop."
                ) from None
            dropped.append((utterance.id, f"{utterance.origin}: {error}"))
            continue
        key, hash = key_of(utterance.id), digest(packed.content)
        header, content = member(f"{key}.{packed.suffix}", packed.content)
        write(header)
        offset = at
        write(content)
        for block in member(f"{key}.json", describe(utterance, packed.header.rate)):
            write(block)
        first, last = packed.part or (None, None)
        rows.append({
            "id": utterance.id, "text": utterance.text, "speaker": utterance.speaker, "sex": utterance.sex,
            "dialect": utterance.dialect, "sentence_type": utterance.sentence_type,
            "shard": number, "offset": offset, "bytes": len(packed.content), "digest": hash,
            "samples": utterance.audio.num_samples,
            "frames": packed.header.num_frames, "rate": packed.header.rate, "channels": packed.header.num_channels,
            "pcm16": packed.header.is_pcm16,
            "source": packed.source, "first": first, "last": last, "stated": utterance.stated_duration,
        })  # fmt: skip
    write(END)
    return rows, dropped, total.hexdigest()


def describe(utterance: Utterance, rate: int) -> bytes:
    """What ID.json says; nothing that the corpus does not say."""
    says: dict[str, Any] = {
        "id": utterance.id,
        "text": utterance.text,
        "speaker": utterance.speaker,
        "sex": utterance.sex,
        "dialect": utterance.dialect,
        "sentence_type": utterance.sentence_type,
        "stated_duration": utterance.stated_duration,
        "words": [list(segment) for segment in utterance.words] or None,
        "phones": [list(segment) for segment in utterance.phones] or None,
        "sampling_rate": rate,
        "samples_at_16_khz": utterance.audio.num_samples,
    }
    return json.dumps({k: v for k, v in says.items() if v is not None}, ensure_ascii=False).encode()


def _seal(packing: Packing, inputs: str) -> Seal:
    """Write index and seal from what is known of every shard."""
    folder, shards = packing.folder, list[Sealed]()
    dropped: list[tuple[str, str]] = []
    _refuse_parts(packing)

    def tables() -> Iterable[pa.Table]:
        for number in range(packing.num_shards):
            table = map_table(packing.note(number))
            known = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
            shards.append(Sealed(packing.path(number).name, int(known["bytes"]), known["digest"], len(table)))
            dropped.extend((id, why) for id, why in json.loads(known["dropped"]))
            yield table

    part = folder / f"{INDEX}.part"
    write_index(part, tables())
    index = map_table(part)
    if not len(index):
        raise CorpusError(
            f"{folder}: nothing is left to pack: all {len(dropped)} utterances are bad ({dropped[0][1]})."
        )
    seal = Seal(
        index=Sealed(INDEX, part.stat().st_size, digest_of_file(part), len(index)),
        shards=tuple(shards),
        utterances=len(index),
        samples=pc.sum(index["samples"]).as_py(),
        inputs=inputs,
        dropped=tuple(dropped),
    )
    del index
    _put(part, folder / INDEX)
    part = folder / f"{SEAL}.part"
    part.write_text(seal.as_json(), encoding="utf-8")
    _put(part, folder / SEAL)
    shutil.rmtree(folder / WORK)
    return seal


def _put(part: Path, path: Path) -> None:
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    part.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_parts(packing: Packing) -> None:
    """CorpusError where a row gives a duration and means a part of its file, as training would refuse it."""
    rows = pa.concat_tables(
        map_table(packing.note(number)).replace_schema_metadata(None).select(["id", "stated", "samples"])
        for number in range(packing.num_shards)
    )
    positions = np.flatnonzero(pc.is_valid(rows["stated"]).to_numpy(zero_copy_only=False))
    said, seconds = rows["stated"].to_numpy()[positions], rows["samples"].to_numpy()[positions] / SAMPLE_RATE
    for i, (of_list, of_audio) in segments_among(positions, said, seconds).items():
        raise CorpusError(f"utterance {rows['id'][i].as_py()}: {describe_segment(of_list, of_audio)}.")


def _digest_of_texts(utterances: Sequence[Utterance]) -> str:
    digest = _texts_hash()
    for u in utterances:
        digest.update(_said(u))
    return digest.hexdigest()


def _texts_hash() -> hashlib.blake2b:
    return hashlib.blake2b(f"shards {FORMAT}".encode(), digest_size=16)


def _said(u: Utterance) -> bytes:
    return json.dumps([u.id, u.text, u.speaker]).encode()


def _digest_of_inputs(packing: Packing, number: int) -> str:
    """Of everything that decides a shard's bytes, the audio by path, size and time."""
    digest = hashlib.blake2b(f"shards {FORMAT} {packing.drops_bad} {SCHEMA}".encode(), digest_size=16)
    for utterance in packing.of_shard(number):
        try:
            identity = utterance.audio.identity
        except AudioError as error:
            identity = str(error)
        said = [utterance.stated_duration, *utterance.words, *utterance.phones]
        digest.update(json.dumps([*_texts(utterance), identity, said]).encode())
    return digest.hexdigest()


def _texts(u: Utterance) -> list[str | None]:
    return [u.id, u.text, u.speaker, u.sex, u.dialect, u.sentence_type]


def digest_of_file(path: Path) -> str:
    """BLAKE2b, 16 bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """CorpusError when another process packs into this folder."""
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CorpusError(f"{folder}: another process packs into it. Wait for it, or give another --out.") from None
        yield


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """CorpusError in place of an OSError of the disk."""
    try:
        yield
    except OSError as error:
        what = f"{error.filename or folder}: {error.strerror or error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise CorpusError(
                f"{what}. Free some space: the same command goes on with the shards that are whole."
            ) from None
        raise CorpusError(f"{what}. Give another --out, or mend that; the same command goes on.") from None
