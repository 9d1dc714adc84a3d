"""Measure each lever of speed and memory on this machine: a training step with and without it, alternating.

    python -m scripts.bench.levers [--size tiny] [--rounds 7] [--out levers.json]

The batches are noise of one size (default 16 x 2.25 s). "Before" uses transformers' modules or torch's default in that
place. Everything else is our code on both sides.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import models.frontend
from data.batches.collate import Batch
from models.families import SIZES
from scripts.bench.gpu_check import synchronize
from scripts.bench.save_cost import build, noise
from scripts.hf.modules import hf_encoder, hf_front_end, hf_modules, hf_positions
from trainer.cli.arguments import ArgumentParser, count
from trainer.cli.parse import report_errors
from trainer.loop.step import TrainingParts, train_step
from trainer.prepare.features import zero_table


def main(argv: Sequence[str] | None = None) -> int:
    """Print a Markdown table; write the figures as JSON too if asked."""
    return report_errors(lambda: measure_levers(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.bench.levers", description=__doc__ or "")
    parser.add_argument("--size", default="tiny", choices=SIZES)
    parser.add_argument("--rounds", type=count, default=7)
    parser.add_argument("--batch-size", type=count, default=16)
    parser.add_argument("--seconds", type=float, default=2.25, help="audio per utterance")
    parser.add_argument("--out", type=Path, default=None, help="where the JSON goes")
    return parser.parse_args(argv)


def measure_levers(options: Namespace) -> int:
    """Print a Markdown table; write the figures as JSON too if asked."""
    parts = build(options.size)
    batch = noise(parts.model, options.batch_size, options.seconds)
    found = {}
    print(f"{options.size}, {options.batch_size} x {options.seconds:g} s, {torch.get_num_threads()} threads, "
          f"{parts.device}; medians of {options.rounds} interleaved rounds, ranges in brackets")  # fmt: skip
    print("\n| lever | before [ms] | after [ms] | ratio |\n|---|---|---|---|")
    for name, before, after in levers(parts, batch):
        a, b = interleaved(before, after, options.rounds, parts.device)
        found[name] = {"before": a, "after": b}
        print(f"| {name} | {show(a)} | {show(b)} | {statistics.median(a) / statistics.median(b):.2f} |", flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=2) + "\n")
    return 0


def levers(parts: TrainingParts, batch: Batch) -> Iterator[tuple[str, Callable[[], object], Callable[[], object]]]:
    """(Name, the work without the lever, the work with it) for each lever."""

    def step() -> None:
        train_step(parts, [batch], 1.0, lambda: None)

    def infer() -> None:
        with torch.inference_mode():
            parts.model(batch.waveforms.to(parts.device), batch.frame_lengths.to(parts.device), is_padded=False)

    def under(context: Callable[[], Any], work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            with context():
                work()

        return run

    yield "step: channels-last front end", under(hf_front_end, step), step
    yield "step: our transformer (one mask, SDPA, no host sync)", under(hf_encoder, step), step
    yield "step: positions by Fourier transform", under(hf_positions, step), step
    yield "step: all of these", under(hf_modules, step), step
    yield "forward pass without gradient, all of these", under(hf_modules, infer), infer
    yield "the same: front end in turns that fit the caches", under(no_turns, infer), infer
    yield "step: no mask where nothing is padded", under(lambda: padded(batch), step), step
    yield "AdamW's update alone: fused, not foreach", updates(parts, fused=False), updates(parts, fused=True)
    parts.model.freeze_feature_encoder = True
    parts.model.hf.freeze_feature_encoder()
    yield "frozen step: features from the table", step, under(lambda: cached(parts, batch), step)
    yield "frozen step: layers compiled", step, under(lambda: compiled(parts), step)
    yield "frozen step: activation checkpointing", step, under(lambda: checkpointed(parts), step)


def updates(parts: TrainingParts, *, fused: bool) -> Callable[[], object]:
    """The update of a separate AdamW over copies of the weights, with a gradient of noise."""
    copies = [p.detach().clone() for p in parts.model.parameters()]
    for copy in copies:
        copy.grad = torch.randn_like(copy)
    return torch.optim.AdamW(copies, lr=1e-6, fused=fused, foreach=not fused).step


@contextmanager
def no_turns() -> Iterator[None]:
    with mock.patch.object(models.frontend, "CACHED_SAMPLES", 2**40):
        yield


@contextmanager
def padded(batch: Batch) -> Iterator[None]:
    """Lets the model use a mask, though nothing is padded."""
    batch.is_padded = True
    try:
        yield
    finally:
        batch.is_padded = False


@contextmanager
def cached(parts: TrainingParts, batch: Batch) -> Iterator[None]:
    """Lets a step read from a table of features, which is as long as this batch."""
    size, frames = len(batch.ids), int(batch.frame_lengths.max())
    parts.features = zero_table(parts.model, size * frames, parts.device)
    batch.feature_rows = 1 + torch.arange(size * frames).view(size, frames)
    try:
        yield
    finally:
        parts.features = batch.feature_rows = None


@contextmanager
def compiled(parts: TrainingParts) -> Iterator[None]:
    parts.model.compile_layers = True
    try:
        yield
    finally:
        parts.model.compile_layers = False


@contextmanager
def checkpointed(parts: TrainingParts) -> Iterator[None]:
    parts.model.activation_checkpointing = True
    try:
        yield
    finally:
        parts.model.activation_checkpointing = False


def interleaved(
    before: Callable[[], object], after: Callable[[], object], rounds: int, device: torch.device
) -> tuple[list[float], list[float]]:
    """Milliseconds of `before` and `after`, which alternate, without two warm-up rounds."""
    found: tuple[list[float], list[float]] = ([], [])
    for i in range(rounds + 2):
        for work, times in zip((before, after), found, strict=True):
            synchronize(device)
            begin = time.perf_counter()
            work()
            synchronize(device)
            if i > 1:
                times.append(1000 * (time.perf_counter() - begin))
    return found


def show(times: Sequence[float]) -> str:
    return f"{statistics.median(times):.1f} [{min(times):.1f}-{max(times):.1f}]"


if __name__ == "__main__":
    sys.exit(main())
