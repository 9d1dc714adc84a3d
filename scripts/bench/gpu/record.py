"""What a part of gpu_check finds, on the disk at every moment; and the options that all parts share."""

from __future__ import annotations

import json
import shlex
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.cli.arguments import ArgumentParser, count
from trainer.errors import ConfigError

SIZES = ("tiny", "base", "large")
CORPORA = ("tiny", "demo", "full")


class Record:
    """A JSON object in a file. Every change is written at once, so that a part that is stopped leaves what it found."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.found = path, dict[str, Any]()

    def add(self, **found: Any) -> None:
        """Set these keys and write the file; without a path they are only kept."""
        self.found |= found
        if self.path is not None:
            write_json(self.path, self.found)


def write_json(path: Path, content: Any) -> None:
    """Write `content`; a reader finds the old file or the new one, never a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def add_common_options(parser: ArgumentParser) -> None:
    """The options that gpu_check hands on to every part."""
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu: with a tiny model, a rehearsal")
    parser.add_argument("--size", default="large", choices=SIZES, help="size of the model")
    parser.add_argument("--corpus", default="full", choices=CORPORA, help="synthetic corpus")
    parser.add_argument("--cache-dir", type=Path, default=Path("cache"), help="folder of the synthetic corpus")
    parser.add_argument("--steps", type=count, default=None, help="timed steps of each variant (36; on a CPU 3)")
    parser.add_argument("--run-steps", type=count, default=None, help="steps of the whole run (2900; on a CPU 12)")
    parser.add_argument("--trainer-steps", type=count, default=None, help="steps beside the Trainer (150; on a CPU 3)")
    parser.add_argument(
        "--options", default="", help="more options of trainer.run for `step` and `run`, in one word: '--seed 1'"
    )


def parse_part(argv: Sequence[str] | None, name: str, doc: str) -> Namespace:
    """The options of the part `name`; those without a default for every device are filled in."""
    parser = ArgumentParser(prog=f"python -m scripts.bench.gpu.{name}", description=doc)
    add_common_options(parser)
    parser.add_argument("--out", type=Path, default=None, help="where the JSON goes")
    parser.add_argument("--scratch", type=Path, default=Path("."), help="folder for what need not stay")
    return with_defaults(parser.parse_args(argv))


def with_defaults(options: Namespace) -> Namespace:
    """`options` checked, with the number of steps filled in. ConfigError when an option is wrong."""
    on_cpu = options.device == "cpu"
    if not on_cpu and options.device.partition(":")[0] != "cuda":
        raise ConfigError(f"--device {options.device}: give cuda, cuda:N or cpu.")
    for name, on_cuda_steps, on_cpu_steps in (("steps", 36, 3), ("run_steps", 2900, 12), ("trainer_steps", 150, 3)):
        if getattr(options, name) is None:
            setattr(options, name, on_cpu_steps if on_cpu else on_cuda_steps)
    try:
        shlex.split(options.options)
    except ValueError as error:
        raise ConfigError(f"--options {options.options!r}: {error}.") from None
    return options


def common_arguments(options: Namespace) -> list[str]:
    """`options` as the command line of a part."""
    return [
        "--device", options.device, "--size", options.size, "--corpus", options.corpus,
        "--cache-dir", str(options.cache_dir), "--steps", str(options.steps), "--run-steps", str(options.run_steps),
        "--trainer-steps", str(options.trainer_steps), f"--options={options.options}",
    ]  # fmt: skip


def timit_hf_options(options: Namespace, tree: Path) -> list[str]:
    """The command line of `trainer.run` for the reference recipe on a synthetic tree, with random weights.

    On a CPU, for a rehearsal, with small batches.
    """
    small = ["--batching.batch-size", "4"] if options.device == "cpu" else []
    return [
        "timit-hf", "--corpus.root", str(tree), "--model.size", options.size, "--model.freeze-feature-encoder",
        "--optim.lr", "1e-4", "--device", options.device, *small, *shlex.split(options.options),
    ]  # fmt: skip
