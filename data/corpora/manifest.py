"""Speech manifests: one utterance a row, as JSON lines (.jsonl, .json), .csv or .tsv with a header.

    {"id": "s1-0007", "audio_filepath": "wav/0007.flac", "text": "so it goes", "speaker": "s1", "duration": 1.7}

`audio_filepath` is relative to the manifest; without `id` it is the id. `duration` is not needed: lengths come
from the audio itself, and are compared with it (data.durations). No audio is decoded here.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from data import strict_json
from data.audio.decode import FileAudio
from data.audio.files import open_regular
from data.config import ManifestConfig
from data.durations import parse_duration
from data.utterance import Splits, Utterance
from trainer.errors import CorpusError


class ManifestCorpus:
    """Two manifests, one to train on and one to score."""

    splits = Splits(train="train", monitor="eval", headline="eval", closing=("eval",))

    def __init__(self, config: ManifestConfig) -> None:
        self.config = config

    @property
    def title(self) -> str:
        return f"the manifests {Path(self.config.train).name} and {Path(self.config.eval).name}"

    def utterances(self, split: str) -> Iterable[Utterance]:
        """The rows of the split's manifest."""
        manifest = Path(self.config.train if split == "train" else self.config.eval)
        number = 0
        for number, row in read_rows(manifest):
            yield self._utterance(manifest, number, row)
        if number == 0:
            raise CorpusError(f"{manifest}: holds no utterance. Give each a row with audio_filepath and text.")

    def checksum(self, words_per_split: dict[str, int]) -> None:
        """None: nobody published this corpus' counts."""

    def _utterance(self, manifest: Path, number: int, row: dict[str, Any]) -> Utterance:
        where = f"{manifest}:{number}"
        path = _string(row, self.config.audio_field, where, "--corpus.audio-field")
        if not path:
            raise CorpusError(f'{where}: "{self.config.audio_field}" is empty. It names the audio file.')
        if row.get("offset"):
            raise CorpusError(f'{where}: "offset" {row["offset"]}: parts of files are not read. Cut the audio first.')
        return Utterance(
            id=_name(row, "id", where) or path,
            audio=FileAudio(manifest.parent / path),
            text=_string(row, self.config.text_field, where, "--corpus.text-field"),
            speaker=_name(row, "speaker", where) or None,
            origin=where,
            duration=parse_duration(row.get("duration")),
        )


def read_rows(manifest: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, row) of each row; CorpusError names file and line of what is malformed."""
    suffix = manifest.suffix.lower()
    if suffix not in (".jsonl", ".json", ".csv", ".tsv"):
        raise CorpusError(f"{manifest}: a manifest ends in .jsonl, .json, .csv or .tsv.")
    try:
        with io.TextIOWrapper(open_regular(manifest), encoding="utf-8-sig", newline="") as file:
            yield from (_json_rows if suffix.startswith(".json") else _table_rows)(manifest, file)
    except OSError as error:
        reason = error.strerror or error
        raise CorpusError(f"{manifest}: {reason}. --corpus.train and --corpus.eval name the manifests.") from None
    except UnicodeDecodeError as error:
        raise CorpusError(f"{manifest}: byte {error.start} is not UTF-8. Save the manifest as UTF-8.") from None


def _json_rows(manifest: Path, file: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = strict_json.loads(line)
        except strict_json.TwiceError as error:
            raise CorpusError(f'{manifest}:{number}: "{error}" stands twice. Leave one.') from None
        except (ValueError, RecursionError) as error:
            what = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
            raise CorpusError(f"{manifest}:{number}: not a JSON object on one line ({what}).") from None
        if not isinstance(row, dict):
            raise CorpusError(f"{manifest}:{number}: not a JSON object but {type(row).__name__}.")
        yield number, row


def _table_rows(manifest: Path, file: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    delimiter = "\t" if manifest.suffix.lower() == ".tsv" else ","
    reader = csv.DictReader(file, delimiter=delimiter, strict=True)
    try:
        header = reader.fieldnames or []
        if twice := [column for column in header if header.count(column) > 1]:
            raise CorpusError(f'{manifest}:{reader.line_num}: two columns are named "{twice[0]}". Rename one.')
        for row in reader:
            # DictReader files surplus cells under None and fills lacking ones with None
            if None in row or None in row.values():
                raise CorpusError(f"{manifest}:{reader.line_num}: its cells do not match the header's {len(header)}.")
            yield reader.line_num, row
    except csv.Error as error:
        # reader.line_num lags behind: DictReader sets it after each row that it could read
        raise CorpusError(f"{manifest}:{reader.reader.line_num}: not a well-formed table ({error}).") from None


def _name(row: dict[str, Any], field: str, where: str) -> str:
    """An optional name: a string or a number; empty when there is none."""
    value = row.get(field)
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise CorpusError(f'{where}: "{field}" must be a string or a number, found {value!r}.')
    return "" if value is None else str(value)


def _string(row: dict[str, Any], name: str, where: str, option: str) -> str:
    if name not in row:
        fields = ", ".join(map(str, row)) or "none"
        raise CorpusError(f'{where}: no "{name}" field (fields: {fields}). Add it, or name it with {option}.')
    if not isinstance(row[name], str) or "\0" in row[name]:
        raise CorpusError(f'{where}: "{name}" must be a string, found {row[name]!r}.')
    return row[name]
