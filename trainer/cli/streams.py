"""Standard streams that are closed, or that nobody reads any more."""

from __future__ import annotations

import contextlib
import io
import os
import sys


def fill_closed_streams() -> None:
    """Let /dev/null stand in for a closed stdin, stdout or stderr (`>&-`).

    Otherwise the next file that is opened, such as a checkpoint, takes the free number, and C libraries print into it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            assert opened == number, "streams are filled from 0 up"
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def escape_what_cannot_be_printed() -> None:
    """Let stdout escape characters that its encoding lacks (PYTHONIOENCODING=latin-1, a C locale), as stderr does.

    For what is said to a person. What another program may read goes through `print_exactly`.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def one_line(message: str) -> str:
    """`message` with unprintable characters escaped: line ends, terminal codes, surrogates in a file's name.

    >>> one_line("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)


def say(message: str) -> None:
    """A line on stderr, above progress bars."""
    loaded = sys.modules.get("tqdm")  # without it there are no bars; what begins a command must not need it
    if loaded is None:
        print(one_line(message), file=sys.stderr)
    else:
        loaded.tqdm.write(one_line(message), file=sys.stderr)


def print_exactly(text: str) -> None:
    """`text` to stdout, names of files as the bytes that they are; UnicodeEncodeError, and nothing is printed, when
    stdout's encoding lacks a character."""
    if not isinstance(sys.stdout, io.TextIOWrapper):  # a notebook's
        print(text, end="", flush=True)
        return
    content = text.encode(sys.stdout.encoding, "surrogateescape")
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def drop_unread_output() -> None:
    """Send what a broken pipe did not take to /dev/null. Otherwise Python's last flush changes the exit code to 120."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # a stream is None if it was closed from the start
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
