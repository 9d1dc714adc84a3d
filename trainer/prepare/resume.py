"""Go on with a run: its newest sound checkpoint, put into what was prepared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.cli.console import Console
from trainer.cli.options import options
from trainer.config.as_json import defaults_of, flatten
from trainer.config.schema import Config
from trainer.config.validate import resolve
from trainer.loop.state import TrainState
from trainer.prepare.build import PreparedRun
from trainer.prepare.identity import compare, unknown_to
from trainer.rundir.checkpoints.restore import newest_valid, valid_best
from trainer.rundir.checkpoints.shared_state import take_checkpoint


def resume(run: PreparedRun, fingerprint: dict, console: Console) -> TrainState:
    """Put the newest sound checkpoint into `run` and return its state; a new state when there is no checkpoint.

    Rank 0 finds it, and decides what it means.
    """
    world = run.parts.world
    found: tuple[Path, dict] | None = None
    with console.phase("model"):
        with world.together("the newest checkpoint, which rank 0 looks for"):
            if world.is_first:
                found = _find_newest(run, fingerprint, console)
        state = take_checkpoint(run.parts, found)
    run.total_steps = world.broadcast(run.total_steps)
    return state


def _find_newest(run: PreparedRun, fingerprint: dict, console: Console) -> tuple[Path, dict] | None:
    """The newest sound checkpoint's folder, and its record as this run takes it."""
    config, run_dir = run.config, run.config.run_dir
    found = newest_valid(run_dir, console.warn)
    if found is None:
        console.say(f"{run_dir}: no checkpoint yet; starting at step 0")
        return None
    folder, record = found
    added = unknown_to(record, fingerprint)
    defaults = _as_if_not_given(run.asked or config, fingerprint, added["options"])
    changes, state = compare(str(folder), record, fingerprint, config.allow_changes, defaults), record["state"]
    console.say(f"resuming from {folder}")
    if added["options"]:
        console.warn(_describe_older(folder, config, added))
    if changes:
        for change in changes:
            console.warn(f"going on with a change: {change}")
        state["batches_done"] -= state["batches_done"] % config.train.grad_accum_steps  # back to the start of a step
        left = run.plan.steps_left(state["epoch"], state["batches_done"])
        run.total_steps = min(run.total_steps, state["step"] + left)
    if state["best_step"] is not None and not valid_best(run_dir, console.warn):
        state["best_step"] = state["best_wer"] = None
        state["eval_pending"] = True  # these weights are scored first; they are then the best so far
    return folder, record


def _as_if_not_given(config: Config, fingerprint: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The values of the options `names` for a run that was not given them: what was chosen now where nothing is given,
    else the default."""
    given, left_open = flatten(config), flatten(resolve(defaults_of(config, names)))
    return {name: fingerprint["options"][name] if given[name] == left_open[name] else left_open[name] for name in names}


def _describe_older(folder: Path, config: Config, added: Mapping[str, Sequence[str]]) -> str:
    values = {f"{o.group}.{o.field}".lstrip("."): f"{o.name} {o.default_text}" for o in options(config)}
    given = ", ".join(values.get(name, name) for name in added["options"])
    not_noted = f" That version noted nothing to compare of: {', '.join(added['content'])}." if added["content"] else ""
    return (
        f"{folder} was written by an older version of this program, which had no {given}. These are the values now."
        f"{not_noted} The run goes on from the same weights; its last bits may differ from those that version would "
        "compute."
    )
