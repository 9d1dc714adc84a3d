"""The file of a model's calibration (trainer.rundir.calibration), and confidences that are written with it.

pytest tests/trainer/rundir/test_calibration.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from trainer.errors import ModelError
from trainer.rundir.calibration import NAME, read_calibration, write_calibration
from trainer.scoring.confidence import Calibration

CALIBRATION = Calibration("renyi-linear-min", 0.53, "dev", 374, 42)


def test_calibration_is_read_as_it_was_written_and_taken_away_with_its_weights(tmp_path: Path) -> None:
    write_calibration(tmp_path, CALIBRATION)
    assert read_calibration(str(tmp_path)) == CALIBRATION
    write_calibration(tmp_path, None)
    write_calibration(tmp_path, None)
    assert read_calibration(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "voodoo-min"}, "'voodoo-min' is no method of confidence"),
        ({"temperature": 0}, "a temperature of 0 is not within 0.05 and 20"),
        ({"temperature": -1.0}, "a temperature of -1 is not within"),
        ({"temperature": "warm"}, "no calibration of confidences (ValueError"),
        ({"temperature": None}, "no calibration of confidences (TypeError"),
        ({"temperature": float("nan")}, "a temperature of nan is not within"),
        ("{", "no calibration of confidences (JSONDecodeError"),
        ("[]", "no calibration of confidences (TypeError"),
        ("{}", "no calibration of confidences (KeyError: 'method')"),
    ],
    ids=str,
)
def test_malformed_file_is_named_with_what_is_wrong(tmp_path: Path, changes: dict | str, message: str) -> None:
    write_calibration(tmp_path, CALIBRATION)
    path = tmp_path / NAME
    path.write_text(changes if isinstance(changes, str) else json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ModelError, match=f"^{re.escape(f'{path}: {message}')}"):
        read_calibration(str(tmp_path))
