"""Folders that are either whole or absent: written under another name, fsynced, sealed by hashes, renamed last.

    FOLDER/manifest.json   {"files": {NAME: {"size": bytes, "sha256": hex}}}
    .FOLDER.part           a folder that is being written or removed; it can be deleted
    .FOLDER.old            the previous FOLDER, until the new one has its name

safetensors, torch's zip files and JSON load a file with a flipped bit without an error. The manifest finds it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from data import strict_json
from data.machine.filesystems import flush_to_disk
from trainer.errors import DamagedError

MANIFEST = "manifest.json"


def disk_operation(operation: Callable[..., Any], *args: Any) -> Any:
    """Run one write, fsync, rename or removal of a save. Tests replace this function to count, fail or kill at each."""
    return operation(*args)


def write_sealed(folder: Path, files: Mapping[str, Callable[[Path], Any]]) -> None:
    """Make `folder` hold `files` (name -> function that writes a path) and their manifest, or leave it as it was.

    A function that knows size and hash of its file already returns its entry of the manifest, all others return None.
    Whatever happens in between, `folder` or its `.old` sibling is whole; `recover` puts it back. OSError when the disk
    refuses; the half-written folder is then removed.
    """
    try:
        temporary = begin(folder)
        seal(folder, write_files(temporary, files))
    except BaseException:
        abandon(folder)
        raise


def begin(folder: Path, *, makes: bool = True) -> Path:
    """Make the folder that `seal` will give the name of `folder`, empty. Where another process `makes` it: its path."""
    temporary = _sibling(folder, "part")
    if makes:
        disk_operation(_remove, temporary)
        disk_operation(os.makedirs, temporary)
    return temporary


def write_files(temporary: Path, files: Mapping[str, Callable[[Path], Any]]) -> dict[str, dict[str, Any]]:
    """Write `files` as in `write_sealed`; returns their entries of the manifest. They are on the disk then."""
    entries: dict[str, Callable[[], dict[str, Any]]] = {}
    for name, write in files.items():
        path = temporary / name
        entry = disk_operation(write, path)
        entries[name] = partial(dict, entry) if isinstance(entry, dict) else _begin_to_describe(path)
        disk_operation(_fsync, path)
    return {name: entry() for name, entry in entries.items()}


def seal(folder: Path, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the manifest with `entries`, and let the folder that was begun take the place of `folder`."""
    temporary, old = _sibling(folder, "part"), _sibling(folder, "old")
    disk_operation(_write_bytes, temporary / MANIFEST, json.dumps({"files": entries}, indent=1).encode())
    disk_operation(_fsync, temporary / MANIFEST)
    disk_operation(_fsync, temporary)
    if folder.exists():
        disk_operation(_remove, old)
        disk_operation(os.rename, folder, old)
    disk_operation(os.rename, temporary, folder)
    disk_operation(_fsync, folder.parent)
    disk_operation(_remove, old)


def abandon(folder: Path) -> None:
    """Remove what was begun for `folder`, and let `folder` be what it was."""
    _remove(_sibling(folder, "part"))
    if not folder.exists():
        with contextlib.suppress(OSError):  # if this fails, `recover` does it
            _sibling(folder, "old").rename(folder)


def _begin_to_describe(path: Path) -> Callable[[], dict[str, Any]]:
    """Start hashing a file that was written, and return a function that waits for its entry of the manifest.

    The disk works on it meanwhile, and on the next file. What is read is what a later reader would see, from the page
    cache if it is still there: it costs a second for 2 GB, and no second copy in memory, as hashing the bytes on
    their way out of safetensors would.
    """
    entry: Future[dict[str, Any]] = Future()

    def describe() -> None:
        try:
            entry.set_result({"size": path.stat().st_size, "sha256": sha256(path)})
        except BaseException as error:  # raised where it is waited for
            entry.set_exception(error)

    threading.Thread(target=describe, name=f"hash-{path.name}").start()
    return entry.result


def remove(folder: Path) -> None:
    """Remove a sealed folder. It is renamed first, so that a half-removed folder is never taken for a damaged one."""
    part = _sibling(folder, "part")
    disk_operation(_remove, part)
    disk_operation(os.rename, folder, part)
    disk_operation(_remove, part)


def recover(parent: Path) -> None:
    """Repair `parent` after a process died in the middle of a save: remove half folders, rename moved ones back."""
    for part in parent.glob(".*.part"):
        _remove(part)
    for old in parent.glob(".*.old"):
        folder = parent / old.name.removeprefix(".").removesuffix(".old")
        if folder.exists():
            _remove(old)
        else:
            old.rename(folder)


def verify(folder: Path, digest_of: Callable[[Path], str] | None = None) -> None:
    """DamagedError unless `folder` holds exactly the files of its manifest, with the sizes and SHA-256 sums in it.

    `digest_of` reads a file and returns its sum, where a caller wants more from the reading than that.
    """
    expected = read_manifest(folder)
    for name, entry in expected.items():
        path, size, digest = folder / name, entry["size"], entry["sha256"]
        if path.name != name or not os.path.isfile(path):  # Path.is_file raises an error for a name that is too long
            raise DamagedError(f"{path}: missing")
        try:
            found = path.stat().st_size
            same = found == size and (digest_of or sha256)(path) == digest
        except OSError as error:
            raise DamagedError(f"{path}: not readable ({error.strerror or error})") from None
        if found != size:
            raise DamagedError(f"{path}: {found} bytes, {size} were written")
        if not same:
            raise DamagedError(f"{path}: its content is not what was written (SHA-256 differs)")
    if unlisted := {p.name for p in folder.iterdir() if not p.name.startswith(".")} - {*expected, MANIFEST}:
        raise DamagedError(f"{folder / min(unlisted)}: not named by the {MANIFEST}")


def read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """Name -> {"size": bytes, "sha256": hex} of each file; DamagedError when there is no readable manifest."""
    try:
        files = strict_json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        entries = {
            str(name): {"size": int(entry["size"]), "sha256": str(entry["sha256"])} for name, entry in files.items()
        }
    except FileNotFoundError:
        raise DamagedError(f"{folder}: it has no {MANIFEST}: not written to its end") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DamagedError(f"{folder / MANIFEST}: not readable ({type(error).__name__})") from None
    if not entries:
        raise DamagedError(f"{folder / MANIFEST}: names no file")
    return entries


def sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Replace a file by rename: a reader, or a crash, sees the old one or the new one.

    In UTF-8; a lone surrogate, of a file's name that is none, stands there as `\\udcff`.
    """
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """As `write_text`, for bytes. OSError when the disk refuses; the file then is as it was."""
    temporary = _sibling(path, "part")
    try:
        disk_operation(_write_bytes, temporary, content)
        disk_operation(_fsync, temporary)
        disk_operation(os.replace, temporary, path)
        disk_operation(_fsync, path.parent)  # or the new name may be lost with the power
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def sync(folder: Path) -> None:
    """fsync the files in `folder`, which others wrote, and the folder itself."""
    for path in [*folder.iterdir(), folder]:
        disk_operation(_fsync, path)


def _sibling(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}.{suffix}")


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _fsync(path: Path) -> None:
    flush_to_disk(path)
