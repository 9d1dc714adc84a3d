"""Data sets of the `datasets` library, from the hub or from `save_to_disk`. libsndfile decodes, never torchcodec."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import datasets
import pyarrow.compute as pc

from data.audio.decode import EncodedAudio, FileAudio
from data.config import HubConfig
from data.faults import Faults
from data.utterance import Splits, Utterance
from trainer.errors import AudioError, CorpusError


class RowAudio(EncodedAudio):
    """The encoded audio in one row; the data set stays on disk."""

    def __init__(self, dataset: datasets.Dataset, column: str, row: int, name: str) -> None:
        self.dataset, self.column, self.row, self.name = dataset, column, row, name
        self.identity = f"{dataset._fingerprint}|{column}|{row}"

    def open(self) -> BinaryIO:
        value = self.dataset[self.row][self.column]
        if not value or value["bytes"] is None:
            raise AudioError(f"{self.name}: the row holds neither bytes nor a path.")
        return io.BytesIO(value["bytes"])


def audio_paths(dataset: datasets.Dataset, column: str) -> list[str | None]:
    """Where each row's audio lies if not in the row itself; asked of Arrow, so that no audio is read."""
    audio = dataset.with_format("arrow")[:][column]
    in_row = pc.is_valid(pc.struct_field(audio, "bytes")).to_pylist()
    paths = pc.struct_field(audio, "path").to_pylist()
    return [None if has_bytes else path for has_bytes, path in zip(in_row, paths, strict=True)]


class HubCorpus:
    """Two splits of a data set with an audio and a text column."""

    def __init__(self, config: HubConfig) -> None:
        self.config = config
        train, evaluation = config.train_split, config.eval_split
        if train == evaluation:
            raise CorpusError(f"--corpus.train-split and --corpus.eval-split are both {train!r}.")
        self.splits = Splits(train=train, monitor=evaluation, headline=evaluation, closing=(evaluation,))

    @property
    def title(self) -> str:
        path = Path(self.config.dataset)
        return f"the data set {path.name if path.exists() else self.config.dataset}"

    def utterances(self, split: str, faults: Faults | None = None) -> Iterable[Utterance]:
        """The rows of a split, ids SPLIT-ROW unless a column gives them."""
        config, dataset = self.config, self._load(split)
        columns = [c for c in (config.text_field, config.id_field, config.speaker_field) if c]
        for option, column in [("text", config.text_field), ("audio", config.audio_field), ("id", config.id_field),
                               ("speaker", config.speaker_field)]:  # fmt: skip
            if column and column not in dataset.column_names:
                raise CorpusError(
                    f"{config.dataset}, split {split}: no column {column!r} "
                    f"(columns: {', '.join(dataset.column_names)}). Name it with --corpus.{option}-field."
                )
        values = dataset.select_columns(columns)
        try:
            encoded = dataset.cast_column(config.audio_field, datasets.Audio(decode=False))
        except (TypeError, ValueError, NotImplementedError, ImportError) as error:  # as pyarrow and datasets please
            raise CorpusError(
                f"{config.dataset}: column {config.audio_field!r} holds no audio ({_first_line(error)}). "
                "Name the one that does with --corpus.audio-field."
            ) from None
        for row, (value, path) in enumerate(zip(values, audio_paths(encoded, config.audio_field), strict=True)):
            where = f"{config.dataset}, split {split}, row {row}"
            text = value[config.text_field]
            if not isinstance(text, str):
                with (faults or Faults()).noted("malformed row", split):
                    raise CorpusError(f"{where}: {config.text_field!r} must be a string, found {text!r}.")
                continue
            yield Utterance(
                id=str(value[config.id_field]) if config.id_field else f"{split}-{row:06d}",
                audio=FileAudio(Path(path)) if path else RowAudio(encoded, config.audio_field, row, where),
                text=text,
                speaker=str(value[config.speaker_field]) if config.speaker_field else None,
                origin=where,
            )

    def checksum(self, words_per_split: dict[str, int]) -> None:
        """None: this library keeps no counts of hub data sets."""

    def _load(self, split: str) -> datasets.Dataset:
        config = self.config
        try:
            if Path(config.dataset).is_dir():
                return self._from_disk(split)
            return datasets.load_dataset(config.dataset, config.subset, split=split, revision=config.revision)
        except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
            # a RuntimeError is what datasets says to a data set with a script of its own: it is not run
            if isinstance(error, CorpusError):
                raise
            raise CorpusError(
                f"{config.dataset}, split {split}: does not load ({_first_line(error)}). "
                "--corpus.dataset is a hub id or a folder written by save_to_disk."
            ) from None

    def _from_disk(self, split: str) -> datasets.Dataset:
        loaded: Any = _load_from_disk(self.config.dataset)
        if isinstance(loaded, datasets.Dataset):
            raise CorpusError(f"{self.config.dataset}: holds one data set without splits; save a DatasetDict of two.")
        if split not in loaded:
            raise CorpusError(
                f"{self.config.dataset}: no split {split!r} (splits: {', '.join(loaded)}). "
                "Name them with --corpus.train-split and --corpus.eval-split."
            )
        return loaded[split]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


@functools.cache
def _load_from_disk(folder: str) -> Any:
    return datasets.load_from_disk(folder)
