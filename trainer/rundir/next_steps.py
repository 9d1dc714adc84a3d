"""The last lines of a run: what was found to be wrong with it, and commands to paste."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from data.corpora.given import GivenConfig
from trainer.cli.console import Console
from trainer.cli.interpreter import program_command, python_command
from trainer.config.schema import Config


def conclude(
    config: Config, recording: str, findings: Sequence[str], console: Console, channel: int | None = None
) -> None:
    """Print the paragraphs of `findings`, then commands to go on with; `recording` is one that the model can read, in
    its `channel` (0 is the first; None: the mean of all)."""
    for paragraph in findings:
        console.warn(paragraph)
    if findings:
        console.say("docs/why.md tells more of each cause")
    console.say("next:")
    for command in next_commands(config, recording, channel, has_findings=bool(findings)):
        console.say(f"  {command}", wrap=False)


def next_commands(
    config: Config, recording: str, channel: int | None = None, *, has_findings: bool = False
) -> list[str]:
    """Commands for a complete run, ready to be pasted into a shell. What the run has done itself is not among them,
    except for its findings, which one command says again.

    `recording` is a file to transcribe, in its `channel` (0 is the first; None: the mean of all). FILE stands for it
    where the corpus keeps its audio in no file. The doctor, which ranks training utterances by how likely they are
    wrong, is named where a command can open the corpus again.
    """
    python, run_dir = python_command(), config.run_dir
    board = program_command("tensorboard") or f"{python} -m tensorboard.main"
    doctor = f"{python} -m scripts.doctor {shlex.quote(str(run_dir))}"
    heard = shlex.quote(from_here(recording)) if os.path.isfile(recording) else "FILE"
    heard += "" if channel is None else f" --channel {channel + 1}"
    return [
        *([f"{python} -m scripts.diagnose {shlex.quote(str(run_dir))}"] if has_findings else []),
        f"{board} --logdir {shlex.quote(config.runs_dir)}",
        *([] if (run_dir / "report.html").exists() else [f"{python} -m scripts.report {shlex.quote(str(run_dir))}"]),
        f"{python} -m scripts.transcribe {shlex.quote(str(run_dir / 'model'))} {heard}",
        *([] if isinstance(config.corpus, GivenConfig) else [doctor]),
        f"{python} -m scripts.verify_run {shlex.quote(str(run_dir))}",
    ]


def from_here(path: str) -> str:
    """`path`, relative to the current folder where it lies below it."""
    return os.path.relpath(path) if Path(path).absolute().is_relative_to(Path.cwd()) else path
