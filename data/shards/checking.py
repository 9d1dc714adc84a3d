"""Read finished shards again, every byte, and compare them with what was written down of them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator

import pyarrow as pa

from data.faults import split_remedy
from data.shards.index import INDEX, SCHEMA, Seal
from data.shards.packing import digest
from data.shards.storage import Storage
from data.shards.tarring import key_of
from trainer.errors import CorpusError, StorageError

PIECE = 64 * 2**20
"""Bytes that are read at once."""


def find_damage(
    storage: Storage, seal: Seal, progress: Callable[[Iterator[None], int], Iterator[None]]
) -> Iterator[str]:
    """One line for each file that is not as it was packed: missing, of another length or of another content.

    A shard whose digest is right is opened as a tar too, and its members are compared with the rows of the index.
    """
    rows: pa.Table | None = None
    try:
        content = storage.read_whole(INDEX)
        if digest(content).hex() != seal.index.digest:
            yield f"{storage.url}/{INDEX}: its content has changed"
        else:
            rows = pa.ipc.open_file(pa.py_buffer(content)).read_all()
            if rows.schema != SCHEMA or len(rows) != seal.utterances:
                yield f"{storage.url}/{INDEX}: is not the index of these shards"
                rows = None
    except CorpusError as error:
        yield split_remedy(str(error))[0]
    bar = progress(iter([None] * len(seal.shards)), len(seal.shards))
    first = 0
    for shard in seal.shards:
        next(bar, None)
        of_shard = None if rows is None else rows.slice(first, shard.utterances).to_pylist()
        first += shard.utterances
        hash, pieces = hashlib.blake2b(digest_size=16), []
        try:
            for offset in range(0, shard.bytes, PIECE):
                piece = storage.read(shard.name, offset, min(PIECE, shard.bytes - offset), "the whole file is read")
                hash.update(piece)
                pieces.append(piece)
        except (StorageError, CorpusError) as error:
            yield split_remedy(str(error))[0]
            continue
        if hash.hexdigest() != shard.digest:
            yield f"{storage.url}/{shard.name}: its content has changed"
        elif of_shard is not None and (wrong := _compare(b"".join(pieces), of_shard)):
            yield f"{storage.url}/{shard.name}: {wrong}"
    next(bar, None)


def _compare(content: bytes, rows: list[dict]) -> str:
    """What differs between a tar and the rows of the index, or nothing."""
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        members = tar.getmembers()
        if len(members) != 2 * len(rows):
            return f"it holds {len(members)} members for {len(rows)} utterances"
        for row, audio, text in zip(rows, members[::2], members[1::2], strict=True):
            key = key_of(row["id"])
            if audio.name.partition(".")[0] != key or text.name != f"{key}.json":
                return f"{audio.name} stands where utterance {row['id']} belongs"
            if (audio.offset_data, audio.size) != (row["offset"], row["bytes"]):
                return f"utterance {row['id']} lies elsewhere than the index says"
            if digest(content[row["offset"] : row["offset"] + row["bytes"]]) != row["digest"]:
                return f"utterance {row['id']} has another digest than the index says"
            said = json.loads(content[text.offset_data : text.offset_data + text.size])
            if (said["id"], said["text"]) != (row["id"], row["text"]):
                return f"utterance {row['id']}: its JSON and the index differ"
    return ""
