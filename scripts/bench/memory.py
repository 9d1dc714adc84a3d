"""Measure what each option for small cards saves: the memory that training holds, and the most that a step adds to it.

    python -m scripts.bench.memory [--size tiny] [--batch-size 16] [--seconds 2.25] [--only ROW,ROW]

Between steps training holds the weights, their copies in half precision, AdamW's moments, and on CUDA a buffer for the
gradients. A step adds gradients, activations and work space. Each row is told by count and as measured: held memory
from the sizes of all tensors there are, a step's from a step that is played on tensors without content
(trainer.prepare.check.memory), beside what torch's allocator hands out in a real step. --no-measure leaves the real
step out, so that a large model and a large batch need neither memory nor time.

The resident memory of a process on a CPU is larger, since the C library keeps much of what was freed.
"""

from __future__ import annotations

import json
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.cli.arguments import ArgumentParser, count, names, seconds
from trainer.cli.parse import report_errors

if TYPE_CHECKING:
    import torch

    from trainer.loop.step import TrainingParts


@dataclass(frozen=True)
class Row:
    """One way to train."""

    title: str
    precision: str = "fp32"
    frozen: bool = True
    """Whether the feature encoder is, and its output comes from a table."""
    checkpointed: bool = False
    num_microbatches: int = 1
    moments: str = "fp32"
    freeze_half: bool = False
    """Whether the lower half of the transformer layers is frozen."""
    lora_rank: int | None = None

    def build(self, size: str, device: torch.device | None = None) -> TrainingParts:
        """A model of `size` without dropout and LayerDrop, as the reference recipe, and what trains it in this way."""
        from models.families import SIZES
        from scripts.bench.save_cost import build

        layers = SIZES[size]["num_hidden_layers"] // 2 if self.freeze_half else 0
        return build(size, precision=self.precision, device=device, frozen=self.frozen, moments=self.moments,
                     freeze_layers=layers, lora_rank=self.lora_rank, regularised=False)  # fmt: skip


ROWS = {
    "all": Row("everything trained", frozen=False),
    "all-checkpointing": Row("everything trained, activation checkpointing", frozen=False, checkpointed=True),
    "frozen": Row("feature encoder frozen, features from the table"),
    "checkpointing": Row("the same, activation checkpointing", checkpointed=True),
    "accumulation": Row("the same as `frozen`, 4 microbatches", num_microbatches=4),
    "amp": Row("the same as `frozen`, bf16", precision="bf16"),
    "amp-checkpointing": Row("bf16, activation checkpointing", precision="bf16", checkpointed=True),
    "8bit": Row("bf16, moments in 8 bits", precision="bf16", moments="8bit"),
    "half": Row("bf16, lower half of the layers frozen", precision="bf16", freeze_half=True),
    "lora": Row("bf16, LoRA of rank 16", precision="bf16", lora_rank=16),
    "lora-checkpointing": Row("bf16, LoRA of rank 16, activation checkpointing", precision="bf16", lora_rank=16,
                              checkpointed=True),
    "12gb": Row("recipe for 12 GB: bf16, activation checkpointing, 2 microbatches", precision="bf16",
                checkpointed=True, num_microbatches=2),
    "8gb": Row("recipe for 8 GB: bf16, activation checkpointing, 4 microbatches, moments in 8 bits", precision="bf16",
               checkpointed=True, num_microbatches=4, moments="8bit"),
}  # fmt: skip
"""Name -> row, in the order in which they are measured."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print a Markdown table. Exit code: 0 measured, 2 an option is wrong."""
    return report_errors(lambda: run(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.bench.memory", description=__doc__ or "")
    parser.add_argument("--size", default="tiny", choices=("tiny", "base", "large"))
    parser.add_argument("--batch-size", type=count, default=16, help="utterances of a step")
    parser.add_argument("--seconds", type=seconds, default=2.25, help="audio per utterance")
    parser.add_argument("--only", type=names(ROWS), default=list(ROWS), metavar="ROW,ROW",
                        help=f"rows, in this order, of: {', '.join(ROWS)}")  # fmt: skip
    parser.add_argument("--no-measure", action="store_true", help="count, and take no real step")
    return parser.parse_args(argv)


def run(options: Namespace) -> int:
    print(f"{options.size}, {options.batch_size} x {options.seconds:g} s, in MB")
    print("\n| row | held: counted | measured | a step: played | measured | together on CUDA, counted |")
    print("|---|---|---|---|---|---|")
    for name in options.only:
        row = ROWS[name]
        if row.num_microbatches > options.batch_size:
            print(f"| {row.title} | needs --batch-size {row.num_microbatches} | | | | |")
            continue
        parts = row.build(options.size)
        found = counted(row, parts, options.batch_size, options.seconds)
        if not options.no_measure:
            found |= measured(row, parts, options.batch_size, options.seconds)
        columns = ("held", "held_measured", "step", "step_measured", "together")
        shown = [f"{found[key] / 1e6:.0f}" if key in found else "" for key in columns]
        print(f"| {row.title} | {' | '.join(shown)} |", flush=True)
    return 0


def counted(row: Row, parts: TrainingParts, batch_size: int, seconds: float) -> dict[str, int]:
    """Bytes held between steps and taken by a step on this device, and both together as they are on CUDA."""
    from data.utterance import SAMPLE_RATE
    from trainer.prepare.check.memory import count_held, step_bytes, summing_bytes

    model, shape = parts.model, (batch_size // row.num_microbatches, int(seconds * SAMPLE_RATE))
    model.activation_checkpointing = row.checkpointed
    held = count_held(model, row.moments, row.precision, training=shape, evaluation=(1, shape[1]),
                      from_table=row.frozen, accumulates=row.num_microbatches > 1)  # fmt: skip
    found = {"held": held.between_steps, "step": held.step, "together": held.total}
    if parts.device.type == "cpu":  # which has no buffer: the sum of the gradients is part of the step
        several = row.num_microbatches > 1
        passes = step_bytes(model, row.precision, *shape, from_table=row.frozen, as_on_cuda=False)
        trained = [p for p in model.parameters() if p.requires_grad]
        # gradients in fp32 are themselves the sum at first
        written = held.gradients if several or row.precision != "fp32" else 0
        found["held"] -= held.gradients
        found["step"] = max(passes + held.gradients * several, written + summing_bytes(trained, row.precision, several))
    model.activation_checkpointing = False
    return found


def measured(row: Row, parts: TrainingParts, batch_size: int, seconds: float) -> dict[str, int]:
    """What a step takes, and what lies in memory after it. A first step before it makes AdamW's moments."""
    from scripts.bench.lever_work import cached, checkpointed
    from scripts.bench.save_cost import noise
    from trainer.loop.step import train_step

    batch = noise(parts.model, batch_size, seconds)
    with ExitStack() as settings:
        if row.checkpointed:
            settings.enter_context(checkpointed(parts, batch))
        if row.frozen:
            settings.enter_context(cached(parts, batch))
        batches = [batch]
        while len(batches) < row.num_microbatches:
            batches = [half for whole in batches for half in whole.halves(parts.model.num_frames)]

        def step() -> object:
            return train_step(parts, batches, 1.0, lambda: None)

        step()
        return {"step_measured": allocated_peak(step, parts.device), "held_measured": held_bytes(parts)}


def held_bytes(parts: TrainingParts) -> int:
    """The sizes of all tensors that training keeps between steps, but for a table of features."""
    import torch

    copies = parts.model.half_copies
    moments = [t for state in parts.optimizer.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
    kept: list[Any] = [*parts.model.state_dict().values(), *moments, *(copies.of.values() if copies else ())]
    if parts.gradients.buffer is not None:
        kept.append(parts.gradients.buffer)
    return sum(t.nbytes for t in kept)


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
