"""What a command makes of one recording: files below a folder, or a text on stdout."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from trainer.cli.streams import print_exactly
from trainer.errors import ConfigError, CorpusError


def refuse_existing(folder: Path | None, names: Iterable[Path], suffixes: Sequence[str], *, overwrite: bool) -> None:
    """ConfigError where a file that `deliver` would write is there already: somebody may have corrected it by hand.

    Nothing is refused where files are to be overwritten. `names` are below the folder, without their suffixes.
    """
    if folder is None or overwrite or not folder.exists():
        return
    there = [path for name in names for suffix in suffixes if os.path.lexists(path := path_of(folder, name, suffix))]
    if there:
        exist = f" and {len(there) - 1} more exist" if len(there) > 1 else " exists"
        raise ConfigError(
            f"{there[0]}{exist} already. Give another --out, --overwrite to replace what is there, or --resume to keep "
            "it and write the rest."
        )


def check_resume(folder: Path | None, *, resume: bool, overwrite: bool) -> None:
    """ConfigError where --resume stands without a folder, or beside --overwrite."""
    if resume and (folder is None or overwrite):
        raise ConfigError("--resume keeps the files that are in --out FOLDER: give that folder, and no --overwrite.")


def path_of(folder: Path, name: Path, suffix: str) -> Path:
    """The file of one text."""
    return folder / name.parent / (name.name + suffix)


def is_delivered(folder: Path, name: Path, suffixes: Sequence[str]) -> bool:
    """Whether all files of one recording are there."""
    return all(os.path.lexists(path_of(folder, name, suffix)) for suffix in suffixes)


def deliver(
    texts: Sequence[tuple[str, str]], folder: Path | None, name: Path, title: str, *, keep: bool = False
) -> None:
    """Write each of `texts`, (suffix, text), to FOLDER/NAME and its suffix; without a folder print the first one.

    A file is there as a whole or not at all, also when the program is stopped. With `keep`, one that is there stays.

    ConfigError where a file cannot be written. CorpusError, which begins with `title`, where stdout cannot show the
    text: then nothing of it is printed. JSON is printed in ASCII there.
    """
    if folder is None:
        (suffix, text), *_ = texts
        with tqdm.external_write_mode(file=sys.stdout):
            try:
                print_exactly(text)
            except UnicodeEncodeError as error:
                if suffix == ".json":
                    print_exactly(json.dumps(json.loads(text)) + "\n")
                    return
                raise CorpusError(
                    f"{title}: U+{ord(error.object[error.start]):04X} cannot be printed in {error.encoding}. Set "
                    "PYTHONIOENCODING=utf-8, or write files with --out FOLDER."
                ) from None
        return
    for suffix, text in texts:
        path = path_of(folder, name, suffix)
        if keep and os.path.lexists(path):
            continue
        path = path.resolve() if path.is_symlink() else path  # a link stays one
        part = path.with_name(f".{os.getpid()}{suffix}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                part.write_text(text, encoding="utf-8", errors="surrogateescape")  # names in CTM
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written ({error.strerror or error}). Give another --out.") from None
