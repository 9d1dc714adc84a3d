"""The folders and files of a TIMIT tree, in whatever case a copy has them."""

from __future__ import annotations

import re
from pathlib import Path

from trainer.errors import CorpusError

SOURCE = "TIMIT comes from the Linguistic Data Consortium, catalogue number LDC93S1."


_MOST_FOLDERS = 200
"""How many folders of a level are looked into: a disk's root may have any number."""


def find_tree(root: Path) -> dict[str, Path]:
    """{"train": folder, "test": folder} at `root` or up to two folders below it; CorpusError when it is no TIMIT tree.

    The LDC's archive, Kaggle's copy and an unpacked zip each put another folder around it.
    """
    if root.is_file():
        raise CorpusError(f"{root}: is a file. --corpus.root is the folder that holds TRAIN and TEST. {SOURCE}")
    if not root.is_dir():
        raise CorpusError(f"{root}: no such folder. --corpus.root is the folder that holds TRAIN and TEST. {SOURCE}")
    level = [root]
    for _ in range(3):
        trees = list(filter(None, map(_tree_at, level)))
        if len(trees) > 1:
            listed = " and ".join(str(tree["train"].parent) for tree in trees[:2])
            raise CorpusError(f"{root}: holds several TIMIT trees, as {listed}. Name one with --corpus.root.")
        if trees:
            return trees[0]
        level = [below for folder in level for below in _folders(folder)][:_MOST_FOLDERS]
    found = ", ".join(sorted(p.name for p in root.iterdir())[:6]) or "nothing"
    inside = bool(subfolders(root, r"DR[1-8]"))
    hint = f" It is a part of one: --corpus.root {root.resolve().parent}" if inside else ""
    raise CorpusError(
        f"{root}: not a TIMIT tree: expected TRAIN and TEST with DR1 to DR8 in them, found {found}.{hint} {SOURCE}"
    )


def _tree_at(folder: Path) -> dict[str, Path] | None:
    folders = {p.name.lower(): p for p in _folders(folder)}
    if {"train", "test"} <= folders.keys() and subfolders(folders["train"], r"DR[1-8]"):
        return {"train": folders["train"], "test": folders["test"]}
    return None


def _folders(folder: Path) -> list[Path]:
    try:
        # __MACOSX, in unpacked archives, has the folders of the tree once more
        return sorted(p for p in folder.iterdir() if p.is_dir() and p.name != "__MACOSX")
    except OSError:  # another's folder on the way
        return []


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
