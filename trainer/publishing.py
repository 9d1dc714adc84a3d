"""What may come later than the end of a run: its report, and the upload of its model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from models.checkpoints.shards import is_weight, read_whole
from trainer.card.push import push_or_warn
from trainer.cli.console import Console
from trainer.cli.interpreter import python_command
from trainer.config.schema import Config
from trainer.errors import CheckpointError
from trainer.loop.state import TrainState
from trainer.loop.step import TrainingParts
from trainer.parallel.sharding import twin
from trainer.report.run import MediaSource, report_or_warn
from trainer.rundir.checkpoints.restore import load_best, verify_best
from trainer.rundir.results import write_json
from trainer.scoring.evaluate import EvalSet


def exports_other_weights(config: Config, state: TrainState) -> bool:
    """Whether the run exports weights that are not those of its last step."""
    return config.train.export == "best" and state.best_step != state.step


def publish(config: Config, source: MediaSource, console: Console) -> None:
    """Write the report and upload the model, if each is asked for and not yet done."""
    run_dir, repo = config.run_dir, config.push_to_hub
    if config.report and not (run_dir / "report.html").exists():
        with console.phase("report"):
            report_or_warn(run_dir, config.name, source, console)
    with console.phase("upload"):
        if repo and not is_pushed(run_dir, repo) and push_or_warn(run_dir / "model", repo, console):
            write_json(run_dir / "pushed.json", {"repo": repo})


def publish_late(
    config: Config,
    parts: TrainingParts,
    eval_sets: dict[str, EvalSet],
    state: TrainState,
    console: Console,
) -> None:
    """`publish` for a run that an earlier process closed. The weights in `parts` are those of the last step.

    It is for rank 0 alone: a spread model is read whole from its checkpoint.
    """
    model, device = parts.model, parts.device
    name = f"step-{state.step:08d}"
    try:
        if exports_other_weights(config, state):
            verify_best(config.run_dir)
            name = "best"
        if model.is_sharded:
            weights = read_whole(config.run_dir / "checkpoints" / name, is_weight)
            model, device = twin(model, weights), torch.device("cpu")
        elif name == "best":
            load_best(config.run_dir, model)
        model.merge_updates()
    except (CheckpointError, ValueError) as error:
        console.warn(f"no report ({error}). Later: {python_command()} -m scripts.report {config.run_dir}")
        config = replace(config, report=False)
    publish(config, MediaSource(model, eval_sets, device), console)


def is_published(config: Config) -> bool:
    """Whether `publish` has nothing left to do."""
    run_dir, repo = config.run_dir, config.push_to_hub
    return (not config.report or (run_dir / "report.html").exists()) and (not repo or is_pushed(run_dir, repo))


def is_pushed(run_dir: Path, repo: str) -> bool:
    """Whether the model was uploaded to `repo`."""
    try:
        return json.loads((run_dir / "pushed.json").read_text(encoding="utf-8"))["repo"] == repo
    except (OSError, ValueError, KeyError, TypeError):
        return False
