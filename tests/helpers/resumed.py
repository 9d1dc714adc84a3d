"""One small run, whole or resumed, and all that it computed."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file

from trainer.run import main

WALL_CLOCK = {"train_seconds", "eval_seconds", "eval/seconds", "train/audio_seconds_per_second", "train/mfu",
              "train/peak_memory_bytes"}  # fmt: skip
# 32 utterances in batches of 5, two batches a step: epochs of 4 steps, the last of them with one batch
OPTIONS = [
    "demo", "--corpus.size", "tiny", "--model.size", "tiny",
    "--model.hidden-dropout", "0.2", "--model.layerdrop", "0.2",
    "--model.mask-time-prob", "0.1", "--augment.speeds", "0.9", "1.1", "--batching.batch-size", "5",
    "--train.grad-accum-steps", "2", "--train.epochs", "3", "--train.max-steps", "10", "--train.log-every", "2",
    "--train.eval-every", "4", "--train.save-every", "5", "--optim.warmup-steps", "2", "--name", "run",
]  # fmt: skip


def run(folder: Path, cache: Path, *more: str) -> Path:
    assert main([*OPTIONS, "--runs-dir", str(folder), "--cache-dir", str(cache), *more]) == 0
    return folder / "run"


def without_clock(record: dict) -> dict:
    return {k: v for k, v in record.items() if k not in WALL_CLOCK}


def everything(run_dir: Path) -> dict:
    """All that a run computed, tensors as bytes, without the clock."""
    last = run_dir / "checkpoints" / "step-00000010"
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
    }


def differences(a: dict, b: dict) -> list[str]:
    return [key for key in {**a, **b} if a.get(key) != b.get(key)]
