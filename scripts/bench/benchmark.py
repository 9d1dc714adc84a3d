"""Time this trainer against transformers' Trainer: same manifest, weights and steps, runs alternating.

    python -m scripts.bench.benchmark tiny [--manifest DIR/train.jsonl DIR/test.jsonl] [--rounds 5] [--out tiny.json]

There are three sides. `ours` is `python -m trainer.run manifest ...`; its figures come from the run's own records. `hf`
is the Trainer as the reference run used it, `hf-tuned` is as fast as its options make it; both are in
scripts.bench.against.hf_trainer. Each run starts with empty caches. Training time excludes evaluations and saves.
"whole run" is the process from start to end: imports, decoding, the final evaluation (ours has two, the monitored and
the closing one) and export; a second table splits it into phases. Peak memory is the resident maximum of the process
(Linux), on CUDA that of the allocator. Without --manifest the data are tones.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from scripts.bench.against.report import (
    Figures,
    markdown,
    markdown_of_phases,
    summarize,
)
from scripts.bench.against.workloads import WORKLOADS
from trainer.cli.arguments import ArgumentParser, count
from trainer.cli.parse import report_errors
from trainer.errors import ConfigError

SIDES = ("ours", "hf", "hf-tuned")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the rounds, print the table."""
    return report_errors(lambda: run_rounds(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.bench.benchmark", description=__doc__ or "")
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--manifest", nargs=2, type=Path, metavar=("TRAIN", "EVAL"), help="a manifest pair")
    parser.add_argument("--rounds", type=count, default=5)
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--steps", type=count, default=None, help="cap on the training steps")
    parser.add_argument("--epochs", type=count, default=None)
    parser.add_argument("--batch-size", type=count, default=None)
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default=None)
    parser.add_argument("--device", choices=("cpu", "cuda"), default=None)
    parser.add_argument("--threads", type=count, default=os.cpu_count(), help="OMP_NUM_THREADS of every side")
    parser.add_argument("--weights", type=Path, default=None, help="a checkpoint folder instead of random weights")
    parser.add_argument("--tones", type=count, nargs=2, default=(400, 100), help="utterances of the generated corpus")
    parser.add_argument("--out", type=Path, default=None, help="where the JSON goes")
    options = parser.parse_args(argv)
    for path in (*(options.manifest or ()), *([options.weights / "config.json"] if options.weights else ())):
        if not path.is_file():
            raise ConfigError(f"{path}: no such file.")
    return options


def run_rounds(options: Namespace, keep: Callable[[str, Figures], None] = lambda side, figures: None) -> int:
    """Run the rounds, print the table. `keep` gets each side's name and figures as soon as it has run."""
    from scripts.bench.against.sides import Job, run_hf, run_ours, write_weights
    from scripts.bench.against.tones import write_tone_corpus
    from trainer.card.text import versions

    given = {"epochs": options.epochs, "max_steps": options.steps, "batch_size": options.batch_size,
             "precision": options.precision, "device": options.device}  # fmt: skip
    workload = replace(WORKLOADS[options.workload], **{k: v for k, v in given.items() if v is not None})
    rounds: dict[str, list[Figures]] = {side: [] for side in options.sides}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        train, scored = options.manifest or write_tone_corpus(folder / "tones", *options.tones)
        weights = options.weights or write_weights(folder / "weights", workload, train)
        for number in range(options.rounds):
            # the first side changes from round to round
            order = options.sides[number % len(options.sides) :] + options.sides[: number % len(options.sides)]
            for side in order:
                with tempfile.TemporaryDirectory(dir=folder) as own:
                    job = Job(
                        workload, weights.resolve(), train.resolve(), scored.resolve(), Path(own), options.threads
                    )
                    figures = run_ours(job) if side == "ours" else run_hf(job, tuned=side == "hf-tuned")
                rounds[side].append(figures)
                keep(side, figures)
                print(f"round {number + 1}, {side}: {json.dumps(figures)}", file=sys.stderr, flush=True)
    summary = summarize(rounds)
    record = {"workload": options.workload, "options": asdict(workload), "threads": options.threads,
              "versions": versions(), "rounds": rounds, **summary}  # fmt: skip
    if options.out:
        options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"{markdown(summary)}\n\n{markdown_of_phases(summary)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
