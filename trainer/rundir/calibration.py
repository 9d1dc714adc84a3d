"""The calibration of a model's word confidences, in a file of its own beside the exported weights.

    {"method": "renyi-linear-min", "temperature": 0.53, "split": "dev", "num_words": 374, "num_wrong": 42}

It belongs to the weights of its folder alone. A checkpoint of training has none.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data import strict_json
from data.utterance import Splits
from models.checkpoints.trust import find_file
from trainer.errors import ModelError
from trainer.rundir.disk import write_text
from trainer.scoring.confidence import BOUNDS, METHODS, Calibration
from trainer.scoring.reliability import learn_calibration
from trainer.scoring.scores import Scores

NAME = "word_confidence.json"
_REMEDY = "Delete it, and confidences are as without a calibration, or copy it again from where the model comes from."


def write_calibration(folder: Path, calibration: Calibration | None) -> None:
    """Write NAME into `folder`; None takes away that of earlier weights."""
    if calibration is None:
        (folder / NAME).unlink(missing_ok=True)
    else:
        write_text(folder / NAME, strict_json.dumps(dataclasses.asdict(calibration), indent=2) + "\n")


def read_calibration(source: str, revision: str | None = None) -> Calibration | None:
    """The calibration of the model `source`, a folder or a hub id; None where it has none. ModelError if malformed."""
    path = find_file(source, NAME, revision)
    if path is None:
        return None
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        found = Calibration(
            str(record["method"]), float(record["temperature"]), str(record["split"]), int(record["num_words"]),
            int(record["num_wrong"]),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path}: no calibration of confidences ({type(error).__name__}: {error}). {_REMEDY}"
        ) from None
    if found.method not in METHODS:
        raise ModelError(f"{path}: {found.method!r} is no method of confidence; {', '.join(METHODS)} are. {_REMEDY}")
    if not BOUNDS[0] <= found.temperature <= BOUNDS[1]:
        raise ModelError(
            f"{path}: a temperature of {found.temperature:g} is not within {BOUNDS[0]:g} and {BOUNDS[1]:g}. {_REMEDY}"
        )
    return found


def calibration_of(scored: Sequence[Scores], splits: Splits, size: int) -> tuple[Calibration | None, str]:
    """The calibration of word confidences by the development split, or None and why; `size` counts the vocabulary's
    units. The split that is reported first is never learnt from."""
    if splits.monitor == splits.headline:
        return None, f"{splits.headline}, the only evaluation split, is the one that is reported"
    found = [learn_calibration(s, size) for s in scored if s.split == splits.monitor]
    if not found:
        return None, f"{splits.monitor} was not scored"
    return (None, found[0]) if isinstance(found[0], str) else (found[0], "")


def describe_calibration(calibration: Calibration | None, why_none: str) -> str:
    if calibration is None:
        return f"word confidences are not calibrated: {why_none}"
    return f"word confidences: {calibration.describe()}"


def calibration_record(calibration: Calibration | None, why_none: str) -> dict[str, Any]:
    """The key of results.json on how confidences were made: the calibration, or why there is none."""
    return {"calibration": {"why_none": why_none} if calibration is None else dataclasses.asdict(calibration)}
