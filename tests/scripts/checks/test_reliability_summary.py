"""The sums at the end of `make test-reliability`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.checks.reliability_summary import main as summarise
from tests.helpers.corpora import write_jsonl

FAULT = {"kind": "fault", "test": "test_kill", "injected": 50, "survived": 50, "resumes": 40, "bit_exact": 40}
BAD = {"kind": "bad-input", "test": "test_fuzz", "tried": 10_000, "refused": 9_000, "accepted_wrongly": 0}


def test_records_are_added_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = {"kind": "fault", "test": "test_disk", "injected": 3, "survived": 3}
    assert summarise([str(write_jsonl(tmp_path / "report", [FAULT, BAD, other, FAULT, BAD]))]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "faults injected: 103, survived: 103; resumes: 80, bit-exact: 80",
        "bad inputs tried: 20,000, refused: 18,000, accepted wrongly: 0",
    ]


@pytest.mark.parametrize(
    "record",
    [FAULT | {"survived": 49}, FAULT | {"bit_exact": 39}, FAULT | {"injected": 0, "survived": 0}, BAD | {"tried": 0},
     BAD | {"accepted_wrongly": 1}],
)  # fmt: skip
def test_one_loss_is_exit_code_1(record: dict, tmp_path: Path) -> None:
    other = BAD if record["kind"] == "fault" else FAULT
    (tmp_path / "report").write_text(json.dumps(record) + "\n" + json.dumps(other) + "\n")
    assert summarise([str(tmp_path / "report")]) == 1


def test_no_report_is_exit_code_2(tmp_path: Path) -> None:
    assert summarise([str(tmp_path / "none")]) == 2
