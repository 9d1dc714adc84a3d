"""One shard: packed, or kept where it is there already. It is a stretch of the corpus, whoever packs it, and when.

A shard gets its name when it is whole and on the disk; DIR/work/shard-N.arrow then says what was packed and the shard's
digest. A later call keeps a shard whose digest is still that, if its utterances and their files are the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from data.audio.segments import forget_decoded
from data.shards.index import FORMAT, SCHEMA, rows_to_table, write_table
from data.shards.packing import digest, pack
from data.shards.tarring import END, key_of, member
from data.utterance import Utterance
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


def pack_or_keep(packing: Packing, number: int) -> bool:
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
