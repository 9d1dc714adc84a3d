"""Faults on the screen (trainer.prepare.check.fault_report).

pytest tests/trainer/prepare/check/test_fault_report.py
"""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from data.faults import Fault
from trainer.cli.console import Console
from trainer.prepare.check.fault_report import tell_faults


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_message_is_folded_and_a_remedy_is_one_line_to_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    remedy = "Listen to it: ffplay -autoexit '/recordings of last year/the first call of the third of March.wav'"
    faults = [Fault("too fast", "/recordings/train.csv:78: " + "17 units in 1.7 s, " * 6, remedy, stops=False)]
    assert not tell_faults(faults, tmp_path / "check.jsonl", Console(stream))
    lines = stream.getvalue().splitlines()
    assert f"warning: 1 x too fast. {remedy}" in lines
    assert max(len(line) for line in lines[lines.index(f"warning: 1 x too fast. {remedy}") + 1 :]) <= 60
    assert "0 that stop a run, 1 warning;" in " ".join(lines)
