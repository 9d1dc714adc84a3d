"""Which columns of a data set hold the audio, the text, the id and the speaker, and what stands there in a row.

A column of structs, such as the .json of WebDataset's tars, is entered by a point: json.text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets

from data.corpora.columns import AUDIO, CHANNEL, TEXT, find_speaker, known_as, known_name, name_of
from data.corpora.hub import HubConfig
from trainer.errors import CorpusError

_AUDIO = (*AUDIO, "flac", "mp3", "ogg", "opus")
"""WebDataset's columns are called by the endings of the files."""
_BOUNDS = ("start", "start_time", "begin", "begin_time", "offset", "end", "end_time", "stop")


@dataclass(frozen=True)
class Field:
    """A column, or a value inside of its structs."""

    column: str
    inner: tuple[str, ...] = ()
    labels: datasets.ClassLabel | None = None
    """Where the values are numbers of labels."""

    @property
    def name(self) -> str:
        return ".".join((self.column, *self.inner))

    def value(self, row: Mapping[str, Any]) -> Any:
        value = row[self.column]
        for key in self.inner:
            value = value.get(key) if isinstance(value, Mapping) else None
        return self.labels.int2str(value) if self.labels is not None and isinstance(value, int) else value


@dataclass(frozen=True)
class Fields:
    """Those of one split."""

    dataset: str
    audio: Field
    text: Field
    id: Field | None
    speaker: Field | None
    notes: tuple[str, ...]

    @classmethod
    def of(cls, config: HubConfig, split: str, names: Sequence[str], features: Mapping[str, Any] | None) -> Fields:
        """Where the columns `names` hold what; CorpusError where that cannot be told. `features` are their types."""
        find = _Finder(config, split, names, features or {})
        audio, text = find("audio", config.audio_field, _AUDIO), find("text", config.text_field, TEXT)
        id = find("id", config.id_field) if config.id_field else None
        speaker, notes = None, list[str]()
        if config.speaker_field:
            speaker = find("speaker", config.speaker_field)
        elif found := find_speaker(names):
            speaker = find.field(found)
            notes.append(f'{config.dataset}: speaker from column "{found}"; another: --corpus.speaker-field')
        for what, field, usual in (("audio", audio, config.audio_field), ("text", text, config.text_field)):
            if field.name != usual:
                notes.append(f'{config.dataset}: {what} from column "{field.name}"; another: --corpus.{what}-field')
        if channels := known_as(CHANNEL, names):
            listed = " and ".join(f'"{name}"' for name in channels)
            notes.append(f"{config.dataset}: {listed}: not read, channels are averaged")
        if bounds := known_as(_BOUNDS, names):
            listed = " and ".join(f'"{name}"' for name in bounds)
            notes.append(f"{config.dataset}: {listed}: not read, the audio of a row is taken whole")
        return cls(config.dataset, audio, text, id, speaker, tuple(notes))

    @property
    def names(self) -> tuple[str | None, ...]:
        return tuple(None if f is None else f.name for f in (self.audio, self.text, self.id, self.speaker))

    @property
    def columns(self) -> list[str]:
        """All but the audio's."""
        return list(dict.fromkeys(field.column for field in (self.text, self.id, self.speaker) if field is not None))

    def read(self, row: Mapping[str, Any], where: str, usual_id: str) -> tuple[str, str, str | None]:
        """(Id, text, speaker) of a row; CorpusError, which begins with `where`, where they cannot be."""
        text = self.text.value(row)
        if not isinstance(text, str):
            raise CorpusError(f"{where}: {self.text.name!r} must be a string, found {text!r:.60}.{_remedy(text, self)}")
        if self.id is not None and self.id.value(row) is None:
            raise CorpusError(f"{where}: {self.id.name!r} is empty. It is to be a unique id.")
        id = name_of(self.id.value(row)) if self.id is not None else usual_id
        return id, text, known_name(self.speaker.value(row)) if self.speaker is not None else None


def _remedy(text: object, fields: Fields) -> str:
    if isinstance(text, Mapping):
        return f" It holds {', '.join(map(str, text))}: name one, as --corpus.text-field {fields.text.name}.text"
    if text is None or isinstance(text, int | float):
        return (
            " Reading CSV, `datasets` makes numbers of digits and nothing of null, nan and NA: in JSON lines they are "
            "text."
        )
    return ""


class _Finder:
    def __init__(self, config: HubConfig, split: str, names: Sequence[str], features: Mapping[str, Any]) -> None:
        self.config, self.split, self.names, self.features = config, split, names, features

    def field(self, name: str) -> Field:
        """The field of that name, which is a column or a point-separated way into one."""
        column, inner = name, tuple[str, ...]()
        if name not in self.names:
            column, *rest = name.split(".")
            inner = tuple(rest)
        feature = self.features.get(column)
        for key in inner:
            feature = feature.get(key) if isinstance(feature, dict) else None
        return Field(column, inner, feature if isinstance(feature, datasets.ClassLabel) else None)

    def __call__(self, what: str, wanted: str, known: Sequence[str] = ()) -> Field:
        """`wanted`; where that is the default and not there, the only one of `known`."""
        column, _, inner = wanted.partition(".")
        if wanted in self.names or (inner and column in self.names):
            return self.field(wanted)
        is_default = wanted == getattr(HubConfig, f"{what}_field")
        others = (known_as(known, self.names) or self._inside(known)) if is_default else []
        if len(others) == 1:
            return self.field(others[0])
        listed = f" {' and '.join(map(repr, others))} may be it." if others else ""
        if what == "text" and set(self.names) <= {"audio", "label"}:
            listed = " Are these audio files without a metadata.csv of file_name and text beside them?"
        raise CorpusError(
            f"{self.config.dataset}, split {self.split}: no column {wanted!r} (columns: {', '.join(self.names)})."
            f"{listed} Name it with --corpus.{what}-field."
        )

    def _inside(self, known: Sequence[str]) -> list[str]:
        """Fields of the columns of structs that are called as one of `known`."""
        structs = {name: feature for name, feature in self.features.items() if isinstance(feature, dict)}
        return [f"{name}.{key}" for name, feature in structs.items() for key in known_as(known, feature)]
