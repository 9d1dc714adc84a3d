"""Add up what the reliability tests recorded, and print it: the end of `make test-reliability`.

    python -m scripts.checks.reliability_summary REPORT.jsonl

    {"kind": "fault", "test": NAME, "injected": n, "survived": n, "resumes": n, "bit_exact": n}
    {"kind": "bad-input", "test": NAME, "tried": n, "refused": n, "accepted_wrongly": n}

The exit code is 1 if a run did not survive a fault or did not resume exactly, if a bad input was accepted wrongly, or
if nothing was recorded.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from trainer.cli.arguments import ArgumentParser
from trainer.cli.parse import report_errors

COLUMNS = {
    "fault": ("injected", "survived", "resumes", "bit_exact"),
    "bad-input": ("tried", "refused", "accepted_wrongly"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 everything is as promised, 1 something is not, 2 there is no report."""
    return report_errors(lambda: summarise(parse(argv).report))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.checks.reliability_summary", description=__doc__ or "")
    parser.add_argument("report", metavar="REPORT.jsonl", type=Path)
    return parser.parse_args(argv)


def summarise(report: Path) -> int:
    """Print the sums. Returns the exit code: 0 if everything is as promised."""
    totals = {kind: Counter[str]() for kind in COLUMNS}
    by_test: dict[tuple[str, str], Counter[str]] = {}
    for line in report.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        kind, test = record["kind"], record.get("test", "").partition("[")[0]
        counts = {column: record.get(column, 0) for column in COLUMNS[kind]}
        totals[kind].update(counts)
        by_test.setdefault((kind, test), Counter()).update(counts)
    for kind, columns in COLUMNS.items():
        print(f"{''.join(f'{column:>18}' for column in columns)}")
        for (of_kind, test), counts in by_test.items():
            if of_kind == kind:
                print(f"{''.join(f'{counts[column]:18,}' for column in columns)}  {test}")
    fault, bad = totals["fault"], totals["bad-input"]
    print(
        f"faults injected: {fault['injected']:,}, survived: {fault['survived']:,}; "
        f"resumes: {fault['resumes']:,}, bit-exact: {fault['bit_exact']:,}"
    )
    print(f"bad inputs tried: {bad['tried']:,}, refused: {bad['refused']:,}, "
          f"accepted wrongly: {bad['accepted_wrongly']:,}")  # fmt: skip
    kept = fault["injected"] == fault["survived"] > 0 and fault["resumes"] == fault["bit_exact"] > 0
    return 0 if kept and bad["tried"] > 0 and bad["accepted_wrongly"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
