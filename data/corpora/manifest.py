"""Speech manifests: one utterance a row, as JSON lines (.jsonl, .json), .csv or .tsv with a header.

    {"id": "s1-0007", "audio_filepath": "wav/0007.flac", "text": "so it goes", "speaker": "s1", "duration": 1.7}

`audio_filepath` is relative to the manifest; without `id` it is the id. `duration` is not needed: lengths come
from the audio itself, and are compared with it (data.examples.durations). With `offset` or `start` the utterance is a
part of the file, and with `channel` one of its channels. Other known names of these columns: data.corpora.columns.
No audio is decoded here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from data.audio.decode import FileAudio
from data.audio.segments import AudioSegment
from data.config import CorpusConfig, option
from data.corpora.channels import Channels
from data.corpora.columns import (
    AUDIO,
    TEXT,
    Columns,
    Times,
    find_column,
    known_name,
    read_times,
    refuse_several_splits,
)
from data.corpora.foreign import foreign_header, foreign_row
from data.corpora.manifest_fast import read_fast
from data.corpora.manifest_table import to_table
from data.corpora.paths import locate
from data.corpora.tables import Row, open_table
from data.corpora.values import name_in, string_in
from data.faults import Faults
from data.utterance import AudioSource, Corpus, Splits, Utterance
from trainer.errors import AudioError, CorpusError

MALFORMED = "malformed row"
"""A reason of Faults."""
COMMON_VOICE = {"client_id", "path", "sentence"}
"""Columns of Common Voice's own tables, whose paths are relative to the folder clips/ beside them."""


@dataclass(frozen=True, kw_only=True)
class ManifestConfig(CorpusConfig):
    """your own corpus: --corpus.train F --corpus.eval F (.jsonl, .csv or .tsv: audio_filepath, text)"""

    preset = "manifest"

    train: str = option("", common=True, place=True)
    """Manifest of the training split."""

    eval: str = option("", common=True, place=True)
    """Manifest of the evaluation split."""

    test: str = option("", common=True, place=True)
    """Manifest of a test split: the evaluation split then selects the weights, and this one is reported;
    none: the evaluation split is reported."""

    text_field: str = option("text", common=True)
    """Column that holds the transcript; if there is no "text": sentence, transcript or the like, where one fits."""

    audio_field: str = "audio_filepath"
    """Column of the audio file's path, relative to the manifest; the default also finds path, file, wav, ..."""

    def required(self, training: bool) -> list[tuple[str, str]]:
        scored = [("--corpus.eval MANIFEST", self.eval or (not training and self.test) or "")]
        return [("--corpus.train MANIFEST", self.train), *scored] if training else scored

    def open(self, cache_dir: Path, progress: Callable[[int, int], None]) -> Corpus:
        return ManifestCorpus(self)


class ManifestCorpus:
    """Two manifests, one to train on and one to score; a third one, if given, is the test split."""

    splits = Splits(train="train", monitor="eval", headline="eval", closing=("eval",))

    def __init__(self, config: ManifestConfig, *, needs_text: bool = True) -> None:
        """Without `needs_text` no text is looked for: that of an utterance is the path of its audio."""
        self.config, self.needs_text = config, needs_text
        self.notes: list[str] = []
        self.manifests = {"train": config.train, "eval": config.eval, "test": config.test}
        are_same = os.path.realpath(config.test) == os.path.realpath(config.eval)
        self.splits = self.splits.with_given_test(config.eval, config.test, are_same=are_same)

    @property
    def title(self) -> str:
        names = [Path(manifest).name for manifest in self.manifests.values() if manifest]
        return f"the manifests {', '.join(names[:-1])} and {names[-1]}" if names[1:] else f"the manifest {names[0]}"

    def utterances(self, split: str, faults: Faults | None = None) -> Iterable[Utterance]:
        """The rows of the split's manifest: a ManifestTable, unless `faults` collects what is wrong with rows."""
        if faults is None or not faults.collects:
            reader = RowReader(self.config, Path(self.manifests[split]))
            plain = read_fast(reader.manifest, reader.columns_of, COMMON_VOICE)
            if plain is not None:
                self._add_notes(reader.notes)
            table = plain if plain is not None else to_table(reader.manifest, self._sound(split))
            if table is not None:
                self._add_notes(table.notes())
                return table
        return self._one_by_one(split, faults or Faults())

    def _sound(self, split: str) -> Iterator[tuple[int, Utterance]]:
        """(Line, utterance) of each row; the first fault is raised."""
        for reading in self.readings(split):
            if not isinstance(reading, Utterance):
                raise reading
            yield line_of(reading), reading

    def _one_by_one(self, split: str, faults: Faults) -> Iterator[Utterance]:
        sound = list[Utterance]()
        for reading in self.readings(split):
            if isinstance(reading, Utterance):
                sound.append(reading)
                yield reading
                continue
            with faults.noted(MALFORMED, split):
                raise reading
        table = to_table(Path(self.manifests[split]), ((line_of(u), u) for u in sound))
        self._add_notes(table.notes() if table is not None else [])

    def readings(self, split: str) -> Iterator[Utterance | CorpusError]:
        """Each row's utterance or what is wrong with it, in order; CorpusError raised where the file itself is."""
        manifest = Path(self.manifests[split])
        reader = RowReader(self.config, manifest, needs_text=self.needs_text)
        table = open_table(manifest, reader.has_columns)
        if table.header is not None:
            reader.check_header(table.header[1], f"{manifest}:{table.header[0]}")
        is_empty = True
        for number, row in table.rows:
            is_empty = False
            if isinstance(row, CorpusError):
                yield row
                continue
            try:
                yield reader.utterance(row, f"{manifest}:{number}")
            except CorpusError as error:
                yield error
        if is_empty:
            raise CorpusError(f"{manifest}: holds no utterance. Give each a row with audio_filepath and text.")
        self._add_notes([*table.notes, *reader.notes])
        reader.check_end()

    def _add_notes(self, notes: Iterable[str]) -> None:
        self.notes += [note for note in notes if note not in self.notes]

    def checksum(self, words_per_split: dict[str, int]) -> None:
        """None: nobody published this corpus' counts."""


def line_of(utterance: Utterance) -> int:
    """The line of its manifest that a row's utterance stands in."""
    return int(utterance.origin.rpartition(":")[2])


class RowReader:
    """From the rows of one manifest to utterances: what the columns are is settled once, by the first row."""

    def __init__(self, config: ManifestConfig, manifest: Path, *, needs_text: bool = True) -> None:
        self.needs_text = needs_text
        self.config, self.manifest, self.folder = config, manifest, manifest.parent
        self.notes: list[str] = []
        self._clips = "clips" if (self.folder / "clips").is_dir() else ""
        self._names: tuple[str, str] | None = None
        self._columns: dict[tuple[str, ...], Columns] = {}
        self._files: dict[str, FileAudio] = {}
        self._plain_ids: dict[str, tuple[float, float | None]] = {}
        self._splits: dict[str, str] = {}
        self._channels = Channels(manifest.name, self._rows, self.notes)

    def has_columns(self, header: Sequence[str]) -> bool:
        """Whether a table of these columns has the audio and the text."""
        try:
            self._find(header)
        except CorpusError:
            return False
        return True

    def check_header(self, header: Sequence[str], where: str) -> None:
        """CorpusError, once and not for every row, when a table's columns cannot be used."""
        try:
            self.columns_of(tuple(header))
        except CorpusError as error:
            raise CorpusError(f"{where}: {error}{foreign_header(header)}") from None

    def check_end(self) -> None:
        """CorpusError, behind the last row, when the rows are of several splits."""
        try:
            for column in set(self._splits.values()):
                refuse_several_splits(column, [value for value, of in self._splits.items() if of == column])
        except CorpusError as error:
            raise CorpusError(f"{self.manifest}: {error}") from None

    def utterance(self, row: Row, where: str) -> Utterance:
        """CorpusError begins with `where`."""
        try:
            columns = self._columns_of(row)
            times = read_times(row, columns)
            path = string_in(row, columns.audio)
            if columns.split is not None and isinstance(said := row.get(columns.split), str):
                self._splits[said] = columns.split
            if not path:
                raise CorpusError(f'"{columns.audio}" is empty. It names the audio file.')
            found = locate(self.folder, path, also=self._clips if row.keys() >= COMMON_VOICE else "")
            channel = (
                self._channels.of(row, columns.channels, partial(self._whole, found)) if columns.channels else None
            )
            return Utterance(
                id=(name_in(row, columns.id) if columns.id else "") or self._derived_id(path, found, times, channel),
                audio=self._audio(found, times, channel),
                text=string_in(row, columns.text),
                speaker=known_name(name_in(row, columns.speaker)) if columns.speaker else None,
                origin=where,
                stated_duration=times.stated_duration,
            )
        except CorpusError as error:
            raise CorpusError(f"{where}: {error}") from None

    def _columns_of(self, row: Row) -> Columns:
        try:
            return self.columns_of(tuple(row))
        except CorpusError:
            if self._names is None and (foreign := foreign_row(row)):
                raise CorpusError(foreign) from None
            raise

    def _find(self, fields: Sequence[str]) -> tuple[str, str]:
        """The names of the audio's and the text's column; twice the audio's where no text is needed."""
        audio, text = self.config.audio_field, self.config.text_field
        of_audio = find_column(fields, audio, AUDIO if audio == ManifestConfig.audio_field else (), "audio")
        if not self.needs_text:
            return of_audio, of_audio
        return of_audio, find_column(fields, text, TEXT if text == ManifestConfig.text_field else (), "text")

    def columns_of(self, fields: tuple[str, ...]) -> Columns:
        """What each field of a row is; CorpusError where that cannot be."""
        if fields not in self._columns:
            if self._names is None:
                names = self._find(fields)
            else:
                names = self._names
                for name, what in zip(names, ("audio", "text"), strict=True):
                    find_column(fields, name, (), what)
            columns = Columns.of(fields, *names)
            if self._names is None:
                self._names = names
                self._note(columns)
            self._columns[fields] = columns
        return self._columns[fields]

    def _note(self, columns: Columns) -> None:
        """What was taken under another name, and what is left out though it would matter."""
        found = {
            "audio": (columns.audio, self.config.audio_field),
            "text": (columns.text, self.config.text_field),
            "speaker": (columns.speaker, "speaker"),
            "id": (columns.id, "id"),
        }
        taken = [f'{what} from "{name}"' for what, (name, usual) in found.items() if name not in (None, usual)]
        if taken:
            self.notes.append(f"{self.manifest.name}: {', '.join(taken)}")

    def _audio(self, found: Path, times: Times, channel: int | None) -> AudioSource:
        if channel is None and not times.is_segment:
            return FileAudio(found)
        return AudioSegment(self._whole(found), times.start, times.end, channel)

    def _rows(self) -> Iterator[Row]:
        """All rows that can be read, once more from the first."""
        return (row for _, row in open_table(self.manifest, self.has_columns).rows if not isinstance(row, CorpusError))

    def _whole(self, path: Path) -> FileAudio:
        """The file; its header is read once for all its parts."""
        return self._files.setdefault(str(path), FileAudio(path))

    def _has_several(self, path: Path) -> bool:
        """Whether the file has several channels; False where that cannot be read, which is told of the utterance."""
        try:
            return self._whole(path).header.num_channels > 1
        except AudioError:
            return False

    def _derived_id(self, path: str, found: Path, times: Times, channel: int | None) -> str:
        """The path, and the part where it needs one: as a media fragment (W3C), in seconds; a channel from 1."""
        bounds = (times.start, times.end)
        parts = [] if channel is None or not self._has_several(found) else [f"channel={channel + 1}"]
        if times.start != 0 or self._plain_ids.setdefault(path, bounds) != bounds:
            end = "" if times.end is None else f",{_short(times.end)}"
            parts.insert(0, f"t={_short(times.start)}{end}")
        return f"{path}#{'&'.join(parts)}" if parts else path


def _short(seconds: float) -> str:
    return str(int(seconds)) if seconds == int(seconds) else str(round(seconds, 6))
