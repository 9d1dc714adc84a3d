"""The golden loss curve: compare the losses of a small run of 20 steps with a file, to show that a change left them.

python -m scripts.checks.golden_curve            compare with tests/golden_curve.json
python -m scripts.checks.golden_curve --write    write it anew: only when the curve was meant to change
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from trainer.cli.arguments import ArgumentParser
from trainer.cli.parse import report_errors
from trainer.errors import TrainingStopped

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden_curve.json"
NUM_STEPS = 20
RELATIVE_TOLERANCE = 1e-3
"""Processors add in different orders; 20 steps amplify this to about 1e-4. A change of method shows as 1e-2."""


def loss_curve(cache_dir: str) -> list[float]:
    """The training losses of the first steps: tiny model, tiny corpus, masks and dropout on, fp32, CPU."""
    with tempfile.TemporaryDirectory() as runs:
        options = [
            "demo", "--corpus.size", "tiny", "--cache-dir", cache_dir, "--runs-dir", runs, "--device", "cpu",
            "--model.hidden-dropout", "0.1", "--model.mask-time-prob", "0.05", "--model.size", "tiny",
            "--batching.batch-size", "8", "--train.grad-accum-steps", "2", "--train.epochs", "10",
            "--train.max-steps", str(NUM_STEPS), "--train.log-every", "1", "--train.eval-every", "0",
            "--optim.lr", "1e-3", "--optim.warmup-steps", "5",
        ]  # fmt: skip
        command = [sys.executable, "-m", "trainer.run", *options]
        done = subprocess.run(command, cwd=GOLDEN.parent.parent, capture_output=True, text=True)
        if done.returncode:  # what it says of a run that is not kept is of use only then
            print(done.stderr, end="", file=sys.stderr)
            raise TrainingStopped(f"the run of {NUM_STEPS} steps ended with exit code {done.returncode}: see above.")
        lines = (Path(runs) / "demo" / "metrics.jsonl").read_text().splitlines()
    return [record["train/loss"] for record in map(json.loads, lines) if "train/loss" in record]


def worst_difference(curve: list[float], golden: list[float]) -> float:
    """The largest relative difference of any step."""
    return max(abs(a - b) / abs(b) for a, b in zip(curve, golden, strict=True))


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 unchanged or written, 1 changed, 2 something in the options is wrong."""
    return report_errors(lambda: compare_or_write(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.checks.golden_curve", description=__doc__ or "")
    parser.add_argument("--write", action="store_true", help="replace the curve on file")
    parser.add_argument("--cache-dir", default="cache", help="folder of the synthetic corpus")
    return parser.parse_args(argv)


def compare_or_write(args: Namespace) -> int:
    """Train, and compare or write."""
    curve = loss_curve(args.cache_dir)
    if args.write:
        GOLDEN.write_text(json.dumps(curve, indent=1) + "\n")
        print(f"wrote {GOLDEN}")
        return 0
    difference = worst_difference(curve, json.loads(GOLDEN.read_text()))
    verdict = "unchanged" if difference <= RELATIVE_TOLERANCE else "CHANGED"
    print(f"loss curve of {NUM_STEPS} steps: {verdict}; worst relative difference {difference:.1e} "
          f"(tolerance {RELATIVE_TOLERANCE:.0e})")  # fmt: skip
    return 0 if difference <= RELATIVE_TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
