"""What may be meant by a path at which there is no file: said in messages, never opened in its place."""

from __future__ import annotations

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
    names, stems, folders = _listed(folder, os.stat(folder).st_mtime_ns)
    key = _folded(name)
    if found := names.get(key) or stems.get(key) or stems.get(os.path.splitext(key)[0]):
        return found
    for below in folders:
        for candidate in (name, *(name + ending for ending in _ENDINGS)):
            if os.path.isfile(os.path.join(folder, below, candidate)):
                return f"{below}/{candidate}"
    return ""


@functools.lru_cache(maxsize=8)
def _listed(folder: str, mtime_ns: int) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Files of a folder by their folded names, by those without an ending, and its first folders."""
    names, stems, folders = dict[str, str](), dict[str, str](), list[str]()
    for entry in os.scandir(folder):
        if entry.is_dir():
            folders.append(entry.name)
            continue
        stem, ending = os.path.splitext(_folded(entry.name))
        names[stem + ending] = entry.name
        if ending in _ENDINGS:
            stems[stem] = entry.name
    return names, stems, sorted(folders)[:_MOST_FOLDERS]


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
