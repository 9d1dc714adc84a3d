"""Which channel of its file a row of a manifest is: the only speaker of one side of a telephone call, as a rule.

A, B; left, right; or a number, alone or as ch1. Tools count from 0 (lhotse, NeMo) or from 1 (STM, sox), so a number
above 0 is taken where the column's name, the rest of the column or the file leaves one reading.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data.audio.decode import FileAudio
from data.corpora.columns import FROM_0, FROM_1, known_as, known_name
from trainer.errors import AudioError, CorpusError

_SIDES = {"left": 0, "l": 0, "right": 1, "r": 1} | {letter: i for i, letter in enumerate("abcdefgh")}
_NUMBER = re.compile(r"(?:(?:ch|chan|channel)[ _-]*)?([0-9]{1,9})")


class Channels:
    """The channels that the rows of one manifest name."""

    def __init__(self, manifest: str, rows: Callable[[], Iterable[Mapping[str, Any]]], notes: list[str]) -> None:
        """`manifest` is its name for notes, `rows` gives all its rows once more; `notes` is added to."""
        self.manifest, self.rows, self.notes = manifest, rows, notes
        self._noted, self._taken = set[tuple[str, str]](), set[str]()
        self._numbers: dict[str, set[int]] = {}
        """Those that all rows say in a column."""

    def of(self, row: Mapping[str, Any], columns: Sequence[str], open_file: Callable[[], FileAudio]) -> int | None:
        """The channel of its file that the row is, 0 the first; None where it is the mean of all. CorpusError where it
        cannot be, or may be two.

        `open_file` is called, and the file's header read, where a row says another channel than the first.
        """
        said = _say_one(row, columns)
        if said is None:
            for column in columns:
                if known_name(row.get(column)) is not None:
                    shown = f"as {str(row[column])!r:.40}; channels are averaged"
                    self._note(column, "is not read where it is no channel of the file", shown)
            return None
        if said.column != "channel" and said.column not in self._taken:
            self._taken.add(said.column)
            self.notes.append(f'{self.manifest}: channel from "{said.column}"')
        if said.index == 0:
            return 0
        audio = open_file()
        try:
            num_channels = audio.header.num_channels
        except AudioError:  # this is told of the utterance, as of any other
            return None
        if num_channels == 1:
            self._note(said.column, "is not read of files that have one channel", f"as {audio.path.name}")
            return None
        index = self._index(said, num_channels)
        if index >= num_channels:
            raise CorpusError(
                f'"{said.column}" {row[said.column]!r:.40}: {audio.path.name} has {num_channels} channels. Mend it, or '
                "rename the column if it is something else."
            )
        return index

    def _index(self, said: Said, num_channels: int) -> int:
        if said.index is not None:
            return said.index
        if said.column not in self._numbers:
            every = (_say(said.column, row.get(said.column)) for row in self.rows())
            self._numbers[said.column] = {one.number for one in every if one is not None and one.number >= 0}
        numbers = self._numbers[said.column]
        if 0 in numbers:
            return said.number
        if max(numbers) >= num_channels:  # from 0 there would be none of this number
            return said.number - 1
        raise CorpusError(
            f'"{said.column}" {said.number} of {num_channels} channels: is the first one 0 or 1? Rename the column '
            '"channel_index" if it is 0, "channel_number" if it is 1; or write A, B, ...'
        )

    def _note(self, column: str, what: str, example: str) -> None:
        """Say `what` of a column once, with the first example."""
        if (column, what) not in self._noted:
            self._noted.add((column, what))
            self.notes.append(f'{self.manifest}: "{column}" {what}, {example}')


@dataclass(frozen=True)
class Said:
    """What a row says of its channel."""

    column: str
    index: int | None
    """0 is the first; None where that depends on where `number` counts from."""
    number: int = -1
    """As it was written; -1 where it was none."""


def _say_one(row: Mapping[str, Any], columns: Iterable[str]) -> Said | None:
    """What the row says in one of `columns`; None where it says nothing that is a channel. CorpusError where two
    columns differ."""
    every = [said for column in columns if (said := _say(column, row.get(column))) is not None]
    found = next((said for said in every if said.index is not None), every[0] if every else None)
    for said in every:
        assert found is not None
        if not _may_be_one(found, said):
            raise CorpusError(
                f'"{found.column}" and "{said.column}" say two different channels. Rename the one that is something '
                "else."
            )
    return found


def _may_be_one(found: Said, other: Said) -> bool:
    """Whether `other`, whose number may count from 0 or from 1, can be the channel that `found` is."""
    if other.index is not None:
        return other.index == found.index
    return other.number == found.number if found.index is None else other.number - found.index in (0, 1)


def _say(column: str, value: object) -> Said | None:
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    word = (known_name(value) or "").lower()  # "1.0" of a table with gaps is 1, "nan" nothing
    if word in _SIDES:
        return Said(column, _SIDES[word])
    matched = _NUMBER.fullmatch(word)
    if matched is None:
        return None
    number = int(matched[1])
    if number == 0 or known_as(FROM_0, [column]):
        return Said(column, number, number)
    return Said(column, number - 1 if known_as(FROM_1, [column]) else None, number)
