"""Measure each lever of speed and memory on this machine: a training step with and without it, alternating.

    python -m scripts.bench.levers [--size tiny] [--rounds 7] [--only table,graphs] [--out levers.json]

The batches are noise of one size (default 16 x 2.25 s). "Before" uses transformers' modules or torch's default in that
place. Everything else is our code on both sides. The figures of a lever are printed and written as soon as it is
measured; a lever that fails costs only itself.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.families import SIZES
from scripts.bench.gpu.record import write_json
from trainer.cli.arguments import ArgumentParser, count, names, seconds
from trainer.cli.parse import report_errors

TITLES = {
    "front-end": "step: channels-last front end",
    "transformer": "step: our transformer (one mask, SDPA, no host sync)",
    "positions": "step: positions by Fourier transform",
    "modules": "step: all of these",
    "inference": "forward pass without gradient, all of these",
    "turns": "the same: front end in turns that fit the caches",
    "mask": "step: no mask where nothing is padded",
    "adamw": "AdamW's update alone: fused, not foreach",
    "half-copies": "step: weights rounded once an update, not by autocast (CUDA)",
    "table": "frozen step: features from the table",
    "frozen-all": "frozen step: table and our modules, against neither",
    "graphs": "frozen step: passes captured as CUDA graphs",
    "linear": "frozen step: query, key and value in one product, bias gradients as products (CUDA)",
    "layer-norm": "frozen step: layer norms in half precision, with statistics in fp32 (CUDA)",
    "attention": "frozen step: attention on the kernel that is fastest here, not on torch's choice (CUDA)",
    "clip": "frozen step: fp16's scale and clipping inside AdamW's kernel (CUDA)",
    "graphs-all": "frozen step: graphs, table, half copies, our modules, against none of them (CUDA)",
    "ctc": "frozen step: CTC in float64, not in float32 (a cost, for exact gradients)",
    "checkpointing": "frozen step: activation checkpointing",
}
"""Name -> what its line in the table is called, in the order in which levers are measured."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 all were measured, 1 a lever failed, 2 an option is wrong."""
    return report_errors(lambda: run(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.bench.levers", description=__doc__ or "")
    parser.add_argument("--only", type=names(TITLES), default=None, metavar="LEVER,LEVER",
                        help=f"those to measure (all that this machine can), of: {', '.join(TITLES)}")  # fmt: skip
    parser.add_argument("--size", default="tiny", choices=SIZES)
    parser.add_argument("--precision", default=None, choices=("fp32", "bf16", "fp16"), help="fp16 on CUDA, else fp32")
    parser.add_argument("--rounds", type=count, default=7)
    parser.add_argument("--batch-size", type=count, default=16)
    parser.add_argument("--seconds", type=seconds, default=2.25, help="audio per utterance")
    parser.add_argument("--out", type=Path, default=None, help="where the JSON goes")
    return parser.parse_args(argv)


def run(options: Namespace) -> int:
    """Print a Markdown table; write the figures as JSON too if asked."""
    from scripts.bench.lever_work import measure_levers

    found: dict[str, Any] = {}

    def keep(name: str, figures: dict[str, Any]) -> None:
        found[name] = figures
        if options.out is not None:
            write_json(options.out, found)

    measure_levers(options, keep)
    return int(any("failed" in figures for figures in found.values()))


if __name__ == "__main__":
    sys.exit(main())
