"""What CONTRIBUTING.md promises: one more entry in one file shows wherever its kind is shown.

pytest tests/trainer/test_registries.py
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.runs import train_on_noise
from trainer.report import columns
from trainer.scoring.metrics import METRICS, EditCounts, Metric

pytestmark = pytest.mark.slow  # trains a miniature


def count_vowels(reference: str, hypothesis: str) -> EditCounts:
    """A made-up rate: vowels of the reference, all of them deleted."""
    return EditCounts(deletions=sum(c in "aeiou" for c in reference) + 1)


def test_one_more_metric_and_column_show_wherever_their_kind_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(METRICS, "ver", Metric("vowel error rate", count_vowels))
    original = columns.columns
    column = columns.Column("vowels", "Vowels", "number", lambda split, h: h[-1].counts("ver").num_errors)
    monkeypatch.setattr("trainer.report.page.columns", lambda num_systems: [*original(num_systems), column])
    run = train_on_noise(tmp_path)
    assert "VER 100.00 %" in capsys.readouterr().err
    assert json.loads((run / "results.json").read_text())["ver"] == 1.0
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {record["eval/ver"] for record in records if "eval/wer" in record} == {1.0}
    card = (run / "model" / "README.md").read_text()
    assert "| VER |" in card
    assert "type: ver" in card
    report = (run / "report.html").read_text()
    assert "Vowel error rate" in report
    assert '"key":"vowels"' in report
