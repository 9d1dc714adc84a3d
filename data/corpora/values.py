"""What stands in one field of a manifest's row: a string, or a name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data.corpora.columns import name_of
from data.corpora.foreign import A_TABLE_BY_COLUMNS
from trainer.errors import CorpusError

MOST_SHOWN = 60
"""Characters of a value that a message cites."""


def name_in(row: Mapping[str, Any], field: str) -> str:
    """An optional name: a string or a number; empty when there is none."""
    value = row.get(field)
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise CorpusError(f'"{field}" must be a string or a number, found {_shown(value)}.')
    return name_of(value)


def string_in(row: Mapping[str, Any], name: str) -> str:
    """What stands under `name`; CorpusError where that is no string."""
    value = row[name]
    if not isinstance(value, str):
        raise CorpusError(f'"{name}" must be a string, found {_shown(value)}.{_remedy(value)}')
    if "\0" in value:
        raise CorpusError(f'"{name}" holds U+0000, which no text has: another encoding, or damage?')
    return value


def _remedy(value: object) -> str:
    if not isinstance(value, dict):
        return ""
    if value.keys() & {"path", "bytes", "array"}:
        return " It is the audio of `datasets`: write its path alone, or read the data set with the preset hub."
    return f" Is this {A_TABLE_BY_COLUMNS}?"


def _shown(value: object) -> str:
    """`value` for a message: an array of samples would fill the screen."""
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
