"""Run transformers' Trainer on a manifest, for scripts.bench.benchmark. It prints one line of JSON to stdout.

    python -m scripts.bench.against.hf_side '{"tuned": true, "weights": "W", "train": "train.jsonl", ...}'

SPEC is a JSON object with the keys that scripts.bench.benchmark gives it. The Trainer's settings are in
scripts.bench.against.hf_trainer.
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentTypeError
from collections.abc import Sequence
from typing import Any

from trainer.cli.arguments import ArgumentParser
from trainer.cli.clock import Clock
from trainer.cli.parse import report_errors

KEYS = (
    "tuned", "weights", "train", "eval", "scratch", "has_sdpa", "freeze", "only_evaluate", "device", "seed", "epochs",
    "max_steps", "batch_size", "lr", "warmup_steps", "weight_decay", "precision", "log_every", "eval_every",
    "save_every", "num_workers",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 2 the specification is wrong."""
    return report_errors(lambda: run(parse(argv)))


def parse(argv: Sequence[str] | None) -> dict[str, Any]:
    """The specification on the command line; ConfigError when it cannot be."""
    parser = ArgumentParser(prog="python -m scripts.bench.against.hf_side", description=__doc__ or "")
    parser.add_argument("spec", metavar="SPEC", type=specification, help="a JSON object")
    return parser.parse_args(argv).spec


def specification(text: str) -> dict[str, Any]:
    """The object that `text` is; ArgumentTypeError when it is none or lacks a key."""
    try:
        spec = json.loads(text)
    except ValueError as error:
        raise ArgumentTypeError(f"not JSON ({error})") from None
    if not isinstance(spec, dict) or (missing := sorted(set(KEYS) - spec.keys())):
        raise ArgumentTypeError(f"lacks {', '.join(missing)}" if isinstance(spec, dict) else "not a JSON object")
    return spec


def run(spec: dict[str, Any]) -> int:
    """Train or evaluate, and print the figures."""
    clock = Clock.of_process()
    with clock.phase("imports"):
        from scripts.bench.against.hf_trainer import train

    print("\n" + json.dumps(train(spec, clock)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
