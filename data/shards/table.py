"""Utterances in shards: rows of the memory-mapped index, audio fetched by its byte range when it is decoded."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from data.audio.decode import EncodedAudio
from data.shards.cache import RangeCache
from data.shards.index import INDEX, SCHEMA, SEAL, Seal, map_table, read_seal
from data.shards.packing import digest
from data.shards.storage import Storage, open_storage
from data.utterance import AudioHeader, Utterance
from data.utterance_table import UtteranceTable
from trainer.errors import ConfigError, CorpusError, StorageError


class Shards:
    """A folder of finished shards: its seal, its index, and the audio in it."""

    def __init__(self, url: str, cache_dir: Path, cache_bytes: int) -> None:
        """CorpusError where there are no finished shards, or a file is not as it was sealed; ConfigError where
        `cache_dir` has no room for the index of an object store."""
        self.storage: Storage = open_storage(url)
        raw = self.storage.read_whole(SEAL)
        self.seal: Seal = read_seal(raw.decode("utf-8", "replace"), f"{self.storage.url}/{SEAL}")
        self.digest = hashlib.blake2b(raw, digest_size=16).hexdigest()
        self._compare_sizes()
        self.index = map_table(self._index_path(cache_dir))
        if self.index.schema != SCHEMA or len(self.index) != self.seal.utterances:
            raise CorpusError(
                f"{self.storage.url}/{INDEX}: is not the index that {SEAL} speaks of. Pack the corpus again."
            )
        folder = cache_dir / "shards" / "audio"
        self.cache = RangeCache(folder, cache_bytes) if self.storage.is_remote else None

    def _compare_sizes(self) -> None:
        """CorpusError, before anything is read, over a shard that is missing or of another length."""
        sizes = self.storage.sizes()
        for shard in (*self.seal.shards, self.seal.index):
            where = f"{self.storage.url}/{shard.name}"
            if shard.name not in sizes:
                raise CorpusError(f"{where}: is missing. Bring it back, or pack the corpus again.")
            if sizes[shard.name] != shard.bytes:
                how = "truncated" if sizes[shard.name] < shard.bytes else "changed"
                raise CorpusError(
                    f"{where}: has {sizes[shard.name]} bytes, and had {shard.bytes} when it was indexed: {how}. Bring "
                    "back the file that was packed, or pack the corpus again."
                )

    def _index_path(self, cache_dir: Path) -> Path:
        """The index as a file of this machine."""
        sealed = self.seal.index
        if not self.storage.is_remote:
            path = Path(self.storage.url) / INDEX
            return path
        path = cache_dir / "shards" / f"{sealed.digest}.arrow"
        if not path.exists() or path.stat().st_size != sealed.bytes:
            content = self.storage.read_whole(INDEX)
            if digest(content).hex() != sealed.digest:
                raise CorpusError(f"{self.storage.url}/{INDEX}: has changed since it was sealed. Upload it again.")
            part = path.with_name(f"{path.name}.{os.getpid()}.part")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                part.write_bytes(content)
                part.replace(path)
            except OSError as error:
                with contextlib.suppress(OSError):
                    part.unlink()
                raise ConfigError(
                    f"{path.parent}: the index of {self.storage.url} cannot be written, {len(content)} bytes "
                    f"({error.strerror or error}). Give another --cache-dir."
                ) from None
        return path

    def fetch(self, shard: int, offset: int, num_bytes: int, hash: bytes, id: str) -> bytes:
        """The bytes of an utterance's audio, which are those that were packed; StorageError otherwise."""
        if self.cache is not None and (content := self.cache.get(hash)) is not None:
            return content
        name = self.seal.shards[shard].name
        content = self.storage.read(name, offset, num_bytes, f"utterance {id}")
        if digest(content) != hash:
            raise StorageError(
                f"{self.storage.url}/{name} at byte {offset} (utterance {id}): the bytes are not those that were "
                "indexed: damaged, or another file of that length. Bring back the file that was packed; a run goes on "
                "with --resume. scripts.shards --verify reads every byte."
            )
        if self.cache is not None:
            self.cache.put(hash, content)
        return content


class ShardAudio(EncodedAudio):
    """The audio of a row of the index."""

    def __init__(self, shards: Shards, row: dict[str, Any]) -> None:
        self.shards, self.row = shards, row
        self.name = f"{shards.storage.url}/{shards.seal.shards[row['shard']].name}: {row['id']}"
        self.identity = f"shards {row['digest'].hex()}"
        # what the index says; nothing is opened to learn it
        self.__dict__["header"] = AudioHeader(row["rate"], row["channels"], row["frames"], row["pcm16"])

    def open(self) -> BinaryIO:
        row = self.row
        return io.BytesIO(self.shards.fetch(row["shard"], row["offset"], row["bytes"], row["digest"], row["id"]))


class ShardTable(UtteranceTable):
    """The utterances of a folder of shards, or a stretch of them."""

    def __init__(self, shards: Shards, rows: pa.Table | None = None, part: str = "") -> None:
        super().__init__(shards.index if rows is None else rows)
        self.shards, self.part = shards, part

    def slice(self, first: int, last: int) -> ShardTable:
        """The utterances from `first` to before `last`."""
        return ShardTable(self.shards, self.rows.slice(first, last - first), f" {first}-{last}")

    def with_rows(self, rows: pa.Table, change: str) -> ShardTable:
        digest = hashlib.blake2b(change.encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()
        return ShardTable(self.shards, rows, f"{self.part} {digest}")

    def utterance(self, i: int) -> Utterance:
        row = {name: column[i].as_py() for name, column in zip(SCHEMA.names, self._columns, strict=True)}
        audio = ShardAudio(self.shards, row)
        return Utterance(
            id=row["id"],
            audio=audio,
            text=row["text"],
            speaker=row["speaker"],
            sex=row["sex"],
            dialect=row["dialect"],
            sentence_type=row["sentence_type"],
            origin=f"{self.shards.storage.url}/{self.shards.seal.shards[row['shard']].name} at byte {row['offset']}",
            stated_duration=row["stated"],
        )

    @functools.cached_property
    def _columns(self) -> list[pa.ChunkedArray]:
        return self.rows.columns

    @functools.cached_property
    def _lengths(self) -> np.ndarray:
        return self.rows["samples"].to_numpy()

    def num_samples(self) -> np.ndarray:
        return self._lengths

    @property
    def digest(self) -> str:
        return f"{self.shards.digest}{self.part}"

    @property
    def is_checked(self) -> bool:
        return True

    @property
    def is_remote(self) -> bool:
        return self.shards.storage.is_remote

    def source_digest(self, i: int) -> str:
        source, first, last = (self.rows[name][i].as_py() for name in ("source", "first", "last"))
        return source.hex() + ("" if first is None else f":{first}-{last}")  # as a store of decoded audio has it

    def headers(self) -> list[tuple[AudioHeader, int]]:
        kinds = self.rows.group_by(["rate", "channels", "pcm16"]).aggregate([([], "count_all")]).to_pylist()
        return [(AudioHeader(k["rate"], k["channels"], 0, k["pcm16"]), k["count_all"]) for k in kinds]
