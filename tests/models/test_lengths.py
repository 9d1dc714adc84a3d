"""The lengths of the training utterances in a model's configuration (models.lengths).

pytest tests/models/test_lengths.py
"""

from __future__ import annotations

import doctest
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoConfig

import models.lengths
from models.lengths import KEY, UtteranceLengths, read_lengths, write_lengths
from scripts.export import main as export


def test_one_long_utterance_does_not_move_what_most_of_them_are() -> None:
    """Reference: by hand, 1 to 99 s and one of an hour."""
    assert UtteranceLengths.of([*range(1, 100), 3600]) == UtteranceLengths(1, 51, 95, 3600)


def test_examples_in_docstrings_hold() -> None:
    assert doctest.testmod(models.lengths).failed == 0


def test_transformers_passes_them_on(tmp_path: Path) -> None:
    config = AutoConfig.for_model("wavlm")
    write_lengths(config, UtteranceLengths.of([1.5, 2.5]))
    config.save_pretrained(tmp_path)
    assert read_lengths(AutoConfig.from_pretrained(tmp_path)) == UtteranceLengths(1.5, 2.5, 2.5, 2.5)


@pytest.mark.parametrize(
    "found",
    [None, "2 s", 3, [1, 2, 3, 4], {}, {"longest": 3}, {"shortest": 1, "median": 2, "most": 3, "longest": "x"},
     {"shortest": 3, "median": 2, "most": 3, "longest": 4}, {"shortest": 0, "median": 0, "most": 0, "longest": 0},
     {"shortest": 1, "median": 2, "most": 3, "longest": float("inf")},
     {"shortest": float("nan"), "median": 2, "most": 3, "longest": 4}],
)  # fmt: skip
def test_what_another_program_wrote_there_is_not_believed(found: Any) -> None:
    assert read_lengths(SimpleNamespace(**{KEY: found})) is None  # type: ignore[arg-type]
    assert read_lengths(SimpleNamespace()) is None  # type: ignore[arg-type]


def test_a_run_writes_them_into_its_model_and_its_checkpoints(finished_run: Path, tmp_path: Path) -> None:
    """Reference: the files of the training split: 9000 samples and 700 more for each of eight."""
    expected = {"shortest": 9000, "median": 11_800, "most": 13_900, "longest": 13_900}
    expected = {name: pytest.approx(n / 16_000, abs=1e-3) for name, n in expected.items()}
    assert json.loads((finished_run / "model" / "config.json").read_text())[KEY] == expected
    assert export([str(finished_run), "--step", "best", "--out", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out" / "config.json").read_text())[KEY] == expected
