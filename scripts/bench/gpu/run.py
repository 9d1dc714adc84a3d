"""The reference recipe as a user runs it: timit-hf with random weights, a process, an empty cache, no report."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.corpora.synthetic.tree import ensure_tree
from scripts.bench.gpu.record import Record, parse_part, timit_hf_options
from trainer.cli.parse import report_errors

WINDOW = 100
"""Steps that share one line of the condensed metrics."""
SECONDS_BETWEEN_LOOKS = 5.0


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of the run; 2 too when an option is wrong."""
    return report_errors(lambda: run(parse_part(argv, "run", __doc__ or "")))


def run(options: Namespace) -> int:
    """Run the process; what its records hold so far is written every few seconds."""
    record, folder = Record(options.out), options.scratch / "runs" / "run"
    command = command_line(options, ensure_tree(options.corpus, 0, options.cache_dir), options.scratch)
    record.add(command=command)
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command])
    code = None
    while code is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(timeout=SECONDS_BETWEEN_LOOKS)
        seconds = round(time.perf_counter() - begin, 2)
        metrics = condense(folder / "metrics.jsonl")
        evaluations = metrics["evaluations"]
        evaluation = statistics.median(e["seconds"] for e in evaluations) if evaluations else None
        record.add(
            headline={"wall_seconds": seconds, "steps": metrics["step"], "wer": evaluations and evaluations[-1]["wer"],
                      "audio_rate": metrics["audio_rate"], "evaluation_seconds": evaluation},
            wall_seconds=seconds, exit_code=code, metrics=metrics,
        )  # fmt: skip
    if (folder / "results.json").exists():
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        record.add(
            results=results,
            headline={"wall_seconds": seconds, "steps": results["steps"], "wer": results["wer"],
                      "audio_rate": results["audio_seconds_per_second"], "evaluation_seconds": evaluation,
                      "clock": results.get("clock")},
        )  # fmt: skip
    return code


def command_line(options: Namespace, tree: Path, scratch: Path) -> list[str]:
    """Python's arguments. A run shorter than the recipe's 2900 steps warms up and evaluates in proportion."""
    steps = options.run_steps
    return [
        "-m", "trainer.run", *timit_hf_options(options, tree), "--train.max-steps", str(steps),
        "--optim.warmup-steps", str(min(1000, steps // 2)), "--train.eval-every", str(min(100, max(1, steps // 3))),
        "--no-report", "--cache-dir", str(scratch / "cache"), "--runs-dir", str(scratch / "runs"), "--name", "run",
    ]  # fmt: skip


def condense(path: Path) -> dict[str, Any]:
    """metrics.jsonl with a line for each evaluation and one for each WINDOW of steps; its last line may be cut short.

    "step" is the last that was logged. Rates are medians over the logs of the window.
    """
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    evaluations = [
        {"step": r["step"], **{key: r.get(f"eval/{key}") for key in ("wer", "cer", "loss", "seconds")}}
        for r in records
        if "eval/wer" in r
    ]
    training = [r for r in records if "train/loss" in r]
    windows: dict[int, list[dict[str, Any]]] = {}
    for r in training:
        windows.setdefault(-(-r["step"] // WINDOW) * WINDOW, []).append(r)
    return {
        "step": training[-1]["step"] if training else 0,
        "audio_rate": median(training),
        "num_skipped": training[-1].get("train/num_skipped") if training else None,
        "evaluations": evaluations,
        "evaluation_seconds": round(sum(e["seconds"] for e in evaluations), 2),
        "training": [
            {"until_step": until, "loss": round(some[-1]["train/loss"], 4), "audio_rate": median(some)}
            for until, some in windows.items()
        ],
    }


def median(records: Sequence[dict[str, Any]]) -> float | None:
    """The median rate in audio seconds per second; None without records."""
    rates = [r["train/audio_seconds_per_second"] for r in records if r.get("train/audio_seconds_per_second")]
    return round(statistics.median(rates), 1) if rates else None


if __name__ == "__main__":
    sys.exit(main())
