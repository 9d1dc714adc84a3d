"""Measure how the cost of a training step grows with the length of utterances, their number and the model's depth.

    python -m scripts.bench.scale.scaling [--steps 5] [--out scaling.json]

A step is train_step on `tiny` with random weights and noise; the figure is the median of --steps after two warm-up
steps. How planning grows with the corpus is measured by scripts.bench.scale.simulate.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from models.config import ModelConfig
from models.families import SIZES
from trainer.cli.arguments import ArgumentParser, count
from trainer.cli.parse import report_errors

SECONDS, BATCH_SIZES, DEPTHS = (1.0, 2.0, 4.0, 8.0, 16.0), (1, 4, 16, 64), (1, 3, 6, 12)
USUAL = {"seconds": 2.0, "batch_size": 8, "depth": 3}
"""The values of what does not vary."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    return report_errors(lambda: measure_growth(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.bench.scale.scaling", description=__doc__ or "")
    parser.add_argument("--steps", type=count, default=5, help="timed steps of each kind")
    parser.add_argument("--out", type=Path, default=None, help="where the JSON goes")
    return parser.parse_args(argv)


def measure_growth(options: Namespace) -> int:
    """Measure, and print the table."""
    record: list[dict[str, Any]] = []
    print("| seconds | batch | layers | step [ms] | ms per audio second |\n|---|---|---|---|---|")
    for kind in kinds():
        milliseconds = 1000 * step_time(**kind, num_steps=options.steps)
        record.append({**kind, "milliseconds": milliseconds})
        per_second = milliseconds / kind["seconds"] / kind["batch_size"]
        print(f"| {kind['seconds']:g} | {kind['batch_size']} | {kind['depth']} | {milliseconds:.1f} | "
              f"{per_second:.2f} |", flush=True)  # fmt: skip
    if options.out:
        options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


def kinds() -> list[dict[str, Any]]:
    """The kinds of step that are timed. One thing varies at a time."""
    return [
        *({**USUAL, "seconds": s} for s in SECONDS),
        *({**USUAL, "batch_size": b} for b in BATCH_SIZES),
        *({**USUAL, "depth": d} for d in DEPTHS),
    ]


def step_time(seconds: float, batch_size: int, depth: int, num_steps: int) -> float:
    """Median seconds of a training step."""
    import torch
    from torch.amp import GradScaler
    from transformers import AutoConfig

    from models.ctc import CTCModel
    from models.encoder import build_random, configure
    from scripts.bench.save_cost import noise
    from trainer.config.schema import OptimConfig
    from trainer.loop.optim import build_optimizer, build_schedule
    from trainer.loop.step import TrainingParts, train_step

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = {**SIZES["tiny"], "num_hidden_layers": depth}
    config = AutoConfig.for_model("unispeech", **size, initializer_range=size["hidden_size"] ** -0.5)
    config = configure(config, ModelConfig(), vocab_size=32, blank_id=31)
    model = CTCModel(build_random(config, 0), freeze_feature_encoder=False).to(device).train()
    optimizer = build_optimizer(model, OptimConfig(lr=1e-4))
    schedule = build_schedule(optimizer, 0, 10**6)
    parts = TrainingParts(model, optimizer, schedule, GradScaler(device.type, enabled=False), device, nullcontext)
    batch, times = noise(model, batch_size, seconds, int(10 * seconds)), []
    for number in range(num_steps + 2):
        begin = time.perf_counter()
        result = train_step(parts, [batch], 1.0, lambda: None, number)
        result.grad_norm.item()  # waits for the device
        times.append(time.perf_counter() - begin)
    return statistics.median(times[2:])


if __name__ == "__main__":
    sys.exit(main())
