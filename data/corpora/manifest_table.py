"""The rows of a manifest as Arrow columns: what a million of them cost is their text, not a million Python objects."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.audio.decode import FileAudio
from data.audio.segments import AudioSegment, find_overshoots
from data.utterance import AudioHeader, AudioSource, Utterance
from data.utterance_table import UtteranceTable
from trainer.errors import AudioError

SCHEMA = pa.schema([
    ("id", pa.string()), ("text", pa.string()), ("speaker", pa.string()), ("line", pa.int64()),
    ("path", pa.string()), ("is_part", pa.bool_()), ("start", pa.float64()), ("end", pa.float64()),
    ("channel", pa.int32()), ("stated", pa.float64()),
])  # fmt: skip
ROWS_A_CHUNK = 16_384
_MEASURED_AT_ONCE = 64


class ManifestTable(UtteranceTable):
    """The utterances of one manifest. Headers are read once, by several threads, when a length is first asked for."""

    def __init__(self, manifest: Path, rows: pa.Table) -> None:
        super().__init__(rows)
        self.manifest = manifest
        self._files: dict[str, FileAudio] = {}
        self._errors: dict[int, AudioError] = {}
        self._frames = np.full(len(rows), -1, np.int64)
        self._kinds = np.zeros(len(rows), np.int32)
        self._templates: dict[AudioHeader, int] = {}
        self._known: list[AudioHeader] = []

    def with_rows(self, rows: pa.Table, change: str) -> ManifestTable:
        return ManifestTable(self.manifest, rows)

    def utterance(self, i: int) -> Utterance:
        row = {name: self._column[name][i].as_py() for name in ("id", "text", "speaker", "line", "stated")}
        return Utterance(
            id=row["id"],
            audio=self.audio(i),
            text=row["text"],
            speaker=row["speaker"],
            origin=f"{self.manifest}:{row['line']}",
            stated_duration=row["stated"],
        )

    def audio(self, i: int) -> AudioSource:
        path = self._column["path"][i].as_py()
        if self._column["is_part"][i].as_py():  # its header is read once for all its parts
            part = (self._column[name][i].as_py() for name in ("start", "end", "channel"))
            return AudioSegment(self._files.setdefault(path, FileAudio(Path(path))), *part)
        audio = FileAudio(Path(path))
        if self._frames[i] >= 0:
            header = dataclasses.replace(self._known[self._kinds[i]], num_frames=int(self._frames[i]))
            audio.__dict__["header"] = header  # what was read before
        return audio

    def notes(self) -> list[str]:
        """What is odd about the rows together: files that several name for their whole, with different transcripts.

        They are parts, and what says of which is a column that nobody knows here.
        """
        is_whole = pc.and_(pc.equal(self.rows["start"], 0.0), pc.is_null(self.rows["end"]))
        whole = self.rows.filter(is_whole)
        if pc.count_distinct(whole["path"]).as_py() == len(whole):
            return []
        of = ["path", "channel"]
        files = whole.group_by(of, use_threads=False).aggregate([("text", "count_distinct"), ("line", "list")])
        files = files.filter(pc.greater(files["text_count_distinct"], 1))
        if not len(files):
            return []
        path, lines = files["path"][0].as_py(), files["line_list"][0].as_py()
        return [
            f"{self.manifest.name}: rows that name one file as a whole have different transcripts, as lines {lines[0]} "
            f"and {lines[1]} ({path}); such files: {len(files)}. Are the rows parts? Name their bounds start and end. "
            "Are they channels? Name the column channel"
        ]

    @functools.cached_property
    def _column(self) -> dict[str, pa.ChunkedArray]:
        return dict(zip(self.rows.column_names, self.rows.columns, strict=True))

    @functools.cached_property
    def _lengths(self) -> np.ndarray:
        lengths = np.zeros(len(self), np.int64)

        def measure(first: int) -> None:
            for i in range(first, min(first + _MEASURED_AT_ONCE, len(self))):
                try:
                    audio = self.audio(i)
                    lengths[i] = audio.num_samples
                    if isinstance(audio, FileAudio):
                        self._remember(i, audio.header)
                except AudioError as error:
                    self._errors[i] = error

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(measure, range(0, len(self), _MEASURED_AT_ONCE)))
        self._errors = dict(sorted(self._errors.items()))
        return lengths

    def _remember(self, i: int, header: AudioHeader) -> None:
        """Keep a header as its length and the number of those that are otherwise equal."""
        template = dataclasses.replace(header, num_frames=0)
        number = self._templates.get(template)
        if number is None:
            self._known.append(template)  # two threads may add the same one, which does no harm
            number = self._templates.setdefault(template, len(self._known) - 1)
        self._kinds[i] = number
        self._frames[i] = header.num_frames

    def num_samples(self) -> np.ndarray:
        return self._lengths

    def errors(self) -> dict[int, AudioError]:
        self.num_samples()
        return self._errors

    def headers(self) -> list[tuple[AudioHeader, int]] | None:
        self.num_samples()
        if any(header.num_missing or header.remark for header in self._known) or self._files:
            return None  # then the utterances are named
        counts = Counter(self._kinds[self._frames >= 0].tolist())
        return [(self._known[number], count) for number, count in counts.items()]

    def overshoots(self) -> list[tuple[float, str]]:
        if not self._files and not self.rows["is_part"].to_numpy().any():
            return []
        return find_overshoots(self.utterance(int(i)) for i in np.flatnonzero(self.rows["is_part"].to_numpy()))


def to_table(manifest: Path, utterances: Iterable[tuple[int, Utterance]]) -> ManifestTable | None:
    """The (line, utterance) of each row as a table; None where a text or a path is no Unicode, which Arrow cannot hold.

    Memory holds some thousands of the utterances at a time.
    """
    try:
        return ManifestTable(manifest, pa.Table.from_batches(list(_batches(utterances)), SCHEMA))
    except UnicodeEncodeError:
        return None


def _batches(utterances: Iterable[tuple[int, Utterance]]) -> Iterator[pa.RecordBatch]:
    columns: list[list[Any]] = [[] for _ in SCHEMA]
    for line, u in utterances:
        audio = u.audio
        if isinstance(audio, AudioSegment):
            where = (audio.whole.name, True, audio.start, audio.end, audio.channel)
        else:
            where = (audio.name, False, 0.0, None, None)
        for column, value in zip(columns, (u.id, u.text, u.speaker, line, *where, u.stated_duration), strict=True):
            column.append(value)
        if len(columns[0]) == ROWS_A_CHUNK:
            yield _batch(columns)
            for column in columns:
                column.clear()
    if columns[0]:
        yield _batch(columns)


def _batch(columns: list[list[Any]]) -> pa.RecordBatch:
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
