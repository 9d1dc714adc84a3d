"""The last lines of a run: a warning if the model writes nothing, and commands to paste."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from trainer.cli.console import Console
from trainer.config.schema import Config
from trainer.rundir.alarms import ALL_BLANK


def conclude(config: Config, argv: Sequence[str], blank_share: float, console: Console) -> None:
    """Warn if the model writes only blanks, then print commands to go on with."""
    if blank_share >= ALL_BLANK:
        console.warn(
            f"the model writes only blanks ({100 * blank_share:.1f} % of frames): it was trained too little, or not at "
            "all well. More steps (--train.epochs) come first, then --optim.lr; see docs/troubleshooting.md."
        )
    console.say("next:")
    for command in next_commands(config, argv):
        console.say(f"  {command}", wrap=False)


def next_commands(config: Config, argv: Sequence[str]) -> list[str]:
    """Commands for a complete run, ready to be pasted into a shell."""
    run_dir, model = (shlex.quote(str(path)) for path in (config.run_dir, config.run_dir / "model"))
    corpus = "".join(f" {shlex.quote(word)}" for word in corpus_options(argv))
    return [
        f"tensorboard --logdir {shlex.quote(config.runs_dir)}",
        f"python -m scripts.report {run_dir}",
        f"python -m scripts.transcribe {model} FILE",
        f"python -m scripts.evaluate {model} {config.preset}{corpus}",
        f"python -m scripts.verify_run {run_dir}",
    ]


def corpus_options(argv: Sequence[str]) -> list[str]:
    """The options of a command line that say which corpus is used and where it lies, with their values.

    >>> corpus_options(["manifest", "--corpus.eval", "e.jsonl", "--seed", "3", "--cache-dir=c"])
    ['--corpus.eval', 'e.jsonl', '--cache-dir=c']
    """
    kept, keep = [], False
    for word in argv:
        keep = word.startswith(("--corpus.", "--cache-dir", "--cache_dir")) if word.startswith("--") else keep
        kept += [word] if keep else []
    return kept
