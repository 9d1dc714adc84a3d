"""Time what keeping the loss of each utterance adds to a training step (runs/NAME/dynamics).

    python -m scripts.bench.dynamics_cost [--batch-size 32] [--utterances 4620] [--epochs 20]

The losses of a step lie on the host already, behind its outcome. What is timed is all that is done with them: noting
each step, writing when enough are held, and bringing them to the disk with a checkpoint every 400 steps.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from trainer.cli.arguments import ArgumentParser, count
from trainer.cli.parse import report_errors

SAVE_EVERY = 400


def main(argv: Sequence[str] | None = None) -> int:
    """Print the time of a step's losses, and the size of the file."""
    parser = ArgumentParser(prog="python -m scripts.bench.dynamics_cost", description=(__doc__ or "").strip())
    parser.add_argument("--batch-size", type=count, default=32)
    parser.add_argument("--utterances", type=count, default=4620)
    parser.add_argument("--epochs", type=count, default=20)

    def run() -> int:
        args = parser.parse_args(argv)
        return measure(args.batch_size, args.utterances, args.epochs)

    return report_errors(run)


def measure(batch_size: int, num_utterances: int, num_epochs: int) -> int:
    """Note losses as a run of so many epochs does."""
    import torch

    from trainer.device import HostCopy
    from trainer.loop.step import StepResult
    from trainer.parallel.world import ALONE
    from trainer.rundir.dynamics.recorder import LossFiles, LossRecorder

    ids = [f"speaker{i % 600:04d}_sentence{i}" for i in range(num_utterances)]
    zero, steps_per_epoch = torch.zeros(()), -(-num_utterances // batch_size)
    with tempfile.TemporaryDirectory() as scratch:
        files = LossFiles(Path(scratch), {"train": ids, "evaluations": []}, 0, print)
        recorder = LossRecorder(ALONE, files, num_utterances, 100, print)
        step, seconds, saving, longest = 0, 0.0, 0.0, 0.0
        for epoch in range(num_epochs):
            order = torch.randperm(num_utterances, generator=torch.Generator().manual_seed(epoch)).tolist()
            for k in range(steps_per_epoch):
                positions = order[k * batch_size : (k + 1) * batch_size]
                nats = [torch.rand(len(positions))]
                step += 1
                result = StepResult(zero, zero, HostCopy(zero), nats, [], positions, None, 0.0, epoch=epoch, step=step)
                begin = time.perf_counter()
                recorder.visited(result, nats)
                spent = time.perf_counter() - begin
                seconds, longest = seconds + spent, max(longest, spent)
                if step % SAVE_EVERY == 0:
                    begin = time.perf_counter()
                    recorder.collect()
                    saving += time.perf_counter() - begin
        recorder.collect()
        size = sum(path.stat().st_size for path in (Path(scratch) / "dynamics").iterdir())
    print(
        f"{step:,} steps of {batch_size}: {1e6 * seconds / step:.1f} us a step to note and write, at most "
        f"{1e3 * longest:.1f} ms; {1e6 * saving / step:.1f} us a step with saves every {SAVE_EVERY}; "
        f"{size / 1e6:.2f} MB in {num_epochs} epochs of {num_utterances:,} utterances"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
