"""The last lines of a run: a warning if the model writes nothing, and commands to paste."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from trainer.cli.console import Console
from trainer.cli.interpreter import program_command, python_command
from trainer.config.schema import Config
from trainer.rundir.logs.alarms import ALL_BLANK


def conclude(config: Config, recording: str, blank_share: float, console: Console) -> None:
    """Warn if the model writes only blanks, then print commands to go on with; `recording` is one that it can read."""
    if blank_share >= ALL_BLANK:
        console.warn(
            f"the model writes only blanks ({100 * blank_share:.1f} % of frames): it was trained too little, or not at "
            "all well. More steps (--train.epochs) come first, then --optim.lr; see docs/troubleshooting.md."
        )
    console.say("next:")
    for command in next_commands(config, recording):
        console.say(f"  {command}", wrap=False)


def next_commands(config: Config, recording: str) -> list[str]:
    """Commands for a complete run, ready to be pasted into a shell. What the run has done itself is not among them.

    `recording` is a file to transcribe. FILE stands for it where the corpus keeps its audio in no file.
    """
    python, run_dir = python_command(), config.run_dir
    board = program_command("tensorboard") or f"{python} -m tensorboard.main"
    heard = shlex.quote(from_here(recording)) if os.path.isfile(recording) else "FILE"
    return [
        f"{board} --logdir {shlex.quote(config.runs_dir)}",
        *([] if (run_dir / "report.html").exists() else [f"{python} -m scripts.report {shlex.quote(str(run_dir))}"]),
        f"{python} -m scripts.transcribe {shlex.quote(str(run_dir / 'model'))} {heard}",
        f"{python} -m scripts.verify_run {shlex.quote(str(run_dir))}",
    ]


def from_here(path: str) -> str:
    """`path`, relative to the current folder where it lies below it."""
    return os.path.relpath(path) if Path(path).absolute().is_relative_to(Path.cwd()) else path
