"""The two files beside the shards: index.arrow, a row for each utterance, and shards.json, which seals everything.

The index is memory-mapped, so a corpus of any size costs what is looked at. Columns:

    id, text, speaker, sex, dialect, sentence_type    as the corpus wrote them; null where it says nothing
    shard, offset, bytes, digest                      where the audio lies, and the BLAKE2b hash of its bytes
    samples                                           at 16 kHz: what a plan of batches needs
    frames, rate, channels, pcm16                     what the file in the shard says of itself
    source, first, last                               hash of the file it was made from; the part's frames, or null
    stated                                            seconds that the corpus says it lasts, or null
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from data import strict_json
from data.plural import counted
from trainer.errors import CorpusError

FORMAT = 1
"""Another number is another format: it is refused, never guessed at."""
INDEX, SEAL = "index.arrow", "shards.json"
TEXTS = ("id", "text", "speaker", "sex", "dialect", "sentence_type")
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in TEXTS),
        ("shard", pa.int32()),
        ("offset", pa.int64()),
        ("bytes", pa.int64()),
        ("digest", pa.binary(16)),
        ("samples", pa.int64()),
        ("frames", pa.int64()),
        ("rate", pa.int32()),
        ("channels", pa.int16()),
        ("pcm16", pa.bool_()),
        ("source", pa.binary(16)),
        ("first", pa.int64()),
        ("last", pa.int64()),
        ("stated", pa.float64()),
    ]
)
ROWS_A_BATCH = 65_536
"""Rows of a record batch of the index: few enough that a batch's texts stay below Arrow's 2 GB."""


@dataclass(frozen=True)
class Sealed:
    """A file as it was written."""

    name: str
    bytes: int
    digest: str
    utterances: int = 0


@dataclass(frozen=True)
class Seal:
    """What shards.json says."""

    index: Sealed
    shards: tuple[Sealed, ...]
    utterances: int
    samples: int
    inputs: str
    """Hash of the ids, texts and speakers that were packed, in their order."""
    dropped: tuple[tuple[str, str], ...] = field(default=())
    """(Id, where and what) of each utterance that was left out."""

    def as_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, ensure_ascii=False) + "\n"


def in_words(num_shards: int) -> str:
    """
    >>> in_words(1), in_words(3)
    ('1 shard', '3 shards')
    """
    return counted(num_shards, "shard")


def read_seal(text: str, where: str) -> Seal:
    """CorpusError where it is of another format, or none at all."""
    try:
        found = strict_json.loads(text)
        version = found.pop("format")
    except (ValueError, KeyError, AttributeError, TypeError):
        raise CorpusError(
            f"{where}: is no {SEAL} of packed shards. Pack the corpus: python -m scripts.shards."
        ) from None
    if version != FORMAT:
        raise CorpusError(
            f"{where}: its format is {version!r}, this program reads {FORMAT}. Pack the corpus again, or "
            "use the version that packed it."
        )
    try:
        return Seal(
            index=Sealed(**found.pop("index")),
            shards=tuple(Sealed(**shard) for shard in found.pop("shards")),
            dropped=tuple((id, why) for id, why in found.pop("dropped")),
            **found,
        )
    except (TypeError, KeyError, ValueError, AttributeError):
        raise CorpusError(f"{where}: lacks what format {FORMAT} has, or is damaged. Pack the corpus again.") from None


def rows_to_table(rows: Sequence[Mapping[str, Any]], metadata: Mapping[str, str] | None = None) -> pa.Table:
    """An Arrow table of these rows of the index."""
    columns = [pa.array([row.get(f.name) for row in rows], f.type) for f in SCHEMA]
    return pa.Table.from_arrays(columns, schema=SCHEMA.with_metadata(dict(metadata or {}) or None))


def write_table(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def write_index(path: Path, tables: Iterable[pa.Table]) -> None:
    """One file of all `tables` in their order. Memory holds a record batch, not the corpus."""
    waiting: list[pa.Table] = []
    num_rows = 0
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, SCHEMA) as writer:

        def flush() -> None:
            if waiting:
                table = pa.concat_tables([t.replace_schema_metadata(None) for t in waiting]).combine_chunks()
                writer.write_table(table, max_chunksize=ROWS_A_BATCH)
                waiting.clear()

        for table in tables:
            waiting.append(table)
            num_rows += len(table)
            if num_rows >= ROWS_A_BATCH:
                flush()
                num_rows = 0
        flush()


def map_table(path: Path) -> pa.Table:
    """The file's table, memory-mapped; CorpusError when it is none."""
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise CorpusError(f"{path}: is no index of shards, or is damaged ({reason}). Pack the corpus again.") from None
