"""scripts.bench.memory counts what a step takes."""

from __future__ import annotations

import pytest
import torch

from scripts.bench.memory import allocated_peak, main, step_bytes

CPU = torch.device("cpu")


def test_the_peak_of_allocations_is_that_of_the_tensors_that_live_together() -> None:
    """Reference: by hand: 4 MB and 8 MB together, then 8 MB and 2 MB."""

    def work() -> None:
        a = torch.zeros(1_000_000)
        b = torch.zeros(2_000_000)
        del a
        c = torch.zeros(500_000)
        del b, c

    assert abs(allocated_peak(work, CPU) - 12_000_000) < 1000


def test_checkpoints_and_microbatches_take_less_than_half() -> None:
    """A size where activations outweigh the gradients; reference: the plain step."""
    plain = step_bytes("tiny", 8, 1.0, False, False, 1)
    assert step_bytes("tiny", 8, 1.0, False, True, 1) < plain / 2
    assert step_bytes("tiny", 8, 1.0, False, False, 4) < plain / 2


def test_settings_that_need_a_larger_batch_are_named_and_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two utterances make two microbatches, not four."""
    monkeypatch.setattr("scripts.bench.memory.step_bytes", lambda *setting: 1_000_000)
    assert main(["--seconds", "1", "--batch-size", "2"]) == 0
    rows = capsys.readouterr().out.splitlines()[4:]
    assert len(rows) == 8
    assert [row for row in rows if "2 microbatches" in row] == ["| 2 microbatches | 1 |"]
    assert all(("needs --batch-size 4" in row) == ("4 microbatches" in row) for row in rows)


def test_a_frozen_feature_encoder_and_its_table_take_less() -> None:
    """Reference: the same step with everything trained."""
    assert step_bytes("tiny", 4, 1.0, True, False, 1) < step_bytes("tiny", 4, 1.0, False, False, 1)
