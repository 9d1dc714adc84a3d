"""Where the file lies that a row of a manifest names."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path
from urllib.parse import unquote

from trainer.errors import CorpusError


def locate(folder: Path, path: str, *, also: str = "") -> Path:
    """The file that a row names: below `folder`, absolute, or written as another system or a browser writes it.

    What is there under the plain name comes first. Others are tried for `~/`, $NAME of the environment, backslashes,
    %20 and file:, blanks at the ends, characters composed or decomposed, and for the folder `also`. CorpusError for
    what cannot be a file here.
    """
    if control := re.search(r"[\0-\x1f]", path):
        raise CorpusError(
            f"the audio's path {path!r} holds U+{ord(control[0]):04X}: a single backslash? Write / or \\\\."
        )
    if path.rstrip().endswith("|"):
        raise CorpusError(f"the audio's path {path!r} is a command, as in Kaldi's wav.scp: run it, and name its file.")
    if scheme := re.match(r"([a-zA-Z][a-zA-Z0-9+.-]+)://", path):
        if scheme[1].lower() != "file":
            raise CorpusError(f"the audio's path {path} is an address: fetch the file, and give the path to it.")
        return Path("/" + unquote(path.partition("://")[2].partition("/")[2]))
    if len(candidates := _candidates(folder, path, also)) == 1:
        return candidates[0]  # reading a manifest asks the disk for nothing
    usual = folder / also / path  # of what is nowhere
    return next((candidate for candidate in candidates if os.path.exists(candidate)), usual)


def is_plain(path: str) -> bool:
    """Whether a path is looked for in one place only, but for the folder `also`."""
    return len(_candidates(Path(), path, "")) == 1


def _candidates(folder: Path, path: str, also: str) -> list[Path]:
    written = [path]
    if path.startswith("~"):
        written.append(os.path.expanduser(path))
    if "$" in path:
        written.append(os.path.expandvars(path))
    if "\\" in path:
        written.append(path.replace("\\", "/"))
    if "%" in path:
        written.append(unquote(path))
    if path.lower().startswith("file:/"):
        written.append(unquote(path[len("file:") :]))
    if path != path.strip() != "":
        written.append(path.strip())
    if also:
        written.append(f"{also}/{path}")
    if not path.isascii():  # macOS decomposes names, and tables are composed
        other = (unicodedata.normalize(form, name) for form in ("NFC", "NFD") for name in written)
        written[1:1] = list(other)
    return [folder / name for name in dict.fromkeys(written)]
