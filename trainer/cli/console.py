"""Lines and progress bars for the terminal: in 80 columns, in a pipe, in a notebook, with or without colour.

Bars and colours appear only on a terminal that can show them. Elsewhere there are plain lines. NO_COLOR
(https://no-color.org) switches colours off; TERM=dumb switches the bar off too. A reader that goes away does no harm.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Literal, TextIO, TypeVar, cast

from tqdm import tqdm

from trainer.cli.clock import Clock, Phase, describe

T = TypeVar("T")
Style = Literal["good", "bad", "faint"]
CODES: dict[Style, str] = {"good": "32", "bad": "33", "faint": "2"}
CODE = re.compile(r"\x1b\[\d+m")
"""What `paint` adds to a text; it takes no column on the screen."""
WIDTH, INDENT = 80, 13
"""Columns of a small terminal, and those before the texts of the first screen."""
HELD = "\x00"
"""A space at which no line is folded: the one between a number and its unit."""
UNIT = re.compile(r"(?<=\d) (?=(?:%|ms|s|min|h|Hz|kB|MB|GB|M|nats)(?!\w))")
BAR = "{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} {elapsed}<{remaining}{postfix}"


def folded(line: str, columns: int) -> str:
    """`line` folded between words, the later lines indented by 4. A number stays with its unit, and a path longer than
    a line is whole. Colours take no room.

    >>> folded("training took 12 s", 17)
    'training took\\n    12 s'
    """
    plain = UNIT.sub(HELD, CODE.sub("", line))
    wrapper = textwrap.TextWrapper(columns, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    plain = wrapper.fill(plain).replace(HELD, " ")
    codes = [(_ink(CODE.sub("", line[: code.start()])), code[0]) for code in CODE.finditer(line)]
    for ink, code in reversed(codes):  # each behind as many letters as before; from the end, so that places stay
        place = next((i for i in range(len(plain)) if _ink(plain[:i]) == ink), len(plain))
        plain = plain[:place] + code + plain[place:]
    return plain


def _ink(text: str) -> int:
    """Characters of `text` that are no white space."""
    return len("".join(text.split()))


def for_stdout(lines: Iterable[str]) -> str:
    """`lines` as a text to print: folded to a terminal, as they are for a file or a pipe."""
    if not sys.stdout.isatty():
        return "\n".join(lines)
    columns = shutil.get_terminal_size().columns
    return "\n".join(folded(line, columns) if len(line) > columns else line for line in lines)


class Unbreakable:
    """A text stream whose reader may go away. What cannot be written is then dropped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):  # a broken pipe, a vanished terminal; a closed file
            try:
                self._stream.write(text)
            except UnicodeEncodeError:  # a stream of another encoding, that does not escape by itself
                encoding = self._stream.encoding or "ascii"
                self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        return not self._stream.closed and self._stream.isatty()


class Console:
    """Writes lines and bars to a terminal, and lines alone to a pipe. Knows in which phase a run is."""

    def __init__(self, stream: TextIO | None = None, clock: Clock | None = None) -> None:
        self.clock = Clock() if clock is None else clock
        self.warned: list[str] = []
        """All warnings so far."""
        self.stream = cast(TextIO, Unbreakable(stream or sys.stderr))
        self.is_terminal = self.stream.isatty() and os.environ.get("TERM") != "dumb"
        self.has_colour = self.is_terminal and not os.environ.get("NO_COLOR")

    def say(self, line: str, *, wrap: bool = True) -> None:
        """Write one line above any bar. On a terminal a long line is folded between words, unless `wrap` is off."""
        columns = shutil.get_terminal_size().columns
        if wrap and self.is_terminal and len(CODE.sub("", line)) > columns:
            line = folded(line, columns)
        tqdm.write(line, file=self.stream)

    def phase(self, phase: Phase) -> AbstractContextManager[None]:
        """The time spent within this context counts for `phase` and for no other."""
        return self.clock.phase(phase)

    def tell_time(self, first_step: int = 0) -> None:
        """Say where the time of this process went, which began after `first_step`."""
        self.say(f"time{f' since step {first_step}' * bool(first_step)}: {describe(self.clock.seconds())}")

    def item(self, name: str, text: str) -> None:
        """Write a line of the first screen: what `name` is, folded to 80 columns or a narrower terminal's."""
        columns = min(WIDTH, shutil.get_terminal_size().columns) if self.is_terminal else WIDTH
        room = max(1, columns - INDENT)
        held = UNIT.sub(HELD, text)
        lines = textwrap.wrap(held, room, break_long_words=False, break_on_hyphens=False)
        first, *others = (line.replace(HELD, " ") for line in lines)
        self.say(f"  {self.paint(name.ljust(INDENT - 3), 'faint')} {first}", wrap=False)
        for line in others:
            self.say(" " * INDENT + line, wrap=False)

    def warn(self, line: str) -> None:
        self.warned.append(line)
        self.say(f"{self.paint('warning:', 'bad')} {line}")

    def release(self, told: Collection[str]) -> None:
        """Give warnings that were held back; see RankConsole."""

    def paint(self, text: str, style: Style) -> str:
        """`text` in colour, or as it is where there are no colours."""
        return f"\x1b[{CODES[style]}m{text}\x1b[0m" if self.has_colour else text

    def bar(self, total: int, initial: int = 0, desc: str = "", unit: str = "it", leave: bool = True) -> tqdm:
        """A bar that moves at most once a second; invisible unless the stream is a terminal."""
        return tqdm(total=total, initial=initial, desc=desc, unit=unit, leave=leave, file=self.stream, mininterval=1.0,
                    dynamic_ncols=True, bar_format=BAR, disable=not self.is_terminal)  # fmt: skip

    def progress(self, items: Iterable[T], total: int, desc: str = "", unit: str = "it") -> Iterator[T]:
        """Yields `items` and shows a bar on a terminal, which goes away when they end."""
        with self.bar(total, desc=desc, unit=unit, leave=False) as bar:
            for item in items:
                yield item
                bar.update()


class RankConsole(Console):
    """The console of a process beside the first one: it says nothing but warnings, and those with its name.

    Warnings are held back at first, since all processes find the same in the same corpus. `release` gives the others.
    """

    def __init__(self, name: str, clock: Clock | None = None) -> None:
        """`name` is what the process is called, such as `rank 3 on gpu-node-1`."""
        super().__init__(io.StringIO(), clock)
        self.name, self._holds_back = name, True

    def say(self, line: str, *, wrap: bool = True) -> None:
        pass

    def warn(self, line: str) -> None:
        self.warned.append(line)
        if not self._holds_back:
            tqdm.write(f"warning: {self.name}: {line}", file=cast(TextIO, Unbreakable(sys.stderr)))

    def release(self, told: Collection[str]) -> None:
        """Give the warnings that were held back, except those that the first process has `told`; then hold none."""
        held, self.warned, self._holds_back = self.warned, [], False
        for line in held:
            if line in told:
                self.warned.append(line)
            else:
                self.warn(line)
