"""The cells of one line of a table: taken apart, and written. Commas and semicolons know quotes (RFC 4180)."""

from __future__ import annotations

import re

from trainer.errors import CorpusError

_QUOTED_CELL = re.compile(r'"((?:[^"]|"")*)"(?!")')


class CellError(ValueError):
    """What is wrong with a line's quotes."""


def split_cells(line: str, delimiter: str, *, is_quoted: bool, skips_blanks: bool = False) -> list[str]:
    """The cells of one line; `skips_blanks`: what stands between a delimiter and its cell. CellError where its quotes
    cannot be."""
    if not is_quoted or '"' not in line:
        cells = line.split(delimiter)
        return [cell.lstrip(" ") for cell in cells] if skips_blanks else cells
    return [cell for cell, _, _ in cells_of(line, delimiter, is_quoted=is_quoted, skips_blanks=skips_blanks)]


def as_cell(value: str, delimiter: str, *, is_quoted: bool) -> str:
    """`value` as a cell, in quotes where it needs them; CorpusError where no cell can hold it."""
    if re.search(r"[\r\n]", value):
        raise CorpusError(f"{value!r} has a line break, and a row of this file is one line. Write a space there.")
    if is_quoted and (delimiter in value or '"' in value or value != value.strip()):
        return '"' + value.replace('"', '""') + '"'
    if delimiter in value:
        raise CorpusError(f"{value!r} has a {delimiter!r}, which ends a cell of this file. Take it out.")
    return value


def cells_of(line: str, delimiter: str, *, is_quoted: bool, skips_blanks: bool = False) -> list[tuple[str, int, int]]:
    """(Value, where it begins in the line, where it ends) of each cell.

    A cell in quotes may hold delimiters, and a quote as two. Quotes inside a cell that does not begin with one are
    text, and so are those of a cell such as `"what" a day`, if no delimiter stands between them.
    """
    cells, num_odd, at = list[tuple[str, int, int]](), 0, 0
    while True:
        if skips_blanks:
            at += len(line[at:]) - len(line[at:].lstrip(" "))
        end = line.find(delimiter, at)
        end = len(line) if end < 0 else end
        quoted = _QUOTED_CELL.match(line, at) if is_quoted else None
        if is_quoted and line[at : at + 1] == '"' and quoted is None:
            raise CellError(
                f"a quote opens its cell {len(cells) + 1} and does not close on this line. A row is one line: double "
                "a quote that is text, and take line breaks out of cells."
            )
        rest = re.compile(rf" *(?={re.escape(delimiter)}|\Z)").match(line, quoted.end()) if quoted else None
        if quoted and rest:
            end = rest.end()
            cells.append((quoted[1].replace('""', '"'), at, end))
        elif quoted and line.count('"', at, end) % 2:
            raise CellError(
                f"its cell {len(cells) + 1} goes on behind a closing quote: where does it end? Double each quote that "
                "is text, and put the cell in quotes."
            )
        else:
            cells.append((line[at:end], at, end))
            num_odd += line.count('"', at, end) % 2
        if end >= len(line):
            break
        at = end + 1
    if is_quoted and num_odd > 1:
        raise CellError(
            "a quote opens inside one cell and closes inside another. Put the cell that holds both in quotes, and "
            "double each quote that is text."
        )
    return cells
