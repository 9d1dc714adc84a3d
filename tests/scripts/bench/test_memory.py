"""scripts.bench.memory counts what training holds and what a step takes."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from scripts.bench.memory import ROWS, Row, allocated_peak, counted, main, measured
from scripts.bench.save_cost import random_encoder

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


def found(row: Row, batch_size: int, seconds: float) -> dict[str, int]:
    parts = row.build("tiny", CPU)
    return counted(row, parts, batch_size, seconds) | measured(row, parts, batch_size, seconds)


EVERY_ROW = [name if name in ("checkpointing", "lora") else pytest.param(name, marks=pytest.mark.slow) for name in ROWS]


@pytest.mark.parametrize("name", EVERY_ROW)
def test_what_is_counted_is_what_the_allocator_hands_out(name: str) -> None:
    """Held memory to a hundredth, a step to a tenth."""
    figures = found(ROWS[name], 8, 1.0)
    assert figures["held"] == pytest.approx(figures["held_measured"], rel=0.01)
    assert figures["step"] == pytest.approx(figures["step_measured"], rel=0.1)


def test_the_loss_over_a_large_vocabulary_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """4,000 units, as Chinese characters: CTC in fp64 takes more than all layers of a tiny model."""

    def wide(size: str, regularised: bool) -> PreTrainedModel:
        hf = copy.deepcopy(random_encoder(size, regularised))
        hf.lm_head = nn.Linear(hf.lm_head.in_features, 4000)
        return hf

    monkeypatch.setattr("scripts.bench.save_cost.random_encoder", wide)
    figures = found(ROWS["lora"], 8, 1.0)
    assert figures["step"] == pytest.approx(figures["step_measured"], rel=0.1)


def test_moments_of_8_bits_are_counted_as_they_are_kept() -> None:
    row = replace(ROWS["8bit"], precision="fp32")
    parts = row.build("tiny", CPU)
    figures = counted(row, parts, 2, 1.0) | measured(row, parts, 2, 1.0)
    assert figures["held"] == pytest.approx(figures["held_measured"], rel=0.03)
    assert figures["held"] < 0.6 * counted(replace(row, moments="fp32"), parts, 2, 1.0)["held"]


def test_rows_that_need_a_larger_batch_are_named_and_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two utterances make two microbatches, not four."""
    monkeypatch.setattr("scripts.bench.memory.counted", lambda *setting: {"held": 1_000_000})
    monkeypatch.setattr("scripts.bench.memory.Row.build", lambda *setting: None)
    assert main(["--seconds", "1", "--batch-size", "2", "--no-measure", "--only", "12gb,8gb,accumulation"]) == 0
    rows = capsys.readouterr().out.splitlines()[4:]
    assert ["needs --batch-size 4" in row for row in rows] == [False, True, True]
    assert "| 1 |  |" in rows[0]
