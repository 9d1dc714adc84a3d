"""The folders and files of a TIMIT tree, in whatever case a copy has them."""

from __future__ import annotations

import re
from pathlib import Path

from trainer.errors import CorpusError

SOURCE = "TIMIT comes from the Linguistic Data Consortium, catalogue number LDC93S1."


def find_tree(root: Path) -> dict[str, Path]:
    """{"train": folder, "test": folder} at `root` or one folder below it; CorpusError when it is no TIMIT tree."""
    if not root.is_dir():
        raise CorpusError(f"{root}: no such folder. --corpus.root is the folder that holds TRAIN and TEST. {SOURCE}")
    for candidate in [root, *sorted(p for p in root.iterdir() if p.is_dir())]:
        folders = {p.name.lower(): p for p in candidate.iterdir() if p.is_dir()}
        if {"train", "test"} <= folders.keys() and subfolders(folders["train"], r"DR[1-8]"):
            return {"train": folders["train"], "test": folders["test"]}
    found = ", ".join(sorted(p.name for p in root.iterdir())[:6]) or "nothing"
    raise CorpusError(
        f"{root}: not a TIMIT tree: expected TRAIN and TEST with DR1 to DR8 in them, found {found}. {SOURCE}"
    )


def subfolders(folder: Path, pattern: str) -> list[Path]:
    """Folders whose name is `pattern`, in whatever case, in the order of their upper-case names."""
    matching = [p for p in folder.iterdir() if re.fullmatch(pattern, p.name.upper()) and p.is_dir()]
    return sorted(matching, key=lambda p: p.name.upper())


def sentences_of(speaker: Path) -> dict[str, dict[str, Path]]:
    """{"SA1": {"WAV": path, "TXT": path, ...}, ...} of a speaker's folder."""
    sentences: dict[str, dict[str, Path]] = {}
    for path in sorted(speaker.iterdir(), key=lambda p: p.name):
        if match := re.fullmatch(r"(S[AIX]\d+)\.(WAV|TXT|WRD|PHN)(\.WAV)?", path.name.upper()):
            # Some copies keep the SPHERE file SA1.WAV and add a RIFF copy, SA1.WAV.wav
            if match[3] and match[2] in sentences.get(match[1], {}):
                continue
            sentences.setdefault(match[1], {})[match[2]] = path
    return dict(sorted(sentences.items()))


def speakers_of(folder: Path) -> set[str]:
    """The speakers below TRAIN or TEST, in upper case."""
    return {path.name.upper() for region in subfolders(folder, r"DR[1-8]") for path in region.iterdir()}
