"""Whole runs with --parallel fsdp: what they leave, and how runs of other kinds go on with it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import trainer.loop.fit
import trainer.prepare.sharing
from models.checkpoints.export import save_huggingface
from models.checkpoints.shards import is_sharded_folder
from scripts.verify_run import verify_run
from tests.helpers.models import VOCAB, small_hf_model
from tests.helpers.ranks import run_ranks
from tests.helpers.resumed import options, run, write_inputs
from trainer.parallel.launch import Launch
from trainer.run import main
from trainer.rundir.reading import read_records

pytestmark = pytest.mark.distributed

SAME = ("--model.hidden-dropout", "0", "--optim.lr", "1e-5", "--precision", "fp32")
"""Without dropout any number of processes draws the same."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As for other runs, but with a model in which rounding does not grow."""
    folder = write_inputs(tmp_path_factory.mktemp("inputs"))
    special = dict(blank="[PAD]", unknown="[UNK]", word_delimiter="|")
    save_huggingface(small_hf_model(initializer_range=0.1), VOCAB.tokens, special, True, folder / "checkpoint")
    return folder


@pytest.fixture(scope="module")
def alone(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same run in one process."""
    return run(tmp_path_factory.mktemp("alone"), inputs, *SAME)


def in_several(size: int, runs_dir: Path, inputs: Path, *more: str, stop_at: int = 0, code: int = 0) -> str:
    """A run of several processes; what rank 0 printed. With `stop_at` Ctrl-C reaches rank 0 in that step."""

    def work(launch: Launch) -> int:
        taken, original = 0, trainer.loop.fit.train_step

        def train_step(*args: Any) -> Any:
            nonlocal taken
            taken += 1
            if taken == stop_at and launch.is_first:
                os.kill(os.getpid(), signal.SIGINT)
            return original(*args)

        trainer.loop.fit.train_step = train_step  # type: ignore[assignment]
        return main(options(runs_dir, inputs, *SAME, *more))

    ended = run_ranks(size, work, runs_dir / "ranks", timeout=180)
    assert ended[0].result == code, "\n".join(e.stderr for e in ended)
    return ended[0].stderr


def assert_same(run_dir: Path, other: Path) -> None:
    """The same errors, and the same losses and exported weights up to rounding."""
    logs = [list(read_records(folder / "metrics.jsonl")) for folder in (run_dir, other)]
    assert [r["step"] for r in logs[0]] == [r["step"] for r in logs[1]]
    for ours, theirs in zip(*logs, strict=True):
        for key in ("train/loss", "train/grad_norm", "eval/loss", "eval/wer", "eval/num_errors"):
            if key in theirs:
                assert ours[key] == pytest.approx(theirs[key], rel=5e-6), (key, theirs["step"])
    weights = [load_file(folder / "model" / "model.safetensors") for folder in (run_dir, other)]
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-5, atol=1e-5)
    hypotheses = [(folder / "hypotheses.jsonl").read_text() for folder in (run_dir, other)]
    written = [[json.loads(line)["hypothesis"] for line in text.splitlines()] for text in hypotheses]
    assert written[0] == written[1]


def test_run_of_two_leaves_what_one_process_leaves(
    alone: Path, inputs: Path, tmp_path: Path, one_thread: None, capsys: pytest.CaptureFixture[str]
) -> None:
    told = in_several(2, tmp_path, inputs, "--parallel", "fsdp", "--model.activation-checkpointing")
    run_dir = tmp_path / "run"
    assert "fsdp, each process has its share of the model: asked for" in " ".join(told.split())
    assert_same(run_dir, alone)
    assert all(is_sharded_folder(folder) for folder in (run_dir / "checkpoints").iterdir())
    assert verify_run(run_dir) == 0
    assert "model                        sound: the weights of step" in capsys.readouterr().out
    assert main(options(tmp_path, inputs, *SAME, "--resume")) == 0  # one process finds it complete


@pytest.mark.parametrize(
    ("before", "after"), [(("fsdp", 2), ("ddp", 1)), (("ddp", 1), ("fsdp", 2)), (("fsdp", 2), ("fsdp", 1))], ids=str
)
def test_stopped_run_goes_on_in_another_way(
    before: tuple[str, int], after: tuple[str, int], alone: Path, inputs: Path, tmp_path: Path, one_thread: None
) -> None:
    """The batches, losses and weights are those of a run that nobody stopped."""
    in_several(before[1], tmp_path, inputs, "--parallel", before[0], stop_at=6, code=130)
    saved = tmp_path / "run" / "checkpoints" / "step-00000006"
    assert is_sharded_folder(saved) == (before[0] == "fsdp")
    in_several(after[1], tmp_path, inputs, "--parallel", after[0], "--resume")
    assert_same(tmp_path / "run", alone)


def test_best_weights_of_a_spread_run_are_a_model_that_any_command_takes(
    inputs: Path, tmp_path: Path, one_thread: None
) -> None:
    in_several(2, tmp_path, inputs, "--parallel", "fsdp", "--train.export", "best", "--train.max-steps", "4")
    best = tmp_path / "run" / "checkpoints" / "best"
    assert is_sharded_folder(best)
    code = main([
        *options(tmp_path, inputs, *SAME, "--name", "next", "--train.max-steps", "1", "--optim.warmup-steps", "0"),
        "--model.pretrained", str(best),
    ])  # fmt: skip
    assert code == 0


def test_auto_spreads_what_does_not_fit_and_trains_it_in_bf16(
    inputs: Path, tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer.prepare.sharing, "free_memory", lambda device: 300_000)
    told = " ".join(in_several(2, tmp_path, inputs, "--precision", "bf16", "--train.max-steps", "4").split())
    assert "fsdp, each process has its share of the model: weights, gradients and moments take 0.00 GB, more" in told
    assert "layers' weights are gathered in bf16, so no copies of them are kept" in told
    assert verify_run(tmp_path / "run") == 0


def test_fsdp_without_torchrun_is_one_line(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert main(options(tmp_path, inputs, "--parallel", "fsdp")) == 2
    assert "--parallel fsdp needs torchrun" in capsys.readouterr().err
