"""Measure each lever of speed and memory on this machine: a training step with and without it, alternating.

    python -m scripts.bench.levers [--size tiny] [--rounds 7] [--only table compile] [--out levers.json]

The batches are noise of one size (default 16 x 2.25 s). "Before" uses transformers' modules or torch's default in that
place. Everything else is our code on both sides. The figures of a lever are printed and written as soon as it is
measured; a lever that fails costs only itself.
"""

from __future__ import annotations

import statistics
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import models.frontend
from data.batches.collate import Batch
from models.families import SIZES
from models.feature_table import FeatureTable
from scripts.bench.lab.record import write_json
from scripts.bench.lab.timing import synchronize
from scripts.bench.save_cost import build, noise
from scripts.hf.modules import hf_encoder, hf_front_end, hf_modules, hf_positions
from trainer.cli.arguments import ArgumentParser, count
from trainer.cli.parse import report_errors
from trainer.loop.step import TrainingParts, train_step

Work = Callable[[TrainingParts, Batch], Callable[[], object]]
"""Prepares what is then timed, for these parts and this batch."""
Setting = Callable[[TrainingParts, Batch], AbstractContextManager]
"""What holds while something is timed."""


@dataclass(frozen=True)
class Lever:
    """What is timed without a lever and with it."""

    title: str
    before: Work
    after: Work
    frozen: bool = False
    """Whether the feature encoder is frozen on both sides."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 all were measured, 1 a lever failed, 2 an option is wrong."""
    return report_errors(lambda: run(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.bench.levers", description=__doc__ or "")
    parser.add_argument("--only", nargs="+", default=list(LEVERS), choices=LEVERS, metavar="LEVER",
                        help=f"those to measure, of: {', '.join(LEVERS)}")  # fmt: skip
    parser.add_argument("--size", default="tiny", choices=SIZES)
    parser.add_argument("--precision", default=None, choices=("fp32", "bf16", "fp16"), help="fp16 on CUDA, else fp32")
    parser.add_argument("--rounds", type=count, default=7)
    parser.add_argument("--batch-size", type=count, default=16)
    parser.add_argument("--seconds", type=float, default=2.25, help="audio per utterance")
    parser.add_argument("--out", type=Path, default=None, help="where the JSON goes")
    return parser.parse_args(argv)


def run(options: Namespace) -> int:
    """Print a Markdown table; write the figures as JSON too if asked."""
    found: dict[str, Any] = {}

    def keep(name: str, figures: dict[str, Any]) -> None:
        found[name] = figures
        if options.out is not None:
            write_json(options.out, found)

    measure_levers(options, keep)
    return int(any("failed" in figures for figures in found.values()))


def measure_levers(options: Namespace, keep: Callable[[str, dict[str, Any]], None]) -> None:
    """Print a row of a Markdown table for each lever and call `keep` with its name and figures."""
    device = torch.device(getattr(options, "device", None) or ("cuda" if torch.cuda.is_available() else "cpu"))
    precision = options.precision or ("fp16" if device.type == "cuda" else "fp32")
    parts = build(options.size, precision=precision, device=device)
    batch = noise(parts.model, options.batch_size, options.seconds)
    print(f"{options.size}, {precision}, {options.batch_size} x {options.seconds:g} s, {torch.get_num_threads()} "
          f"threads, {parts.device}; medians of {options.rounds} interleaved rounds, ranges in brackets")  # fmt: skip
    print("\n| lever | before [ms] | after [ms] | ratio |\n|---|---|---|---|", flush=True)
    for name in sorted(options.only, key=lambda name: LEVERS[name].frozen):  # what is frozen stays frozen
        lever = LEVERS[name]
        if lever.frozen and not parts.model.freeze_feature_encoder:
            parts.model.freeze_feature_encoder = True
            parts.model.hf.freeze_feature_encoder()
        try:
            a, b = interleaved(lever.before(parts, batch), lever.after(parts, batch), options.rounds, parts.device)
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            print(f"| {lever.title} | failed: {reason} | | |", flush=True)
            keep(name, {"title": lever.title, "failed": reason})
            continue
        ratio = statistics.median(a) / statistics.median(b)
        print(f"| {lever.title} | {show(a)} | {show(b)} | {ratio:.2f} |", flush=True)
        keep(name, {"title": lever.title, "before_ms": a, "after_ms": b, "ratio": ratio})


def step(*settings: Setting) -> Work:
    """A training step, while `settings` hold."""

    def take(parts: TrainingParts, batch: Batch) -> None:
        train_step(parts, [batch], 1.0, lambda: None)

    return under(take, *settings)


def infer(*settings: Setting) -> Work:
    """A forward pass without gradient, while `settings` hold."""

    def forward(parts: TrainingParts, batch: Batch) -> None:
        with torch.inference_mode(), parts.autocast():
            parts.model(batch.waveforms.to(parts.device), batch.frame_lengths.to(parts.device), is_padded=False)

    return under(forward, *settings)


def under(work: Callable[[TrainingParts, Batch], None], *settings: Setting) -> Work:
    """`work`, while `settings` hold. They are entered anew for each call."""
    if not settings:
        return lambda parts, batch: lambda: work(parts, batch)
    inner, outer = under(work, *settings[1:]), settings[0]

    def prepare(parts: TrainingParts, batch: Batch) -> Callable[[], object]:
        then = inner(parts, batch)

        def call() -> None:
            with outer(parts, batch):
                then()

        return call

    return prepare


def anywhere(context: Callable[[], AbstractContextManager]) -> Setting:
    """A setting that does not look at parts or batch."""
    return lambda parts, batch: context()


def updates(*, fused: bool) -> Work:
    """The update of a separate AdamW over copies of the weights, with a gradient of noise."""

    def prepare(parts: TrainingParts, batch: Batch) -> Callable[[], object]:
        copies = [p.detach().clone() for p in parts.model.parameters()]
        for copy in copies:
            copy.grad = torch.randn_like(copy)
        return torch.optim.AdamW(copies, lr=1e-6, fused=fused, foreach=not fused).step

    return prepare


@contextmanager
def no_turns() -> Iterator[None]:
    with mock.patch.object(models.frontend, "CACHED_SAMPLES", 2**40):
        yield


@contextmanager
def padded(parts: TrainingParts, batch: Batch) -> Iterator[None]:
    """Lets the model use a mask, though nothing is padded."""
    batch.is_padded = True
    try:
        yield
    finally:
        batch.is_padded = False


@contextmanager
def cached(parts: TrainingParts, batch: Batch) -> Iterator[None]:
    """Lets a step read from a table of noise, which is as long as this batch. Zeros would be multiplied faster."""
    size, frames = len(batch.ids), int(batch.frame_lengths.max())
    rows = torch.randn(1 + size * frames, parts.model.hf.config.conv_dim[-1], device=parts.device)
    parts.features = FeatureTable(rows, ())
    batch.feature_rows = 1 + torch.arange(size * frames).view(size, frames)
    try:
        yield
    finally:
        parts.features = batch.feature_rows = None


@contextmanager
def compiled(parts: TrainingParts, batch: Batch) -> Iterator[None]:
    parts.model.compile_layers = True
    try:
        yield
    finally:
        parts.model.compile_layers = False


@contextmanager
def checkpointed(parts: TrainingParts, batch: Batch) -> Iterator[None]:
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


FRONT_END, ENCODER, POSITIONS, MODULES = map(anywhere, (hf_front_end, hf_encoder, hf_positions, hf_modules))
LEVERS = {
    "front-end": Lever("step: channels-last front end", step(FRONT_END), step()),
    "transformer": Lever("step: our transformer (one mask, SDPA, no host sync)", step(ENCODER), step()),
    "positions": Lever("step: positions by Fourier transform", step(POSITIONS), step()),
    "modules": Lever("step: all of these", step(MODULES), step()),
    "inference": Lever("forward pass without gradient, all of these", infer(MODULES), infer()),
    "turns": Lever("the same: front end in turns that fit the caches", infer(anywhere(no_turns)), infer()),
    "mask": Lever("step: no mask where nothing is padded", step(padded), step()),
    "adamw": Lever("AdamW's update alone: fused, not foreach", updates(fused=False), updates(fused=True)),
    "table": Lever("frozen step: features from the table", step(), step(cached), frozen=True),
    "frozen-all": Lever(
        "frozen step: table and our modules, against neither", step(MODULES), step(cached), frozen=True
    ),
    "checkpointing": Lever("frozen step: activation checkpointing", step(), step(checkpointed), frozen=True),
    "compile": Lever("frozen step: layers compiled", step(), step(compiled), frozen=True),
}
"""Name -> lever, in the order in which they are measured."""


if __name__ == "__main__":
    sys.exit(main())
