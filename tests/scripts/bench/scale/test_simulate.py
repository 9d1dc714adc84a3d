"""scripts.bench.scale.simulate: what it says of a small corpus, against the same computed by hand."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoConfig

from data.batches.dealing import Cost, deal
from models.families import SIZES
from models.flops import attention_samples, forward_flops
from models.geometry import FrameGeometry
from scripts.bench.scale import simulate, simulated_start

GEOMETRY = FrameGeometry.of((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2))
SPEC = dict(
    ranks=3, batch_size=4, batch_seconds=None, frame_grid=1, speeds=[], epochs=2, grad_accum_steps=2, size="large",
    steps=100, started=0.0,
)  # fmt: skip


def found(tmp_path: Path, lengths: np.ndarray, **options: object) -> dict:
    np.save(tmp_path / "lengths.npy", lengths)
    return simulated_start.find({**SPEC, **options, "lengths": str(tmp_path / "lengths.npy")})


def test_balance_is_that_of_shares_counted_by_hand(tmp_path: Path) -> None:
    """Reference: the plan's batches, dealt and padded here, one by one, each alone in its step."""
    lengths = np.random.default_rng(0).integers(8000, 80_000, 60)
    said = found(tmp_path, lengths, grad_accum_steps=1)
    spec = {**SPEC, "grad_accum_steps": 1}
    plan, cost = simulated_start.plan_of(spec, lengths, GEOMETRY), Cost(attention_samples(large()))
    real = padded = worked = available = useful = 0
    for batch in plan.batches(0):
        shares = deal(batch, lengths, 3, cost)
        assert len(batch) == 12
        real += sum(int(lengths[i]) for i in batch)
        padded += sum(len(share) * max(int(lengths[i]) for i in share) for share in shares)
        costs = [len(s) * max(int(lengths[i]) * (int(lengths[i]) + cost.attention_samples) for i in s) for s in shares]
        worked, available = worked + sum(costs), available + 3 * max(costs)
        useful += sum(int(lengths[i]) * (int(lengths[i]) + cost.attention_samples) for i in batch)
    assert (said["utterances"], said["steps"], said["total_steps"], said["steps_looked_at"]) == (60, 5, 10, 5)
    assert said["a_step"] == 12
    assert said["padding"] == pytest.approx(1 - real / padded)
    assert said["waiting"] == pytest.approx(1 - worked / available)
    assert said["lost"] == pytest.approx(1 - useful / available)
    assert said["lost"] < said["lost_in_turn"]


def test_budget_grid_and_speeds_are_simulated_too(tmp_path: Path) -> None:
    lengths = np.random.default_rng(0).integers(8000, 80_000, 100)
    said = found(
        tmp_path, lengths, batch_size=None, batch_seconds=10.0, frame_grid=8, speeds=[0.9, 1.1], ranks=2
    )  # fmt: skip
    assert said["padding"] > 0
    assert 0 <= said["waiting"] < said["lost"] < 1
    assert said["memory"] > 50


def large():
    return AutoConfig.for_model("unispeech", **SIZES["large"])


@pytest.mark.parametrize("size", ["base", "large"])
def test_attention_takes_half_of_the_operations_at_the_length_that_is_said(size: str) -> None:
    """Reference: attention's products by hand: scores and sums over T frames, T * T * width multiply-adds each."""
    config = AutoConfig.for_model("unispeech", **SIZES[size])
    n = attention_samples(config)
    frames = FrameGeometry.of_config(config).num_frames(n)
    attention = config.num_hidden_layers * 2 * 2 * frames**2 * config.hidden_size
    assert attention / sum(forward_flops(config, n)) == pytest.approx(0.5, abs=1e-3)


def test_tables_and_json_tell_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the process that is measured called in this one, which has its imports already."""
    monkeypatch.setattr(simulate, "start", lambda spec: simulated_start.find({**spec, "started": time.time()}))
    argv = [
        "--utterances",
        "50",
        "70",
        "--ranks",
        "1",
        "4",
        "--out",
        str(tmp_path / "a.json"),
        "--steps",
        "3",
        "--mean",
        "1",
        "--deviation",
        "0.2",
        "--batch-size",
        "4",
        "--epochs",
        "2",
    ]
    assert simulate.main([*argv, "--within", "600", "100"]) == 0
    out, _ = capsys.readouterr()
    starts = json.loads((tmp_path / "a.json").read_text())["starts"]
    assert [(s["utterances"], s["ranks"]) for s in starts] == [(50, 1), (50, 4), (70, 1), (70, 4)]
    tables = [line for line in out.splitlines() if line.startswith("| ")]
    assert len(tables) == 2 * (1 + len(starts))
    for s, line in zip(starts, tables[6:], strict=True):
        cells = [cell.strip() for cell in line.split("|")]
        assert cells[1:3] == [str(s["utterances"]), str(s["ranks"])]
        assert cells[5:8] == [f"{s[key]:.2%}" for key in ("padding", "waiting", "lost")]
    assert "every first batch took at most 600 s and 100 GB" in out
    assert simulate.main([*argv, "--within", "600", "0.001"]) == 1
    assert "wanted: 600 s, 0.001 GB" in capsys.readouterr().out
