"""Say why a run does not learn, from its folder: causes, the numbers that show them, and what to change.

    python -m scripts.diagnose runs/NAME [--json]

The run may be over, stopped, or still training. Nothing is changed, and neither its corpus nor its model is needed. A
run of an older version, which has no facts.json, is judged by the rest of its files.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from trainer.cli.arguments import ArgumentParser
from trainer.cli.parse import report_errors
from trainer.cli.streams import say


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 nothing was found, 1 something was, 2 the folder holds no run that can be judged."""
    return report_errors(lambda: tell(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.diagnose", description=(__doc__ or "").strip())
    parser.add_argument("run", metavar="runs/NAME", type=Path, help="the run's folder")
    parser.add_argument("--json", action="store_true", help="print the findings as a list of objects")
    return parser.parse_args(argv)


def tell(args: Namespace) -> int:
    """Print what is found. Returns the exit code."""
    from trainer.cli.console import Console
    from trainer.diagnosis.causes import diagnose
    from trainer.diagnosis.folder import NEED_FACTS, has_facts, read_evidence
    from trainer.diagnosis.learnt import learnt_line

    evidence, console = read_evidence(args.run), Console(sys.stdout)
    if not has_facts(args.run):
        say(
            f"warning: {args.run}: it has no facts.json, as runs of older versions. What cannot be told without: "
            f"{', '.join(NEED_FACTS)}, and training transcripts beside their audio."
        )
    findings = diagnose(evidence)
    if args.json:
        print(json.dumps([finding.record() for finding in findings], indent=2))
        return 1 if findings else 0
    state = "over" if evidence.is_over else "not over"
    console.say(f"{args.run}: {evidence.step} of {evidence.facts.total_steps} steps, {state}")
    for finding in findings:
        console.say(finding.line())
    if not findings:
        console.say("no cause of bad training was found")
    if line := learnt_line(args.run, evidence.facts.unigram_entropy):
        console.say(line)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
