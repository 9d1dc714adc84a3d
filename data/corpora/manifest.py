"""Speech manifests: one utterance a row, as JSON lines (.jsonl, .json), .csv or .tsv with a header.

    {"id": "s1-0007", "audio_filepath": "wav/0007.flac", "text": "so it goes", "speaker": "s1", "duration": 1.7}

`audio_filepath` is relative to the manifest; without `id` it is the id. `duration` is not needed: lengths come
from the audio itself, and are compared with it (data.durations). With `offset` or `start` the utterance is a part of
the file. Other known names of these columns: data.corpora.columns. No audio is decoded here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from data.audio.decode import FileAudio
from data.audio.segments import AudioSegment
from data.config import CorpusConfig, option
from data.corpora.columns import AUDIO, TEXT, Columns, Times, find_column, read_times
from data.corpora.manifest_fast import read_fast
from data.corpora.manifest_table import to_table
from data.corpora.tables import Row, open_table
from data.faults import Faults
from data.utterance import AudioSource, Corpus, Splits, Utterance
from trainer.errors import CorpusError

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

    def __init__(self, config: ManifestConfig) -> None:
        self.config = config
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
                self.notes += [note for note in reader.notes if note not in self.notes]
                return plain
            table = to_table(Path(self.manifests[split]), self._sound(split))
            if table is not None:
                return table
        return self._one_by_one(split, faults or Faults())

    def _sound(self, split: str) -> Iterator[tuple[int, Utterance]]:
        """(Line, utterance) of each row; the first fault is raised."""
        for reading in self.readings(split):
            if not isinstance(reading, Utterance):
                raise reading
            yield int(reading.origin.rpartition(":")[2]), reading

    def _one_by_one(self, split: str, faults: Faults) -> Iterator[Utterance]:
        for reading in self.readings(split):
            if isinstance(reading, Utterance):
                yield reading
                continue
            with faults.noted(MALFORMED, split):
                raise reading

    def readings(self, split: str) -> Iterator[Utterance | CorpusError]:
        """Each row's utterance or what is wrong with it, in order; CorpusError raised where the file itself is."""
        manifest = Path(self.manifests[split])
        reader = RowReader(self.config, manifest)
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
        self.notes += [note for note in [*table.notes, *reader.notes] if note not in self.notes]

    def checksum(self, words_per_split: dict[str, int]) -> None:
        """None: nobody published this corpus' counts."""


class RowReader:
    """From the rows of one manifest to utterances: what the columns are is settled once, by the first row."""

    def __init__(self, config: ManifestConfig, manifest: Path) -> None:
        self.config, self.manifest, self.folder = config, manifest, manifest.parent
        self.notes: list[str] = []
        self._clips = "clips" if (self.folder / "clips").is_dir() else ""
        self._names: tuple[str, str] | None = None
        self._columns: dict[tuple[str, ...], Columns] = {}
        self._files: dict[str, FileAudio] = {}
        self._plain_ids: dict[str, tuple[float, float | None]] = {}

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
            listed = re.search(r"\.(wav|flac|mp3|ogg|opus|sph)\b", " ".join(header), re.IGNORECASE)
            hint = " Is the header missing? Write the columns' names above the rows." if listed else ""
            raise CorpusError(f"{where}: {error}{hint}") from None

    def utterance(self, row: Row, where: str) -> Utterance:
        """CorpusError begins with `where`."""
        try:
            columns = self.columns_of(tuple(row))
            times = read_times(row, columns)
            path = _string(row, columns.audio)
            if not path:
                raise CorpusError(f'"{columns.audio}" is empty. It names the audio file.')
            audio = self._audio(path, times, is_common_voice=row.keys() >= COMMON_VOICE)
            return Utterance(
                id=_name(row, "id") or self._derived_id(path, times),
                audio=audio,
                text=_string(row, columns.text),
                speaker=(_name(row, columns.speaker) if columns.speaker else "") or None,
                origin=where,
                stated_duration=times.stated_duration,
            )
        except CorpusError as error:
            raise CorpusError(f"{where}: {error}") from None

    def _find(self, fields: Sequence[str]) -> tuple[str, str]:
        """The names of the audio's and the text's column."""
        audio, text = self.config.audio_field, self.config.text_field
        return (
            find_column(fields, audio, AUDIO if audio == ManifestConfig.audio_field else (), "audio"),
            find_column(fields, text, TEXT if text == ManifestConfig.text_field else (), "text"),
        )

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
        usual = (self.config.audio_field, self.config.text_field, "speaker")
        taken = [
            f'{what} from "{name}"'
            for what, name, own in zip(
                ("audio", "text", "speaker"), (columns.audio, columns.text, columns.speaker), usual, strict=True
            )
            if name not in (None, own)
        ]
        if taken:
            self.notes.append(f"{self.manifest.name}: {', '.join(taken)}")
        for name in columns.unread:
            self.notes.append(f'{self.manifest.name}: "{name}" is not read; channels are averaged')

    def _audio(self, path: str, times: Times, *, is_common_voice: bool) -> AudioSource:
        found = locate(self.folder, path, also=self._clips if is_common_voice else "")
        if not times.is_segment:
            return FileAudio(found)
        # its header is read once for all its segments
        whole = self._files.setdefault(str(found), FileAudio(found))
        return AudioSegment(whole, times.start, times.end)

    def _derived_id(self, path: str, times: Times) -> str:
        """The path, and the part where it needs one: as a media fragment (W3C), in seconds."""
        bounds = (times.start, times.end)
        if times.start == 0 and self._plain_ids.setdefault(path, bounds) == bounds:
            return path
        end = "" if times.end is None else f",{_short(times.end)}"
        return f"{path}#t={_short(times.start)}{end}"


def locate(folder: Path, path: str, *, also: str = "") -> Path:
    """The file that a row names: below `folder`, absolute, or written as another system or a browser writes it.

    What is there under the plain name comes first. Others are tried for `~/`, backslashes, %20 and file://, and for
    the folder `also`. CorpusError for what cannot be a file here.
    """
    if control := re.search(r"[\0-\x1f]", path):
        raise CorpusError(
            f"the audio's path {path!r} holds U+{ord(control[0]):04X}: a single backslash? Write / or \\\\."
        )
    if scheme := re.match(r"([a-zA-Z][a-zA-Z0-9+.-]+)://", path):
        if scheme[1].lower() != "file":
            raise CorpusError(f"the audio's path {path} is an address: fetch the file, and give the path to it.")
        return Path("/" + unquote(path.partition("://")[2].partition("/")[2]))
    candidates = [folder / path]
    if path.startswith("~"):
        candidates.append(Path(os.path.expanduser(path)))
    if "\\" in path:
        candidates.append(folder / path.replace("\\", "/"))
    if "%" in path:
        candidates.append(folder / unquote(path))
    if also:
        candidates.append(folder / also / path)
    if len(candidates) == 1:
        return candidates[0]  # reading a manifest asks the disk for nothing
    return next((candidate for candidate in candidates if os.path.exists(candidate)), candidates[-1 if also else 0])


def _short(seconds: float) -> str:
    return str(int(seconds)) if seconds == int(seconds) else str(round(seconds, 6))


def _name(row: Row, field: str) -> str:
    """An optional name: a string or a number; empty when there is none."""
    value = row.get(field)
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise CorpusError(f'"{field}" must be a string or a number, found {value!r}.')
    return "" if value is None else str(value)


def _string(row: Row, name: str) -> Any:
    if not isinstance(row[name], str) or "\0" in row[name]:
        raise CorpusError(f'"{name}" must be a string, found {row[name]!r}.')
    return row[name]
