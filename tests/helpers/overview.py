"""Folders of runs that never ran: what a run leaves, in miniature, for what looks at many runs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.config.as_json import to_json
from trainer.config.presets import PRESETS
from trainer.rundir.disk import write_sealed


def write_config(run_dir: Path, preset: str = "demo", *, lr: float = 1e-3, seed: int = 42, epochs: int = 2) -> None:
    """config.json of a run that chose these options."""
    config = PRESETS[preset]()
    config = dataclasses.replace(
        config,
        name=run_dir.name,
        seed=seed,
        optim=dataclasses.replace(config.optim, lr=lr),
        train=dataclasses.replace(config.train, epochs=epochs),
    )
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "config.json").write_text(to_json(config))


def records(num_steps: int, *, wer: float = 0.5, steps_per_epoch: int = 100) -> list[dict[str, Any]]:
    """What a run logs in `num_steps` steps: training every 10, an evaluation every 20. WER falls towards `wer`."""
    found: list[dict[str, Any]] = []
    for step in range(10, num_steps + 1, 10):
        epoch = step / steps_per_epoch
        found.append({"step": step, "epoch": epoch, "train/loss": 100 / step, "train/audio_seconds_per_second": 50.0})
        if step % 20 == 0:
            found.append({"step": step, "epoch": epoch, "eval/loss": 200 / step, "eval/wer": wer + 1 / step})
    return found


def write_metrics(run_dir: Path, found: Sequence[Mapping[str, Any]]) -> None:
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in found))


def write_checkpoint(run_dir: Path, step: int, *, train_seconds: float = 10.0, audio_seconds: float = 500.0) -> Path:
    """A sealed checkpoint whose weights are a few bytes."""
    folder = run_dir / "checkpoints" / f"step-{step:08d}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    state = {"state": {"step": step, "train_seconds": train_seconds, "audio_seconds": audio_seconds}}
    write_sealed(folder, {
        "model.safetensors": lambda path: path.write_bytes(b"weights"),
        "state.json": lambda path: path.write_text(json.dumps(state)),
    })  # fmt: skip
    return folder


def write_results(run_dir: Path, *, steps: int | None = 40, wer: float = 0.125, split: str = "test") -> None:
    """results.json; without `steps` that of an evaluation alone."""
    record = {"wer": wer, "wer_interval": [wer - 0.02, wer + 0.03], "wer_interval_over": "24 speakers"}
    trained = {"steps": steps, "train_seconds": 3725.0, "audio_seconds_per_second": 100.0} if steps else {}
    results = {"headline": split, "splits": {split: record}, "num_parameters": 1, "device": "cpu", **record, **trained}
    (run_dir / "results.json").write_text(json.dumps(results))


def write_finished(run_dir: Path, *, wer: float = 0.125, split: str = "test", **options: Any) -> Path:
    """A run of 40 steps that came to its end."""
    write_config(run_dir, **options)
    write_metrics(run_dir, records(40, wer=wer))
    write_checkpoint(run_dir, 40)
    write_results(run_dir, wer=wer, split=split)
    (run_dir / "hypotheses.jsonl").write_text("")
    return run_dir
