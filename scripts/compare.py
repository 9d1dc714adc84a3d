"""Compare finished runs on the utterances that all of them scored: is the difference real, and where does it lie?

    python -m scripts.compare runs/A runs/B [runs/C ...] [--media all|none] [--out FILE] [--trn DIR]
    python -m scripts.compare runs/A-seeds.json runs/B-seeds.json

The terminal shows every run's error rates with intervals, NIST's matched-pairs test (MAPSSWE), the paired bootstrap by
speaker, the effect size, and the options that differ. The page runs/LAST/compare-A.html shows the same and every
utterance. --trn writes reference and transcripts for NIST's sclite and sc_stats. Two summaries of `--seeds` are
compared by Welch's test on the runs. docs/compare.md explains the figures.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from data.plural import counted
from scripts.report import add_options, media_of
from trainer.cli.arguments import ArgumentParser
from trainer.cli.parse import report_errors
from trainer.errors import ConfigError

MOST_RUNS = 8


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 compared, 2 something in options, runs or disk is wrong, or nothing can be compared."""
    return report_errors(lambda: compare(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.compare", description=(__doc__ or "").strip())
    parser.add_argument("runs", nargs="+", type=Path, metavar="runs/NAME", help="finished runs, two to eight")
    add_options(parser)
    parser.add_argument("--trn", type=Path, metavar="DIR", help="write transcripts for NIST's tools there")
    args = parser.parse_args(argv)
    if not 2 <= len(args.runs) <= MOST_RUNS:
        number = counted(len(args.runs), "run")
        raise ConfigError(f"{number}: give 2 to {MOST_RUNS} to compare.")
    if any(run.suffix == ".json" for run in args.runs) and len(args.runs) > 2:
        raise ConfigError(f"{len(args.runs)} paths: give two where one is a summary of --seeds.")
    return args


def compare(args: Namespace) -> int:
    """Write the comparison, and print what it found."""
    from trainer.cli.console import for_stdout
    from trainer.report.comparable import read_runs
    from trainer.report.compare import write_comparison
    from trainer.report.seeds import compare_summaries
    from trainer.report.trn import write_trn

    runs = args.runs
    if any(run.suffix == ".json" for run in runs):
        print(for_stdout(compare_summaries(*runs)))
        return 0
    read_runs(runs)  # what cannot be compared is said before a model is read
    if args.trn:
        print(write_trn(runs, args.trn))
    source, why_none, most_bytes = media_of(runs[-1], args)
    path = args.out or runs[-1] / f"compare-{'-'.join(run.resolve().name for run in runs[:-1])}.html"
    print(for_stdout(write_comparison(runs, path, source, why_none=why_none, most_bytes=most_bytes)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
