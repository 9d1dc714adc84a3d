"""A split of a data set as a stream: read once, row by row, into shards of this machine.

A stream has no order that could be entered in the middle and no lengths before it is read, so no plan of batches could
be made from it, nor an exact resume. So it is packed as it comes (data.shards), and everything behind reads the shards:
their plan, their exact resume, their bounded memory. An interrupted stream is read again from its beginning; shards
that are found the same are kept.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from data.audio.decode import EncodedAudio
from data.corpora.hub import HubConfig
from data.corpora.hub.audio import as_encoded
from data.corpora.hub.fields import Fields
from data.corpora.hub.loading import no_torchcodec, open_stream
from data.shards.index import FORMAT, SEAL
from data.shards.stream import build_from_stream
from data.shards.table import Shards, ShardTable
from data.utterance import Utterance
from trainer.errors import AudioError

PER_SHARD = 256
"""Utterances of a shard: memory holds their encoded audio."""


class StreamedAudio(EncodedAudio):
    """Encoded audio that came by in a stream."""

    def __init__(self, content: bytes, name: str) -> None:
        self.content, self.name = content, name
        self.identity = f"stream {hashlib.blake2b(content, digest_size=16).hexdigest()}"

    def open(self) -> BinaryIO:
        return io.BytesIO(self.content)


def streamed(config: HubConfig, split: str, is_training: bool, cache_dir: Path) -> tuple[ShardTable, list[str]]:
    """(The utterances of the split in shards, what there is to say of them); CorpusError when it does not load."""
    dataset, commit = open_stream(config, split)
    drops_bad = is_training and config.on_bad == "drop"
    first: dict[str, Any] = next(iter(dataset.take(1)), {}) if dataset.column_names is None else {}
    read = Fields.of(config, split, dataset.column_names or list(first), dataset.features)
    about = repr((FORMAT, config.dataset, config.subset, commit, split, read.names, drops_bad))
    folder = cache_dir / "streamed" / hashlib.blake2b(about.encode(), digest_size=12).hexdigest()
    how = "was streamed before into"
    if not (folder / SEAL).exists():
        utterances = _utterances(config, dataset, split, read)
        with no_torchcodec():  # some readers encode rows as they come by
            build_from_stream(utterances, folder, PER_SHARD, drops_bad, lambda number: None)
        how = "was streamed into"
    note = (
        f"{config.dataset}, split {split}: {how} {folder}; training resumes exactly, an interrupted stream is read "
        "again from its beginning"
    )
    return ShardTable(Shards(str(folder), cache_dir, 0)), [*read.notes, note]


def _utterances(config: HubConfig, dataset: Any, split: str, fields: Fields) -> Iterator[Utterance]:
    audio = fields.audio.column
    dataset = dataset.select_columns([audio, *fields.columns])
    if dataset.features is not None:  # a stream of CSV has no types: its rows hold paths
        dataset = as_encoded(dataset, audio)
    for row, value in enumerate(dataset):
        where = f"{config.dataset}, split {split}, row {row}"
        id, text, speaker = fields.read(value, where, f"{split}-{row:06d}")
        source = StreamedAudio(_content(value[audio], where, Path(config.dataset)), where)
        yield Utterance(id=id, audio=source, text=text, speaker=speaker, origin=where)


def _content(value: Any, where: str, folder: Path) -> bytes:
    if isinstance(value, str):
        value = {"path": value}
    if value is not None and not isinstance(value, dict):
        raise AudioError(f"{where}: a {type(value).__name__} is no audio. Name its column with --corpus.audio-field.")
    if value and value.get("bytes") is not None:
        return value["bytes"]
    if not value or not value.get("path"):
        return b""
    below = folder / value["path"]
    try:
        return (below if below.exists() else Path(value["path"])).read_bytes()
    except OSError as error:
        raise AudioError(f"{where}: {value['path']}: {error.strerror or error}.") from None
