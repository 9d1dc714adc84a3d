"""Peak memory of each row of scripts.bench.memory, and the time of an update with moments of 32 and of 8 bits.

What is counted for the same rows needs no GPU: scripts.bench.memory --no-measure tells it.

    python -m scripts.bench.gpu.memory --device cuda --size large --out memory.json
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

import torch

from scripts.bench.gpu.record import Record, parse_part
from scripts.bench.gpu.timing import synchronize
from scripts.bench.memory import ROWS, measured
from scripts.bench.save_cost import build
from trainer.cli.parse import report_errors
from trainer.device import choose_device
from trainer.loop.optim import allocate_moments

SHAPE = {"cpu": (4, 1.0), "cuda": (8, 7.8)}
"""Utterances of a step, and the seconds of each; 7.8 s is TIMIT's longest."""
NUM_UPDATES = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 all were measured, 1 a row failed, 2 an option is wrong."""
    return report_errors(lambda: measure(parse_part(argv, "memory", __doc__ or "")))


def measure(options: Namespace) -> int:
    """Each row is recorded when it is measured, and one that fails costs only itself."""
    record, device = Record(options.out), choose_device(options.device)
    batch_size, seconds = SHAPE[device.type]
    rows: dict[str, Any] = {}
    headline: dict[str, Any] = {}
    record.add(batch_size=batch_size, seconds=seconds)
    for name, row in ROWS.items():
        try:
            found = measured(row, row.build(options.size, device), batch_size, seconds)
            reserved = torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0
            rows[name] = {"title": row.title, **found, "reserved": reserved}
            headline[name] = f"{(found['held_measured'] + found['step_measured']) / 1e9:.3f} GB"
        except Exception as error:
            rows[name] = {"title": row.title, "failed": f"{type(error).__name__}: {error}"[:2000]}
            headline[name] = rows[name]["failed"][:200]
        print(f"{name}: {headline[name]}", flush=True)
        record.add(headline=headline, rows=rows)
        forget(device)
    for moments in ("fp32", "8bit"):
        try:
            rows[f"update {moments}"] = {"ms": update_milliseconds(options.size, moments, device)}
        except Exception as error:
            rows[f"update {moments}"] = {"failed": f"{type(error).__name__}: {error}"[:2000]}
        headline[f"update {moments}"] = rows[f"update {moments}"]
        print(f"update {moments}: {headline[f'update {moments}']}", flush=True)
        record.add(headline=headline, rows=rows)
        forget(device)
    return int(any("failed" in found for found in rows.values()))


def update_milliseconds(size: str, moments: str, device: torch.device) -> float:
    """Median time of AdamW's update of all weights but the feature encoder's, the wait for it included."""
    optimizer = build(size, device=device, frozen=True, moments=moments).optimizer
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = torch.randn_like(p)
    optimizer.found_inf, optimizer.grad_scale = torch.zeros((), device=device), torch.ones((), device=device)  # type: ignore[attr-defined]
    allocate_moments(optimizer)
    times = []
    for _ in range(NUM_UPDATES + 1):
        synchronize(device)
        begin = time.perf_counter()
        optimizer.step()
        synchronize(device)
        times.append(1000 * (time.perf_counter() - begin))
    return round(statistics.median(times[1:]), 3)


def forget(device: torch.device) -> None:
    """Give back what the last row held."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


if __name__ == "__main__":
    sys.exit(main())
