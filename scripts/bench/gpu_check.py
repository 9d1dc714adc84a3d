"""Minutes with a GPU, used to the last: one call runs tests and measurements at full size, each written down at once.

    python -m scripts.bench.gpu_check --out DIR [--only tests,step,...] [--budget 540]
    python -m scripts.bench.gpu_check --device cpu --size tiny --corpus tiny --out DIR      a rehearsal on a CPU
    python -m scripts.bench.gpu_check --list

DIR gets a file for each part, with its outcome, all that it found and the end of its output, and summary.json, which is
rewritten after each part. Each part is a process with a share of the budget; a part that hangs or crashes costs only
itself. First the corpus is synthesised (`prepare`), unless --cache-dir holds it.
"""

from __future__ import annotations

import signal
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from scripts.bench.gpu.record import add_common_options, common_arguments, with_defaults
from scripts.bench.gpu.runner import Part, run_parts
from trainer.cli.arguments import ArgumentParser, count, names
from trainer.cli.parse import report_errors
from trainer.cli.segments import allocator_settings

AS_TRAINER_RUN = allocator_settings()
"""What trainer.run sets, for parts that train in their own process."""
# its share is twice what it needs, since every part would have to make the corpus that it did not finish
PREPARE = Part("prepare", 60, "always first: the device, and the synthetic corpus", is_vital=True)
PARTS = {
    part.name: part
    for part in (
        Part("tests", 70, "all tests marked gpu, one result at a time"),
        Part("levers", 40, "a training step on noise with and without each lever of scripts.bench.levers",
             environment=AS_TRAINER_RUN),
        Part("step", 55, "training steps on the corpus in several settings; kernels by kind, launches",
             environment=AS_TRAINER_RUN),
        Part("sharded", 25, "steps of a model that FSDP spreads over one rank, against plain ones: time, peak memory",
             environment=AS_TRAINER_RUN),
        Part("table", 30, "filling the table of features, in audio seconds per second", environment=AS_TRAINER_RUN),
        Part("memory", 35, "the peak of each row of scripts.bench.memory; updates with moments of 8 bits",
             environment=AS_TRAINER_RUN),
        Part("parallel", 25, "training steps as one rank of several, and alone: what the sum over ranks costs",
             environment=AS_TRAINER_RUN),
        Part("run", 130, "the whole run of timit-hf as a process with an empty cache: clock, WER, rates"),
        Part("trainer", 95, "transformers' Trainer, tuned, and ours on 1600/320 utterances"),
    )
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 all is well, 1 a part failed or was stopped, 2 an option is wrong."""
    return report_errors(lambda: check(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.bench.gpu_check", description=__doc__ or "")
    parser.add_argument("--out", type=Path, default=Path("gpu_check"), help="folder for the JSON files")
    parser.add_argument("--only", type=names(PARTS), default=list(PARTS), metavar="PART,PART",
                        help=f"parts, in this order, of: {', '.join(PARTS)}")  # fmt: skip
    parser.add_argument("--budget", type=count, default=540, help="seconds for all parts together")
    parser.add_argument("--list", action="store_true", help="say what the parts are")
    add_common_options(parser)
    return with_defaults(parser.parse_args(argv))


def check(options: Namespace) -> int:
    """Run the parts and print their outcomes."""
    parts = [PREPARE, *(PARTS[name] for name in options.only)]
    if options.list:
        for part in parts:
            print(f"{part.name:8} {part.seconds:4.0f} s  {part.about}")
        return 0
    signal.signal(signal.SIGTERM, end_part_too)
    environment = {"PYTHONUNBUFFERED": "1"}
    if options.device == "cpu":
        # a rehearsal's figures mean nothing, and one thread does not slow down beside other work
        environment |= {"CUDA_VISIBLE_DEVICES": "", "GPU_TESTS_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    summary = run_parts(parts, options.out, options.budget, common_arguments(options), environment, say)
    say(f"\n{'part':8} {'seconds':>8}  outcome")
    for name, result in summary["parts"].items():
        say(f"{name:8} {result.get('seconds', 0):8.1f}  {result['outcome']}")
        for key, value in result.get("headline", {}).items():
            say(f"         {key}: {shown(value)}")
    say(f"{summary['seconds']:.0f} of {options.budget} s; {options.out / 'summary.json'}")
    return int(any(result["outcome"] != "done" for result in summary["parts"].values()))


def shown(value: Any) -> str:
    """A figure, or several with their names; those that a device does not have are left out.

    >>> shown({"step_ms_p50": 36.0, "peak_memory_gb": None, "waits": ["ctc", "log"]}), shown([])
    ('step_ms_p50 36.0, waits ctc log', 'none')
    """
    if isinstance(value, dict):
        return ", ".join(f"{name} {shown(v)}" for name, v in value.items() if v is not None)
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1000 and value % 1 else str(value)


def say(line: str) -> None:
    print(line, flush=True)


def end_part_too(number: int, frame: FrameType | None) -> None:
    """SIGTERM unwinds, so that the part that is running is killed."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
