"""Transcripts as a normaliser writes them: a list, or Arrow's strings where there are too many for a list.

Normalising takes some 20 microseconds a transcript, so a table's are normalised by all cores, and kept in a file that
the next start maps into memory: DIR/texts/KEY.arrow, where the key hashes corpus, normaliser and this package's code.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from data.lazy import Lazy
from data.machine.limits import num_cores
from data.machine.processes import do_tasks
from data.utterance import Utterance
from data.utterance_table import UtteranceTable

ROWS_A_TASK = 65_536
_ROWS_AT_ONCE = 16_384


class ArrowTexts(Lazy[str]):
    """Strings in an Arrow column; each becomes a Python string when it is asked for."""

    def __init__(self, column: pa.ChunkedArray, name: str = "") -> None:
        """`name` says how they were normalised."""
        self.column, self.name = column, name

    def __len__(self) -> int:
        return len(self.column)

    def some(self, positions: range) -> Sequence[str]:
        return self.column.take(pa.array(positions, pa.int64())).to_pylist()

    def at(self, i: int) -> str:
        return self.column[i].as_py()

    def __iter__(self) -> Iterator[str]:
        for some in self.chunks():
            yield from some

    def chunks(self) -> Iterator[list[str]]:
        """All of them, some thousands at a time."""
        for chunk in self.column.chunks:
            for first in range(0, len(chunk), _ROWS_AT_ONCE):
                yield chunk.slice(first, _ROWS_AT_ONCE).to_pylist()

    def num_characters(self, *, trimmed: bool = False) -> pa.ChunkedArray:
        """How many characters each has, without spaces at its ends if `trimmed`."""
        return pc.utf8_length(pc.utf8_trim_whitespace(self.column) if trimmed else self.column)


def normalise_all(
    utterances: Sequence[Utterance], normalize: Callable[[str], str], name: str, cache_dir: Path
) -> Sequence[str]:
    """The normalised transcript of each utterance. `name` says which normaliser it is, language included."""
    if not isinstance(utterances, UtteranceTable):
        return [normalize(utterance.text) for utterance in utterances]
    path = cache_dir / "texts" / f"{_key(utterances.digest, name)}.arrow"
    if utterances.digest and path.exists():
        return ArrowTexts(_map(path), name)
    column = _normalise(utterances.rows["text"], normalize)
    if utterances.digest:
        try:
            return ArrowTexts(_keep(column, path), name)
        except OSError:  # the disk is full: they stay in memory
            pass
    return ArrowTexts(column, name)


def _normalise(texts: pa.ChunkedArray, normalize: Callable[[str], str]) -> pa.ChunkedArray:
    num_tasks = -(-len(texts) // ROWS_A_TASK)

    def work(task: int) -> bytes:
        rows = texts.slice(task * ROWS_A_TASK, ROWS_A_TASK)
        written = pa.array([normalize(text) for text in rows.to_pylist()], pa.string())
        batch, sink = pa.record_batch([written], ["text"]), pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        return sink.getvalue().to_pybytes()

    done: dict[int, pa.Array] = {}
    with closing(do_tasks(work, num_tasks, min(num_cores(), num_tasks))) as answers:
        for task, stream in answers:
            done[task] = pa.ipc.open_stream(stream).read_next_batch().column(0)
    return pa.chunked_array([done[task] for task in range(num_tasks)], pa.string())


def _keep(column: pa.ChunkedArray, path: Path) -> pa.ChunkedArray:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    table = pa.table({"text": column})
    with pa.OSFile(str(part), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    part.replace(path)
    return _map(path)


def _map(path: Path) -> pa.ChunkedArray:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()["text"]


def _key(digest: str, name: str) -> str:
    key = hashlib.blake2b(f"{digest}\n{name}\n".encode(), digest_size=12)
    for module in sorted(Path(__file__).parent.glob("*.py")):
        key.update(module.read_bytes())
    return key.hexdigest()
