"""doctor.jsonl: what is written is read again, and what is no suspect is named.

pytest tests/trainer/doctor/test_suspect.py
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from trainer.doctor.suspect import Suspect, read_suspects, write_suspects
from trainer.errors import DamagedError
from trainer.signs.sign import Sign

CLIPPED = Sign("clipped", "412 peaks are cut flat", "likely", 0.5, 1.25)
SWAPPED = Sign("another transcript", "the model writes other words", "certain")


def test_suspects_are_read_as_they_were_written(tmp_path: Path) -> None:
    told = [
        Suspect(
            "a", 0.9, (SWAPPED, CLIPPED), "ein Satz – „so“", "one", "train", "s", "a.wav", "m.csv:2", 1.5, (2.0, None)
        ),
        Suspect("b\udcff", 0.0, (), ""),
    ]
    write_suspects(tmp_path / "doctor.jsonl", told)
    assert list(read_suspects(tmp_path / "doctor.jsonl")) == told


def test_a_line_has_id_score_and_reasons(tmp_path: Path) -> None:
    write_suspects(tmp_path / "doctor.jsonl", [Suspect("a", 0.9, (SWAPPED, CLIPPED), "x")])
    line = json.loads((tmp_path / "doctor.jsonl").read_text())
    assert (line["id"], line["score"]) == ("a", 0.9)
    assert line["reasons"][0] == {
        "name": "another transcript", "what": "the model writes other words", "certainty": "certain"
    }  # fmt: skip
    assert line["reasons"][1]["end"] == 1.25


def test_a_loss_that_is_no_number_is_written_as_none(tmp_path: Path) -> None:
    write_suspects(tmp_path / "doctor.jsonl", [Suspect("a", 0.9, (), "x", losses=(math.inf, 1.0))])
    assert next(read_suspects(tmp_path / "doctor.jsonl")).losses == (None, 1.0)


@pytest.mark.parametrize("line", ["{", "[]", '{"id": "a"}', '{"id": "a", "score": 1, "text": "", "reasons": [{}]}'])
def test_a_line_that_is_no_suspect_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "doctor.jsonl"
    write_suspects(path, [Suspect("a", 0.9, (), "x")])
    with open(path, "a") as file:
        file.write(line + "\n")
    with pytest.raises(DamagedError, match="line 2 describes no utterance"):
        list(read_suspects(path))
