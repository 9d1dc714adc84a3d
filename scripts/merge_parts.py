"""One result of the parts in which several processes scored a corpus.

    python -m scripts.evaluate MODEL shards --corpus.eval SHARDS --corpus.part 1/4     (and 2/4, 3/4, 4/4)
    python -m scripts.merge_parts runs/evaluate-MODEL-part-*-of-4 --out runs/evaluate-MODEL

The integer counts of all utterances are summed and divided once, so the result is that of one process. Every part must
be there once, of one model and one corpus. results.json and hypotheses.jsonl are written to the folder OUT.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from trainer.cli.arguments import ArgumentParser
from trainer.cli.parse import report_errors
from trainer.errors import ResultsError


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 merged, 2 a part is missing or does not belong to the others."""
    return report_errors(lambda: run(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.merge_parts", description=(__doc__ or "").strip())
    parser.add_argument("parts", metavar="RUN", nargs="+", type=Path, help="folder of one part's results")
    parser.add_argument("--out", type=Path, required=True, help="folder of the merged results")
    return parser.parse_args(argv)


def run(args: Namespace) -> int:
    """Merge the parts and write the results."""
    from trainer.rundir.merging import merge_parts
    from trainer.rundir.results import describe, split_record, write_hypotheses, write_json

    if (args.out / "results.json").exists():
        raise ResultsError(f"{args.out}: holds results already. Give another --out, or delete them.")
    merged, results, notes = merge_parts(args.parts)
    records = {scores.split: split_record(scores, "given", notes.get(scores.split, "")) for scores in merged}
    headline = records[results["headline"]]
    results |= {key: value for key, value in headline.items() if key in results} | {"splits": records}
    args.out.mkdir(parents=True, exist_ok=True)
    write_hypotheses(args.out / "hypotheses.jsonl", merged)
    write_json(args.out / "results.json", results)
    for scores in merged:
        print(describe(scores))
    return 0


if __name__ == "__main__":
    sys.exit(main())
