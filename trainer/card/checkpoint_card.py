"""The model card of a folder that was exported from one checkpoint, without a closing evaluation of its weights.

Its figures are those of the evaluation during training at that step. The card of a finished run, in trainer.card.card,
has many more.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from trainer.card import tables, text
from trainer.card.hyperparameters import options_of
from trainer.card.metadata import metadata_of
from trainer.config.as_json import read_config
from trainer.rundir.disk import write_text
from trainer.rundir.model_source import model_name, step_of
from trainer.rundir.reading import read_records
from trainer.scoring.metrics import METRICS, UNITS, WORDS, Units


def write_checkpoint_card(folder: Path, run_dir: Path, checkpoint: Path) -> None:
    """Write README.md into `folder`, the model that was exported from `checkpoint` of the run in `run_dir`."""
    config = read_config(run_dir / "config.json", lenient=True)
    metrics = run_dir / "metrics.jsonl"
    records = read_records(metrics) if metrics.exists() else []
    is_best, step = checkpoint.name == "best", step_of(checkpoint)
    until_then = [record for record in records if record["step"] <= step]
    name = model_name(str(checkpoint))
    model_config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    sections = [
        f"---\n{metadata_of(config, name, _units(records)).to_yaml()}\n---",
        f"# {name}",
        f"The weights of step {step} of the run {run_dir.resolve().name}. {figures(until_then, step, is_best)}",
        "### How to use",
        text.usage(name),
        "### Training hyperparameters",
        options_of(config, model_config),
        "### Training results until this step",
        tables.training_table(until_then),
        "### Framework versions",
        text.framework_versions(),
    ]
    write_text(folder / "README.md", ModelCard("\n\n".join(sections) + "\n").content)


def _units(records: list[dict[str, Any]]) -> Units:
    """What was scored during training."""
    written = (u for u in UNITS.values() if any(f"eval/{u.main}" in record for record in records))
    return next(written, WORDS)


def figures(records: list[dict[str, Any]], step: int, is_best: bool) -> str:
    """What training measured at `step`, and how far that can be trusted."""
    found = next((record for record in records if record["step"] == step and "eval/loss" in record), None)
    if found is None:
        return "No evaluation was made at this step; `python -m scripts.evaluate` makes one."
    rates = ", ".join(
        f"{m.upper()} {text.format_rate(found.get(f'eval/{m}'))}" for m in METRICS if f"eval/{m}" in found
    )
    selected = " These weights were selected by the first of these rates, so it is optimistic." if is_best else ""
    return (
        f"During training they reached {rates} on the split that was scored then.{selected} This is not the closing "
        "evaluation of a finished run; `python -m scripts.evaluate` scores the folder on any corpus."
    )
