"""Simulate how a run over a large corpus starts, and how its batches fall to many processes, without any of them.

    python -m scripts.bench.scale.simulate [--utterances 10000 1000000 10000000] [--ranks 1 8 64 1024] [--out FILE]

For each number of utterances and of ranks (processes of a run), one process does what rank 0 of such a run does until
it has its first batch: it imports the trainer, maps an array of lengths from the disk, plans the first epoch, counts
the steps of the whole run, deals the first step to the ranks and makes the tensors of its own share, with noise as
audio. Then it goes on in the middle of the last epoch, as a resumed run would. Lengths are drawn from a normal
distribution.

The first table shows what that takes, in seconds of one core, which other work on the machine hardly changes. On an
idle machine the clock shows about the same. Memory is the most that the process had in all, imports and mapped files
included.

The second table shows how even the work of the ranks is. Padding is the share of the ranks' audio that only fills their
batches up. Waiting is the share of their time that ranks wait for the slowest, if time is what a padded batch costs in
floating-point operations. Lost is the share that goes to either. "In turn" is what the usual way would give: the first
utterance of a batch to the first rank, the next to the next.

    ... --batch-size 32         utterances for each rank, which is the default
    ... --batch-seconds 100     a budget of padded seconds for each rank
    ... --frame-grid 8          batches padded to shapes on a grid, as on a GPU
    ... --speeds 0.9 1 1.1      speed perturbation, which draws a factor for each id in every epoch
    ... --within 20 2           exit code 1 unless each first batch took at most 20 s of a core and 2 GB
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.cli.arguments import ArgumentParser, count, seconds
from trainer.cli.parse import report_errors

START = [
    ("utterances", "{utterances:,}"), ("ranks", "{ranks}"), ("steps an epoch", "{steps:,}"),
    ("imports [s]", "{imports:.1f}"), ("plan [s]", "{plan:.2f}"), ("steps counted [s]", "{counting:.2f}"),
    ("dealt and made [s]", "{making:.2f}"), ("first batch [s]", "{cpu:.1f}"), ("by the clock [s]", "{first_batch:.1f}"),
    ("going on [s]", "{going_on:.2f}"), ("memory [MB]", "{memory:.0f}"),
]  # fmt: skip
BALANCE = [
    ("utterances", "{utterances:,}"), ("ranks", "{ranks}"), ("utterances a step", "{a_step:,.0f}"),
    ("dealt in [ms]", "{dealing:.2f}"), ("padding", "{padding:.2%}"), ("waiting", "{waiting:.2%}"),
    ("lost", "{lost:.2%}"), ("in turn: padding", "{padding_in_turn:.2%}"), ("waiting", "{waiting_in_turn:.2%}"),
    ("lost", "{lost_in_turn:.2%}"),
]  # fmt: skip
"""Columns of the two tables."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables."""
    return report_errors(lambda: simulate(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(
        prog="python -m scripts.bench.scale.simulate", description=(__doc__ or "").replace("%", "%%")
    )
    parser.add_argument("--utterances", type=count, nargs="+", default=[10**4, 10**5, 10**6, 10**7])
    parser.add_argument("--ranks", type=count, nargs="+", default=[1, 8, 64, 1024])
    parser.add_argument("--batch-size", type=count, default=None, help="utterances for each rank (default: 32)")
    parser.add_argument("--batch-seconds", type=seconds, default=None, help="padded audio for each rank at most")
    parser.add_argument("--grad-accum-steps", type=count, default=1)
    parser.add_argument("--frame-grid", type=count, default=1, help="frames are padded to a multiple of this")
    parser.add_argument("--speeds", type=seconds, nargs="*", default=[])
    parser.add_argument("--epochs", type=count, default=20)
    parser.add_argument("--mean", type=seconds, default=12.0, help="seconds of an utterance (default: 12)")
    parser.add_argument("--deviation", type=seconds, default=4.0, help="their standard deviation (default: 4)")
    parser.add_argument("--size", default="large", help="the encoder whose operations make time: base or large")
    parser.add_argument("--steps", type=count, default=40, help="of the first epoch, whose balance is looked at")
    parser.add_argument("--within", type=seconds, nargs=2, metavar=("SECONDS", "GB"), default=None)
    parser.add_argument("--out", type=Path, default=None, help="where the JSON goes")
    options = parser.parse_args(argv)
    if options.batch_size is None and options.batch_seconds is None:
        options.batch_size = 32
    return options


def simulate(options: Namespace) -> int:
    """Measure, print the tables, and return the exit code."""
    import numpy as np

    shared = {k: v for k, v in vars(options).items() if k not in ("utterances", "ranks", "out", "within")}
    record: dict[str, Any] = {"options": shared, "starts": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in options.utterances:
            lengths = np.random.default_rng(0).normal(options.mean, options.deviation, number)
            lengths = (np.clip(lengths, 1, options.mean + 5 * options.deviation) * 16_000).astype(np.int64)
            np.save(Path(folder) / "lengths.npy", lengths)
            del lengths
            for ranks in options.ranks:
                record["starts"].append(start({**shared, "ranks": ranks, "lengths": f"{folder}/lengths.npy"}))
                print(f"{number:,} utterances, {ranks} ranks: done", file=sys.stderr, flush=True)
    for title, columns in (("How a run starts", START), ("How even the work of the ranks is", BALANCE)):
        print(f"\n{title}:\n")
        print_table(columns, record["starts"])
    if options.out:
        options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return verdict(record["starts"], *options.within) if options.within else 0


def start(spec: dict[str, Any]) -> dict[str, Any]:
    """What scripts.bench.scale.simulated_start finds in a process of its own."""
    spec["started"] = time.time()
    command = [sys.executable, "-m", "scripts.bench.scale.simulated_start", json.dumps(spec)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def print_table(columns: Sequence[tuple[str, str]], rows: Sequence[dict[str, Any]]) -> None:
    """Print `rows` as a table in Markdown, which a terminal shows well, too."""
    cells = [[title for title, _ in columns], *([form.format(**row) for _, form in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for k, row in enumerate(cells):
        print("| " + " | ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + " |")
        if k == 0:
            print("|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|")


def verdict(starts: Sequence[dict[str, Any]], most_seconds: float, most_gb: float) -> int:
    """Say whether each first batch came in time and within memory; 1 if one did not."""
    over = [s for s in starts if s["cpu"] > most_seconds or s["memory"] > 1000 * most_gb]
    for s in over:
        print(
            f"\n{s['utterances']:,} utterances on {s['ranks']} ranks: first batch after {s['cpu']:.1f} s with "
            f"{s['memory'] / 1000:.2f} GB; wanted: {most_seconds:g} s, {most_gb:g} GB"
        )
    if not over:
        print(f"\nevery first batch took at most {most_seconds:g} s and {most_gb:g} GB")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
