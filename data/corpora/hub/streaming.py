"""A split of a data set as a stream: read once, row by row, into shards of this machine.

A stream has no order that could be entered in the middle and no lengths before it is read, so no plan of batches could
be made from it, nor an exact resume. So it is packed as it comes (data.shards), and everything behind reads the shards:
their plan, their exact resume, their bounded memory. An interrupted stream is read again from its beginning; shards
that are found the same are kept.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import datasets

from data.audio.decode import EncodedAudio
from data.corpora.columns import AUDIO, TEXT, find_speaker
from data.corpora.hub import HubConfig
from data.corpora.hub.loading import open_stream
from data.shards.index import FORMAT, SEAL
from data.shards.stream import build_from_stream
from data.shards.table import Shards, ShardTable
from data.utterance import Utterance
from trainer.errors import AudioError, CorpusError

PER_SHARD = 256
"""Utterances of a shard: memory holds their encoded audio."""


class StreamedAudio(EncodedAudio):
    """Encoded audio that came by in a stream."""

    def __init__(self, content: bytes, name: str) -> None:
        self.content, self.name = content, name
        self.identity = f"stream {hashlib.blake2b(content, digest_size=16).hexdigest()}"

    def open(self) -> BinaryIO:
        return io.BytesIO(self.content)


def streamed(
    config: HubConfig, split: str, is_training: bool, cache_dir: Path, column: Callable[..., str]
) -> tuple[ShardTable, list[str]]:
    """(The utterances of the split in shards, what there is to say of them); CorpusError when it does not load."""
    dataset, commit = open_stream(config, split)
    drops_bad = is_training and config.on_bad == "drop"
    fields = (config.text_field, config.audio_field, config.id_field, config.speaker_field)
    about = repr((FORMAT, config.dataset, config.subset, commit, split, fields, drops_bad))
    folder = cache_dir / "streamed" / hashlib.blake2b(about.encode(), digest_size=12).hexdigest()
    how = "was streamed before into"
    if not (folder / SEAL).exists():
        build_from_stream(
            _utterances(config, dataset, split, column), folder, PER_SHARD, drops_bad, lambda number: None
        )
        how = "was streamed into"
    note = (
        f"{config.dataset}, split {split}: {how} {folder}; training resumes exactly, an interrupted stream is read "
        "again from its beginning"
    )
    return ShardTable(Shards(str(folder), cache_dir, 0)), [note]


def _utterances(config: HubConfig, dataset: Any, split: str, column: Callable[..., str]) -> Iterator[Utterance]:
    names = list(dataset.column_names or next(iter(dataset.take(1))))
    audio = column(dataset, split, "audio", config.audio_field, AUDIO)
    text = column(dataset, split, "text", config.text_field, TEXT)
    id = column(dataset, split, "id", config.id_field) if config.id_field else None
    speaker = column(dataset, split, "speaker", config.speaker_field) if config.speaker_field else find_speaker(names)
    dataset = dataset.select_columns([name for name in (audio, text, id, speaker) if name])
    for row, value in enumerate(dataset.cast_column(audio, datasets.Audio(decode=False))):
        where = f"{config.dataset}, split {split}, row {row}"
        if not isinstance(value[text], str):
            raise CorpusError(f"{where}: {text!r} must be a string, found {value[text]!r}.")
        if id and value[id] is None:
            raise CorpusError(f"{where}: {id!r} is empty. It is to be a unique id.")
        yield Utterance(
            id=str(value[id]) if id else f"{split}-{row:06d}",
            audio=StreamedAudio(_content(value[audio], where), where),
            text=value[text],
            speaker=str(value[speaker]) or None if speaker and value[speaker] is not None else None,
            origin=where,
        )


def _content(value: dict[str, Any] | None, where: str) -> bytes:
    if value and value.get("bytes") is not None:
        return value["bytes"]
    try:
        return Path(value["path"]).read_bytes() if value and value.get("path") else b""
    except OSError as error:
        raise AudioError(f"{where}: {value and value['path']}: {error.strerror or error}.") from None
