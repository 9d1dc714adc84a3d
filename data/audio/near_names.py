"""What may be meant by a path at which there is no file: said in messages, never opened in its place."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import unicodedata
from pathlib import Path

_MOST_FOLDERS = 20
_ENDINGS = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".sph", ".m4a")


def hint_at(path: str | Path) -> str:
    """What stands in the way of finding the file, in brackets behind a space; empty where nothing is seen."""
    text = str(path)
    if placeholder := re.search(r"\$\w+|\$?\{\w+\}", text):
        return f" ({placeholder[0]} stands there as it is: set $NAME in the environment, or write the folder)"
    if re.search(r"(^|/)[A-Za-z]:[\\/]", text):
        return " (a path of Windows: write where the file lies here, best relative to the manifest)"
    if os.path.islink(text):
        return f" (a link to {os.readlink(text)}, which is not there)"
    folder, name = os.path.split(text)
    folder = folder or "."
    try:
        if os.path.isdir(folder):
            near = _in_folder(folder, name)
        else:
            near = _from_here(text)
            if not near:
                return f" (there is no folder {_first_missing(folder)})"
    except (OSError, ValueError):
        return ""
    return f" (but there is {near})" if near else ""


def _in_folder(folder: str, name: str) -> str:
    """A file beside it with the same name but for case, composition, blanks or ending, or in a folder there."""
    by_name, by_stem = _listed(folder, os.stat(folder).st_mtime_ns)  # the disk is asked once, for any number of files
    key = _folded(name)
    return by_name.get(key) or by_stem.get(key) or by_stem.get(os.path.splitext(key)[0]) or ""


@functools.lru_cache(maxsize=8)
def _listed(folder: str, mtime_ns: int) -> tuple[dict[str, str], dict[str, str]]:
    """Files of a folder and of its first folders by their folded names, and audio by those without an ending."""
    by_name, by_stem, folders = dict[str, str](), dict[str, str](), list[str]()

    def add(entry: os.DirEntry[str], shown: str) -> None:
        key = _folded(entry.name)
        by_name.setdefault(key, shown)
        stem, ending = os.path.splitext(key)
        if ending in _ENDINGS:
            by_stem.setdefault(stem, shown)

    for entry in os.scandir(folder):
        if entry.is_dir():
            folders.append(entry.name)
        else:
            add(entry, entry.name)
    for below in sorted(folders)[:_MOST_FOLDERS]:
        with contextlib.suppress(OSError):
            for entry in os.scandir(os.path.join(folder, below)):
                add(entry, f"{below}/{entry.name}")
    return by_name, by_stem


def _from_here(path: str) -> str:
    """The end of the path, where a file lies there from the working folder: paths are relative to their manifest."""
    parts = Path(path).parts
    for first in range(1, len(parts) - 1):
        if os.path.isfile(os.path.join(*parts[first:])):
            return f"{os.path.join(*parts[first:])} from the working folder; paths are relative to the manifest"
    return ""


def _first_missing(folder: str) -> str:
    while (parent := os.path.dirname(folder)) and not os.path.isdir(parent):
        folder = parent
    return folder


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.strip()).casefold()
