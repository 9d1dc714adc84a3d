"""The files of --corpus.exclude and --corpus.patch: which utterances are left out, and whose transcript is replaced.

    bad.txt        ids, one a line; a line that begins with # is a comment    --corpus.exclude
    bad.csv        a table (or .tsv) with a column id, whatever else          --corpus.exclude
    bad.jsonl      {"id": "s1-0007"}, whatever else stands there              --corpus.exclude
    fixes.jsonl    {"id": "s1-0008", "text": "so it goes"}                    --corpus.patch
                   {"id": "s1-0009", "drop": true}
                   {"id": "t4-0001", "text": "it went so", "split": "eval"}

A line without "split" is of the training split. "was" is the transcript that the utterance had when it was corrected:
where another one stands, the line is refused. A later line for the same utterance takes the place of an earlier one if
its "was" is the earlier one's text, so files that were made one after the other can be joined. "note" is for people.
The ids are those that the corpus' reader gives. Which utterances a line meets is in data.corrections.corpus.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data import strict_json
from data.audio.files import open_regular
from data.corpora.tables import decode, lines_of, open_table
from data.text.normalise import impossible_character
from data.text.utf8 import in_utf8
from trainer.errors import CorpusError

PATCH_KEYS = ("id", "text", "drop", "split", "was", "note")
"""What a line of --corpus.patch may say."""
_DIGEST_CHARACTERS = 12


@dataclass(frozen=True)
class Correction:
    """What becomes of one utterance."""

    id: str
    text: str | None
    """Its new transcript; None: it is left out."""
    where: str
    """file:line, for messages."""
    split: str = ""
    """Empty: the training split."""
    was: str | None = None
    """The transcript that the corpus must have; None: any."""
    source: str = ""
    """The file's name and the beginning of its SHA-256 digest."""


@dataclass(frozen=True)
class Corrections:
    """All that the files say, no utterance twice."""

    entries: tuple[Correction, ...]

    @property
    def sources(self) -> str:
        """The files' names, each with the beginning of its SHA-256 digest."""
        return join_sources(entry.source for entry in self.entries)


def join_sources(sources: Iterable[str]) -> str:
    """Each of them once."""
    return " and ".join(dict.fromkeys(sources))


def read_corrections(exclude: str, patch: str) -> Corrections | None:
    """What the files at these paths say, either empty if it was not given; None without any.

    CorpusError names file and line.
    """
    entries: dict[tuple[str, str], Correction] = {}
    for option, path in (("exclude", exclude), ("patch", patch)):
        if not path:
            continue
        content = _read(path, option)
        source = f"{in_utf8(Path(path).name)} (sha256 {_digest(content)})"
        for entry in _entries(path, decode(content, Path(path), "the file"), is_patch=option == "patch"):
            other = entries.get((entry.split, entry.id))
            entry = replace(entry, source=source)
            if other is not None and other.text is not None and entry.was == other.text:
                entry = replace(entry, was=other.was)  # a correction of the correction
            elif other is not None:
                raise CorpusError(f"{entry.where}: id {entry.id!r} stands already at {other.where}. Leave one of them.")
            entries[entry.split, entry.id] = entry
    return Corrections(tuple(entries.values())) if entries else None


def _read(path: str, option: str) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read()
    except OSError as error:
        raise CorpusError(
            f"{path}: {error.strerror or error}. --corpus.{option} names a file of corrections."
        ) from None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGEST_CHARACTERS]


def _entries(path: str, text: str, *, is_patch: bool) -> Iterator[Correction]:
    suffix = Path(path).suffix.lower()
    is_json = is_patch or suffix in (".jsonl", ".json")
    is_empty = True
    if not is_patch and suffix in (".csv", ".tsv") and (table := _table_of_ids(Path(path))) is not None:
        for correction in table:
            is_empty = False
            yield correction
        text = ""
    for number, line in lines_of(text):
        where = f"{path}:{number}"
        if line.lstrip().startswith("#"):
            continue
        is_empty = False
        try:
            if not is_json:
                yield Correction(_id(line.strip()), None, where)
                continue
            row = _row(line)
            yield _patch(row, where) if is_patch else Correction(_id(row.get("id")), None, where, _split(row))
        except CorpusError as error:
            raise CorpusError(f"{where}: {error}") from None
    if is_empty:
        raise CorpusError(f"{path}: names no utterance. Leave the option out where nothing is to be corrected.")


def _table_of_ids(path: Path) -> Iterator[Correction] | None:
    """The rows of a table with a column id; None where its first line is no such header: then its lines are ids."""
    table = open_table(path, lambda header: "id" in header)
    if table.header is None or "id" not in table.header[1]:
        return None

    def rows() -> Iterator[Correction]:
        for number, row in table.rows:
            if isinstance(row, CorpusError):
                raise row
            where = f"{path}:{number}"
            try:
                yield Correction(_id(row.get("id")), None, where, _split(row))
            except CorpusError as error:
                raise CorpusError(f"{where}: {error}") from None

    return rows()


def _row(line: str) -> dict[str, Any]:
    try:
        row = strict_json.loads(line)
    except strict_json.TwiceError as error:
        raise CorpusError(f'"{error}" stands twice. Leave one.') from None
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise CorpusError('not a JSON object on one line. Write {"id": "...", "text": "..."}.')
    return row


def _patch(row: dict[str, Any], where: str) -> Correction:
    if unknown := [key for key in row if key not in PATCH_KEYS]:
        raise CorpusError(f'"{unknown[0]}" is not known. A line may say {", ".join(PATCH_KEYS)}.')
    id, split = _id(row.get("id")), _split(row)
    if not isinstance(drop := row.get("drop", False), bool):
        raise CorpusError(f'"drop" must be true or false, found {drop!r}.')
    if drop and "text" in row:
        raise CorpusError('both "drop" and "text": is the utterance left out or corrected? Take one of them out.')
    if not drop and "text" not in row:
        raise CorpusError(
            f'utterance {id}: no "text". Give the transcript, or "drop": true to leave the utterance out.'
        )
    for key in ("text", "was"):
        if not isinstance(row.get(key, ""), str):
            raise CorpusError(f'utterance {id}: "{key}" must be a string, found {row[key]!r}.')
    if drop:
        return Correction(id, None, where, split, row.get("was"))
    text: str = row["text"]
    if not text.strip():
        raise CorpusError(f'utterance {id}: its text is empty. "drop": true leaves the utterance out.')
    if character := impossible_character(text):
        raise CorpusError(f"utterance {id}: its text holds {character}, a character that no text has. Take it out.")
    return Correction(id, text, where, split, row.get("was"))


def _id(value: Any) -> str:
    """As a manifest has it: a string or a number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        raise CorpusError(f'"id" must be a string or a number, found {value!r}.' if value is not None else 'no "id".')
    return str(value)


def _split(row: dict[str, Any]) -> str:
    split = row.get("split", "")
    if not isinstance(split, str):
        raise CorpusError(f'"split" must be a string, found {split!r}.')
    return split
