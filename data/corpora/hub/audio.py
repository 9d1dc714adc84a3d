"""The audio in the rows of a `datasets` data set: encoded bytes, a path, or an array of samples with its rate."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, BinaryIO

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.audio.decode import EncodedAudio, FileAudio
from data.audio.wav import as_wav
from trainer.errors import AudioError

FULL_SCALE_LIMIT = 16.0
"""A float array beyond this holds 16-bit values, not samples of full scale 1: no resampling overshoots so far."""
_MOST_CHANNELS = 32
_SHORT = {"large_string": "string", "large_binary": "binary"}
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


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


class ArrayAudio(RowAudio):
    """The samples in one row, {"array": [...], "sampling_rate": 16000}, as a wav file of the same numbers."""

    def open(self) -> BinaryIO:
        rows = self.dataset.with_format("arrow")[self.row : self.row + 1][self.column]
        value = rows.combine_chunks() if isinstance(rows, pa.ChunkedArray) else rows
        rate = value.field("sampling_rate")[0].as_py() if value.is_valid()[0].as_py() else None
        if not isinstance(rate, int | float) or not 0 < rate < 2**31 or rate != int(rate):
            raise AudioError(f"{self.name}: the row holds no array with a sampling_rate ({rate!r}).")
        return io.BytesIO(as_wav(self._samples(value.field("array")), int(rate)))

    def _samples(self, value: Any) -> np.ndarray:
        """(num_frames, channels), float32, float64 or int16."""
        if not value.is_valid()[0].as_py():
            raise AudioError(f"{self.name}: the row's array is empty (null).")
        values = (value.storage if isinstance(value, pa.ExtensionArray) else value).flatten()
        width = len(values)
        if any(is_list(values.type) for is_list in _LISTS):
            values = values.flatten()
        if values.null_count or not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
            raise AudioError(f"{self.name}: the row's array holds {values.type} or nulls, not samples.")
        samples = values.to_numpy(zero_copy_only=False)
        if len(samples) != width and width:  # rows of equal length: channels by samples, or the other way round
            if len(samples) % width:
                raise AudioError(f"{self.name}: the channels of the row's array differ in length.")
            samples = samples.reshape(width, -1)
            if samples.shape[0] < samples.shape[1]:
                samples = samples.T
            if samples.shape[1] > _MOST_CHANNELS:
                raise AudioError(f"{self.name}: the row's array is {width} by {samples.size // width}: no channels.")
        return self._full_scale(samples.reshape(len(samples), -1) if samples.size else samples.reshape(0, 1))

    def _full_scale(self, samples: np.ndarray) -> np.ndarray:
        """The samples in a type that says what full scale is; AudioError where they are of another."""
        highest = float(np.abs(samples.astype(np.float64)).max(initial=0.0))
        if np.issubdtype(samples.dtype, np.floating):
            if FULL_SCALE_LIMIT < highest < np.inf:
                raise AudioError(
                    f"{self.name}: its samples reach {highest:g}; floats lie between -1 and 1. Divide 16-bit values by "
                    "32768."
                )
            return samples.astype(np.float32) if samples.dtype == np.float16 else samples
        if highest > 32768 or samples.max(initial=0) > 32767:
            raise AudioError(f"{self.name}: its integers reach {highest:g}, beyond 16 bits. Give floats or int16.")
        return samples.astype(np.int16)


def holds_arrays(feature: object) -> bool:
    """Whether a column of this type holds arrays of samples with their rates."""
    return isinstance(feature, dict) and {"array", "sampling_rate"} <= feature.keys()


def row_sources(dataset: datasets.Dataset, column: str, names: list[str], folder: Path | None) -> list[EncodedAudio]:
    """The audio of each row, `names` being the rows'; paths that are not absolute lie below `folder` if there.

    TypeError, ValueError, NotImplementedError or ImportError, as pyarrow and datasets please, when it holds none.
    """
    if not names:
        return []
    alone = dataset.select_columns([column])  # or another column of audio would be decoded with each row
    if holds_arrays(dataset.features[column]):
        return [ArrayAudio(alone, column, row, name) for row, name in enumerate(names)]
    encoded = as_encoded(alone, column)
    sources: list[EncodedAudio] = []
    for row, (path, name) in enumerate(zip(audio_paths(encoded, column), names, strict=True)):
        if path is None:
            sources.append(RowAudio(encoded, column, row, name))
        else:
            below = folder / path if folder else Path(path)
            sources.append(FileAudio(below if below.exists() else Path(path)))
    return sources


def as_encoded(dataset: Any, column: str) -> Any:
    """The data set, or the stream, with bytes and paths in the column; the errors of `row_sources`."""
    # pandas and CSV give long strings and bytes, which datasets does not make into audio
    feature = (dataset.features or {}).get(column)
    if (short := _SHORT.get(getattr(feature, "dtype", ""))) is not None:
        dataset = dataset.cast_column(column, datasets.Value(short))
    return dataset.cast_column(column, datasets.Audio(decode=False))


def audio_paths(dataset: datasets.Dataset, column: str) -> list[str | None]:
    """Where each row's audio lies if not in the row itself; asked of Arrow, so that no audio is read."""
    audio = dataset.with_format("arrow")[:][column]
    in_row = pc.is_valid(pc.struct_field(audio, "bytes")).to_pylist()
    paths = pc.struct_field(audio, "path").to_pylist()
    return [None if has_bytes else path for has_bytes, path in zip(in_row, paths, strict=True)]
