"""Open what a user's list names: regular files only, since a FIFO would wait for ever and a device never ends.

Symbolic links, absolute paths and `..` are the user's own business. Errors are OSErrors with a readable `strerror`.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from data.audio.near_names import hint_at

_KINDS: list[tuple[Callable[[int], bool], str]] = [
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISSOCK, "a socket"),
]


def stat_regular(path: str | Path) -> os.stat_result:
    """os.stat of a regular file; OSError when it is anything else. Nothing is opened: that alone can hang."""
    try:
        found = os.stat(path)
    except ValueError as error:  # a NUL, or a lone surrogate
        reason = f"not a possible path ({str(error).splitlines()[0]}){_hint(path)}"
        raise OSError(errno.EINVAL, reason) from None
    except FileNotFoundError as error:
        raise FileNotFoundError(error.errno, f"{error.strerror}{_hint(path) or hint_at(path)}") from None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        kind = next((kind for is_kind, kind in _KINDS if is_kind(found.st_mode)), "of an unknown kind")
        raise OSError(errno.EINVAL, f"{kind}, not a file")
    return found


def files_below(folder: Path) -> list[Path]:
    """Everything below `folder` that is no folder, sorted; also what cannot be opened, such as a broken link.

    Links to folders are followed, and no folder is read twice. What macOS writes beside files on other disks and into
    archives (`._a.wav` for a.wav) is left out. OSError when a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    found, seen = list[Path](), set[str]()
    for here, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(here)  # links may lead in a circle
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort(key=lambda name: (os.path.islink(os.path.join(here, name)), name))  # a link to a sibling is last
        found += [path for path in (Path(here, name) for name in files) if not _is_apple_double(path)]
    return sorted(found)


def _is_apple_double(path: Path) -> bool:
    """Whether it holds nothing but what macOS knows of another file: of that name, and AppleDouble (RFC 1740)."""
    if not path.name.startswith("._"):
        return False
    try:
        with open_regular(path) as file:
            return file.read(4) == b"\0\5\x16\7"
    except OSError:
        return False


def _hint(path: str | Path) -> str:
    """What to try when a name that is not ASCII is not found in a locale that is not UTF-8."""
    encoding = sys.getfilesystemencoding()
    is_odd = not str(path).isascii() and encoding != "utf-8"
    return f" (names of files are {encoding} in this locale; PYTHONUTF8=1 makes them UTF-8)" if is_odd else ""


def open_regular(path: str | Path) -> BinaryIO:
    """A regular file, for reading. Its `name` is a number: no library can guess a format from it."""
    stat_regular(path)
    return open(os.open(path, os.O_RDONLY | os.O_CLOEXEC), "rb")
