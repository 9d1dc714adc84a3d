"""Measure what each memory lever saves: the memory of one training step beside what is held between steps.

    python -m scripts.bench.memory [--size tiny] [--batch-size 16] [--seconds 2.25]

Between steps the trainer holds weights and AdamW's moments. A step adds gradients, activations and work space. The
memory is that which torch's allocator hands out. On a CPU every step allocates the same, so one step is enough. The
resident memory of a process on a CPU is larger, since the C library keeps much of what was freed.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.cli.arguments import ArgumentParser, count, seconds
from trainer.cli.parse import report_errors

if TYPE_CHECKING:
    import torch

SETTINGS: dict[str, tuple[bool, bool, int]] = {
    "everything trained": (False, False, 1),
    "activation checkpointing": (False, True, 1),
    "2 microbatches": (False, False, 2),
    "4 microbatches": (False, False, 4),
    "activation checkpointing, 4 microbatches": (False, True, 4),
    "frozen, features from the table": (True, False, 1),
    "the same, activation checkpointing": (True, True, 1),
    "the same, 4 microbatches": (True, False, 4),
}
"""Name -> (frozen, checkpointed, number of microbatches)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print a Markdown table. Exit code: 0 measured, 2 an option is wrong."""
    return report_errors(lambda: run(argv))


def run(argv: Sequence[str] | None) -> int:
    parser = ArgumentParser(prog="python -m scripts.bench.memory", description=__doc__)
    parser.add_argument("--size", default="tiny", choices=("tiny", "base", "large"))
    parser.add_argument("--batch-size", type=count, default=16)
    parser.add_argument("--seconds", type=seconds, default=2.25, help="audio per utterance")
    options = parser.parse_args(argv)
    print(f"{options.size}, {options.batch_size} x {options.seconds:g} s")
    print("\n| step | memory [MB] |\n|---|---|")
    for name, (frozen, with_checkpoints, num_microbatches) in SETTINGS.items():
        if num_microbatches > options.batch_size:
            print(f"| {name} | needs --batch-size {num_microbatches} |")
            continue
        taken = step_bytes(
            options.size, options.batch_size, options.seconds, frozen, with_checkpoints, num_microbatches
        )
        print(f"| {name} | {taken / 1e6:.0f} |", flush=True)
    return 0


def step_bytes(
    size: str, batch_size: int, seconds: float, frozen: bool, with_checkpoints: bool, num_microbatches: int
) -> int:
    """Bytes that a step takes. A first step before it creates AdamW's moments."""
    from scripts.bench.lever_work import cached, checkpointed
    from scripts.bench.save_cost import build, noise
    from trainer.loop.step import train_step

    parts = build(size, frozen=frozen)
    batch = noise(parts.model, batch_size, seconds)
    with ExitStack() as settings:
        if with_checkpoints:
            settings.enter_context(checkpointed(parts, batch))
        if frozen:
            settings.enter_context(cached(parts, batch))
        batches = [batch]
        while len(batches) < num_microbatches:
            batches = [half for whole in batches for half in whole.halves(parts.model.num_frames)]
        train_step(parts, batches, 1.0, lambda: None)
        return allocated_peak(lambda: train_step(parts, batches, 1.0, lambda: None), parts.device)


def allocated_peak(work: Callable[[], object], device: torch.device) -> int:
    """The most bytes of torch's allocator that `work` held at once, without those held before it."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        work()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        trace.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    blocks = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]")
    held = peak = 0
    for _, num_bytes in blocks:
        held += num_bytes
        peak = max(peak, held)
    return peak


if __name__ == "__main__":
    sys.exit(main())
