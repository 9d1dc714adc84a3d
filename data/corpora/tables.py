"""The rows of a manifest file, each with the line it begins on: JSON lines, a JSON array, CSV or TSV with a header.

    text, encoding   UTF-8, or UTF-16 by its byte order mark or its zero bytes
    cells            comma, semicolon, tab or bar, by the header; with the first two the quotes of RFC 4180
    a row            one line; a quote that does not close on its line is an error, and never swallows the next row

What the columns mean is not here: see data.corpora.columns.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data import strict_json
from data.audio.files import open_regular
from data.corpora.cells import CellError, as_cell, cells_of, split_cells
from data.corpora.foreign import NUM_BYTES, foreign_bytes, foreign_folder, foreign_json, foreign_name
from trainer.errors import CorpusError

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv")
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_QUOTED = ",;"
"""Delimiters of formats that know quotes. TSV and the |-separated lists of speech corpora know none."""
_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF32_LE: "utf-32-le", codecs.BOM_UTF32_BE: "utf-32-be",
          codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}  # fmt: skip
"""UTF-32 first: its little-endian mark begins with that of UTF-16."""
_UNSEEN = "\ufeff\u200b\u200e\u200f\u2060"
"""Invisible characters that editors and spreadsheets leave around a column's name."""
_LINE = re.compile(r"([^\r\n]*)(?:\r\n|\r|\n|\Z)")  # str.splitlines would also split at U+2028 and U+0085
_JSON_BLANKS = " \t\r\n"

Row = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """A manifest, opened."""

    rows: Iterator[tuple[int, Row | CorpusError]]
    """(Line from 1, the row or what is wrong with it); after an error the next row follows where there is one."""
    header: tuple[int, list[str]] | None = None
    """(Line, columns) of a table; None for JSON, whose rows name their own, and where there is no line at all."""
    notes: list[str] = field(default_factory=list)
    """How it was read where that is not what its name says."""
    with_value: Callable[[str, str, str], str] | None = None
    """(A line, a column, a value) -> the line with that value there, all else as it stands; CorpusError where a line
    cannot hold it. None: rows are not lines."""


def open_table(manifest: Path, has_columns: Callable[[Sequence[str]], bool]) -> Table:
    """The rows of `manifest`; CorpusError where the file as a whole cannot be read.

    `has_columns` says of a header's cells whether they name what is needed; it decides between delimiters.
    """
    if manifest.is_dir():
        raise CorpusError(f"{manifest}: Is a directory. {foreign_folder(manifest, SUFFIXES)}")
    suffix = manifest.suffix.lower()
    if suffix not in SUFFIXES:
        raise CorpusError(f"{manifest}: {_what_it_is(manifest)}a manifest ends in .jsonl, .json, .csv or .tsv.")
    text = read_text(manifest)
    if suffix.startswith(".json"):
        is_array = text.lstrip(_JSON_BLANKS).startswith("[")
        return (
            Table(_array_rows(manifest, text)) if is_array else Table(_json_rows(manifest, text), with_value=_with_json)
        )
    return _open_cells(manifest, text, has_columns)


def read_text(manifest: Path) -> str:
    """The file's text without a byte order mark; CorpusError names file, line and byte of what is no text."""
    try:
        with open_regular(manifest) as file:
            content = file.read()
    except OSError as error:
        reason = error.strerror or error
        several = " A split is one file: join several into one." if re.search(r"[,*?{]", manifest.name) else ""
        raise CorpusError(
            f"{manifest}: {reason}. --corpus.train and --corpus.eval name the manifests.{several}"
        ) from None
    if foreign := foreign_bytes(content[:NUM_BYTES]):
        raise CorpusError(f"{manifest}: {foreign}")
    return decode(content, manifest, "the manifest")


def _what_it_is(manifest: Path) -> str:
    """What a file is whose name is no manifest's, as the beginning of a sentence or two."""
    try:
        with open_regular(manifest) as file:
            beginning = file.read(NUM_BYTES)
    except OSError as error:
        return f"{error.strerror or error}; "
    if foreign := foreign_bytes(beginning):
        return f"{foreign} After that: "
    if named := foreign_name(manifest):
        return f"{named}; "
    return "it looks like JSON, so name it .jsonl; " if beginning.lstrip().startswith((b"{", b"[")) else ""


def decode(content: bytes, path: Path, name: str) -> str:
    """The text of a file that was read; CorpusError, which calls the file `name`, over what is no text."""
    encoding, mark = encoding_of(content)
    try:
        return content[mark:].decode(encoding)
    except UnicodeDecodeError as error:
        before = content[mark : mark + error.start].decode(encoding, "replace")
        line = 1 + _num_line_ends(before, 0, len(before))
        is_not = encoding.upper()[:6].rstrip("-")
        raise CorpusError(f"{path}:{line}: byte {mark + error.start} is not {is_not}. Save {name} as UTF-8.") from None


def encoding_of(content: bytes) -> tuple[str, int]:
    """(Codec, bytes of its mark). The first character of a manifest is ASCII: in UTF-16 it has a zero byte."""
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            return encoding, len(mark)
    if len(content) > 1 and (content[0] == 0) != (content[1] == 0):
        return ("utf-16-le" if content[1] == 0 else "utf-16-be"), 0
    return "utf-8", 0


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """(Number from 1, text) of each line that is not blank; without the marks inside of files that were joined."""
    for number, match in enumerate(_LINE.finditer(text), 1):
        if (line := match[1].lstrip("\ufeff")).strip():
            yield number, line


# JSON


def _json_rows(manifest: Path, text: str) -> Iterator[tuple[int, Row | CorpusError]]:
    for number, line in lines_of(text):
        try:
            yield number, _object(strict_json.loads(line), f"{manifest}:{number}")
        except CorpusError as error:
            yield number, error
        except (ValueError, RecursionError) as error:
            yield number, _json_error(error, f"{manifest}:{number}", "not a JSON object on one line", line)


def _array_rows(manifest: Path, text: str) -> Iterator[tuple[int, Row | CorpusError]]:
    """The objects of one array, which may span lines; behind malformed JSON there is no next row."""
    at, number, counted = text.index("[") + 1, 1, 0
    while True:
        at = _skip_blanks(text, at)
        number, counted = number + _num_line_ends(text, counted, at), at
        if text[at : at + 1] == "]" and text[:at].rstrip(_JSON_BLANKS).endswith("["):
            break  # an empty array
        where = f"{manifest}:{number}"
        try:
            value, at = strict_json.DECODER.raw_decode(text, at)
            yield number, _object(value, where)
        except CorpusError as error:
            yield number, error
        except (ValueError, RecursionError) as error:
            yield number, _json_error(error, where, "not a JSON object in the file's array")
            return
        at = _skip_blanks(text, at)
        if text[at : at + 1] != ",":
            break
        at += 1
    if text[at : at + 1] != "]" or text[at + 1 :].strip(_JSON_BLANKS):
        number += _num_line_ends(text, counted, at)
        yield (
            number,
            CorpusError(f"{manifest}:{number}: the file's array goes on without a comma, or does not end here."),
        )


def _with_json(line: str, column: str, value: str) -> str:
    at = _skip_blanks(line, line.index("{") + 1)
    while True:
        key, at = strict_json.DECODER.raw_decode(line, at)
        begin = _skip_blanks(line, _skip_blanks(line, at) + 1)  # behind the colon
        _, end = strict_json.DECODER.raw_decode(line, begin)
        if key == column:
            return line[:begin] + json.dumps(value, ensure_ascii=line.isascii()) + line[end:]
        at = _skip_blanks(line, _skip_blanks(line, end) + 1)  # behind the comma


def _skip_blanks(text: str, at: int) -> int:
    while text[at : at + 1] and text[at] in _JSON_BLANKS:
        at += 1
    return at


def _num_line_ends(text: str, begin: int, end: int) -> int:
    return len(re.findall(r"\r\n|\r|\n", text[begin:end]))


def _object(value: Any, where: str) -> Row:
    if isinstance(value, dict):
        return value
    raise CorpusError(f"{where}: not a JSON object but {type(value).__name__}.")


def _json_error(error: Exception, where: str, what: str, line: str = "") -> CorpusError:
    if isinstance(error, strict_json.TwiceError):
        return CorpusError(f'{where}: "{error}" stands twice. Leave one.')
    reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
    return CorpusError(f"{where}: {what} ({reason}).{foreign_json(line)}")


# Cells


def _open_cells(manifest: Path, text: str, has_columns: Callable[[Sequence[str]], bool]) -> Table:
    lines = lines_of(text)
    number, header = next(lines, (1, ""))
    usual = "\t" if manifest.suffix.lower() == ".tsv" else ","
    told = re.fullmatch(r"sep=(.)", header)  # what spreadsheets write above the header
    if told:
        number, header = next(lines, (2, ""))
    delimiter = told[1] if told and told[1] in DELIMITERS else _delimiter(header, usual, has_columns)
    is_quoted = delimiter in _QUOTED or re.fullmatch(rf'"[^"]*"({re.escape(delimiter)}"[^"]*")*', header) is not None
    try:
        columns = split_cells(header, delimiter, is_quoted=is_quoted)
    except CellError as error:
        raise CorpusError(f"{manifest}:{number}: {error}") from None
    skips_blanks = len(columns) > 1 and all(column.startswith(" ") for column in columns[1:])
    columns = [_bare(column) for column in columns]
    if twice := [column for column in columns if column and columns.count(column) > 1]:
        raise CorpusError(f'{manifest}:{number}: two columns are named "{twice[0]}". Rename one.')
    note = f"{manifest.name}: its cells are separated by {DELIMITERS[delimiter]}"

    def rows() -> Iterator[tuple[int, Row | CorpusError]]:
        for at, line in lines:
            try:
                cells = split_cells(line, delimiter, is_quoted=is_quoted, skips_blanks=skips_blanks)
                if any(cell.strip() for cell in cells):  # spreadsheets write rows of delimiters alone
                    yield at, _row(cells, columns)
            except CellError as error:
                yield at, CorpusError(f"{manifest}:{at}: {error}")

    def with_value(line: str, column: str, value: str) -> str:
        cells = cells_of(line, delimiter, is_quoted=is_quoted, skips_blanks=skips_blanks)
        _, begin, end = cells[columns.index(column)]
        return line[:begin] + as_cell(value, delimiter, is_quoted=is_quoted) + line[end:]

    notes = [note] if delimiter != usual else []
    return Table(rows(), (number, columns) if header else None, notes, with_value)


def _delimiter(header: str, usual: str, has_columns: Callable[[Sequence[str]], bool]) -> str:
    """The one under which the header names what is needed, `usual` first; else the one that gives most cells."""
    cells = {}
    for delimiter in sorted(DELIMITERS, key=lambda d: d != usual):
        bare = header.replace('"', "")  # an unbalanced quote is told of later
        cells[delimiter] = [_bare(cell) for cell in bare.split(delimiter)]
    fitting = [delimiter for delimiter in cells if has_columns(cells[delimiter])]
    return fitting[0] if fitting else max(cells, key=lambda d: len(cells[d]))


def _bare(column: str) -> str:
    return column.strip().strip(_UNSEEN).strip()


def _row(cells: list[str], columns: Sequence[str]) -> Row:
    """{column: cell}; surplus cells that are empty say nothing, as do columns without a name."""
    while len(cells) > len(columns) and not cells[-1].strip():
        cells = cells[:-1]
    if len(cells) != len(columns):
        raise CellError(f"its cells do not match the header's {len(columns)}: there are {len(cells)}.")
    if len(columns) > 1 and [_bare(cell) for cell in cells] == columns:
        raise CellError("the header stands here again: were files joined? Take this line out.")
    return {column: cell for column, cell in zip(columns, cells, strict=True) if column or cell}
