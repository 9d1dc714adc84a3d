"""Corrections without a browser: the suspects that a sign of some certainty marks, as a file for --corpus.patch."""

from __future__ import annotations

import typing
from collections.abc import Iterable
from pathlib import Path

from data import strict_json
from trainer.doctor.suspect import Suspect
from trainer.rundir.disk import write_text
from trainer.signs.sign import Certainty

CERTAINTIES: tuple[Certainty, ...] = typing.get_args(Certainty)
"""The surest first."""


def write_corrections(
    path: Path, suspects: Iterable[Suspect], at_least: Certainty = "certain", *, is_training: bool = True
) -> int:
    """Write a line that leaves out each suspect with a sign at least so sure. Returns how many there are.

    The file says why, for who reads it. Corrections of a split that is not the training one name it. With none there
    are only comments, which --corpus.patch refuses: there is nothing to correct. OSError where the disk refuses.
    """
    sure = CERTAINTIES[: CERTAINTIES.index(at_least) + 1]
    lines = [f"# utterances with a sign that is {' or '.join(sure)}, the most suspect first\n"]
    for suspect in suspects:
        names = [sign.name for sign in suspect.signs if sign.certainty in sure]
        if names:
            split = {} if is_training else {"split": suspect.split}
            line = {"id": suspect.id, "drop": True, "was": suspect.text, **split, "note": ", ".join(names)}
            lines.append(f"{strict_json.dumps(line)}\n")
    write_text(path, "".join(lines))
    return len(lines) - 1
