"""One small run, whole or resumed, and all that it computed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file

import trainer.loop.fit
from tests.helpers.runs import write_noise_corpus
from trainer.run import main

WALL_CLOCK = {"train_seconds", "eval_seconds", "eval/seconds", "train/audio_seconds_per_second", "train/mfu",
              "train/peak_memory_bytes"}  # fmt: skip
# 14 utterances in batches of 2, two batches a step: epochs of 4 steps, the last of them with one batch
OPTIONS = [
    "manifest", "--model.hidden-dropout", "0.2", "--model.layerdrop", "0.2",
    "--model.mask-time-prob", "0.1", "--augment.speeds", "0.9", "1.1", "--batching.batch-size", "2",
    "--train.grad-accum-steps", "2", "--train.epochs", "3", "--train.max-steps", "10", "--train.log-every", "2",
    "--train.eval-every", "4", "--train.save-every", "5", "--optim.warmup-steps", "2", "--device", "cpu",
    "--no-report", "--name", "run",
]  # fmt: skip


def write_inputs(folder: Path) -> Path:
    """What every run here reads, a model of 20,000 parameters and a corpus of noise, and room for their cache."""
    write_noise_corpus(folder, num_train=14, num_eval=6)
    return folder


def options(runs_dir: Path, inputs: Path, *more: str) -> list[str]:
    """The command line of a run on `inputs`."""
    return [
        *OPTIONS, "--corpus.train", str(inputs / "train.jsonl"), "--corpus.eval", str(inputs / "eval.jsonl"),
        "--model.pretrained", str(inputs / "checkpoint"), "--runs-dir", str(runs_dir),
        "--cache-dir", str(inputs / "cache"), *more,
    ]  # fmt: skip


def run(runs_dir: Path, inputs: Path, *more: str) -> Path:
    """The folder of a run that comes to its end."""
    assert main(options(runs_dir, inputs, *more)) == 0
    return runs_dir / "run"


def run_stopped(
    runs_dir: Path, inputs: Path, stop_at: int, monkeypatch: pytest.MonkeyPatch, *more: str, codes: tuple = (130,)
) -> None:
    """A run that Ctrl-C stops in step `stop_at`, with one of these exit codes."""
    taken = 0

    def train_step(*args: object) -> object:
        nonlocal taken
        taken += 1
        if taken == stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return original(*args)

    original = trainer.loop.fit.train_step
    with monkeypatch.context() as patch:
        patch.setattr(trainer.loop.fit, "train_step", train_step)
        assert main(options(runs_dir, inputs, *more)) in codes


def without_clock(record: dict) -> dict:
    return {k: v for k, v in record.items() if k not in WALL_CLOCK}


def everything(run_dir: Path, step: int = 10) -> dict:
    """All that a run of so many steps computed, tensors as bytes, without the clock."""
    last = run_dir / "checkpoints" / f"step-{step:08d}"
    tensors = {
        f"{path.relative_to(run_dir)}:{name}": tensor.numpy().tobytes()
        for path in [
            last / "model.safetensors",
            last / "optimizer.safetensors",
            run_dir / "model" / "model.safetensors",
        ]
        for name, tensor in load_file(path).items()
    }
    state = json.loads((last / "state.json").read_text())
    metrics = [without_clock(json.loads(line)) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return tensors | {
        "state": without_clock(state["state"]),
        "rest": (state["scheduler"], state["scaler"], state["tokens"]),
        "metrics": metrics,
        "hypotheses": (run_dir / "hypotheses.jsonl").read_text(),
        "dynamics": {path.name: path.read_bytes() for path in sorted((run_dir / "dynamics").iterdir())},
    }


def differences(a: dict, b: dict) -> list[str]:
    return [key for key in {**a, **b} if a.get(key) != b.get(key)]
