"""What scripts.bench.levers times: for each lever, what is done without it and with it."""

from __future__ import annotations

import functools
import gc
import statistics
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch

import models.layers.frontend
import models.layers.transformer
from data.batches.collate import Batch
from models.feature_table import FeatureTable
from models.layers.attention import attention_shape, time_kernels
from scripts.bench.gpu.kernels import profile_steps
from scripts.bench.gpu.timing import synchronize
from scripts.bench.levers import TITLES
from scripts.bench.save_cost import build, noise
from scripts.hf.modules import hf_encoder, hf_front_end, hf_loss, hf_modules, hf_positions
from trainer.loop.gradients import Gradients
from trainer.loop.graphs import CudaRecorder, Graphs
from trainer.loop.step import TrainingParts, train_step

Work = Callable[[TrainingParts, Batch], Callable[[], object]]
"""Prepares what is then timed, for these parts and this batch."""
Setting = Callable[[TrainingParts, Batch], AbstractContextManager]
"""What holds while something is timed."""


@dataclass(frozen=True)
class Lever:
    """What is timed without a lever and with it."""

    before: Work
    after: Work
    frozen: bool = False
    """Whether the feature encoder is frozen on both sides."""
    needs_cuda: bool = False


def measure_levers(options: Namespace, keep: Callable[[str, dict[str, Any]], None]) -> None:
    """Print a row of a Markdown table for each lever and call `keep` with its name and figures."""
    device = torch.device(getattr(options, "device", None) or ("cuda" if torch.cuda.is_available() else "cpu"))
    precision = options.precision or ("fp16" if device.type == "cuda" else "fp32")
    print(f"{options.size}, {precision}, {options.batch_size} x {options.seconds:g} s, {torch.get_num_threads()} "
          f"threads, {device}; medians of {options.rounds} interleaved rounds, ranges in brackets")  # fmt: skip
    print("\n| lever | before [ms] | after [ms] | ratio |\n|---|---|---|---|", flush=True)
    able = [name for name, lever in LEVERS.items() if device.type == "cuda" or not lever.needs_cuda]
    asked = options.only or able
    parts: TrainingParts | None = None
    # two models do: those levers first that freeze as the first one does
    for name in sorted(asked, key=lambda name: LEVERS[name].frozen != LEVERS[asked[0]].frozen):
        lever = LEVERS[name]
        if parts is None or parts.model.freeze_feature_encoder != lever.frozen:
            parts = build(options.size, precision=precision, device=device, frozen=lever.frozen)
            batch = noise(parts.model, options.batch_size, options.seconds)
        try:
            figures = time_lever(lever, parts, batch, options.rounds)
            shown = f"{show(figures['before_ms'])} | {show(figures['after_ms'])} | {figures['ratio']:.2f}"
        except Exception as error:
            figures = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
            shown = f"failed: {figures['failed']} | | "
        print(f"| {TITLES[name]} | {shown} |", flush=True)
        keep(name, {"title": TITLES[name], **figures})
        if device.type == "cuda":  # a lever's graphs keep as much memory as a step
            gc.collect()
            torch.cuda.empty_cache()


def time_lever(lever: Lever, parts: TrainingParts, batch: Batch, rounds: int) -> dict[str, Any]:
    """Milliseconds before and after; on CUDA also what the device worked in a step, and its launches."""
    works = before, after = lever.before(parts, batch), lever.after(parts, batch)
    a, b = interleaved(before, after, rounds, parts.device)
    figures: dict[str, Any] = {"before_ms": a, "after_ms": b, "ratio": statistics.median(a) / statistics.median(b)}
    if parts.device.type == "cuda":  # the clock on the wall hides what a GPU gains while it waits for the host
        profiled = [profile_steps(work, 2, parts.device) for work in works]
        figures |= {
            key: [p[name] for p in profiled] for key, name in (("device_ms", "work_ms"), ("launches", "launches"))
        }
    return figures


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


def captured(*settings: Setting) -> Work:
    """A training step whose passes are captured as CUDA graphs, while `settings` hold."""

    def prepare(parts: TrainingParts, batch: Batch) -> Callable[[], object]:
        graphs = Graphs(parts.model, parts.gradients, parts.autocast, CudaRecorder(), print, accumulates=False)
        take = step(*settings)(parts, batch)

        def call() -> None:
            with mock.patch.object(parts, "graphs", graphs):
                take()

        return call

    return prepare


@contextmanager
def no_half_copies(parts: TrainingParts, batch: Batch) -> Iterator[None]:
    """Lets autocast round each weight in each forward pass."""
    copies, parts.model.half_copies = parts.model.half_copies, None
    try:
        yield
    finally:
        parts.model.half_copies = copies
        if copies is not None:
            copies.outdate()


def torch_linear() -> AbstractContextManager:
    """Lets torch compute every linear layer, one by one."""
    return mock.patch.object(models.layers.transformer, "own_linear_pays", return_value=False)


def autocast_norms() -> AbstractContextManager:
    """Lets autocast compute layer norms in fp32, with casts before and after."""
    return mock.patch.object(models.layers.transformer, "normalize", lambda norm, hidden: norm(hidden))


@contextmanager
def clipped_before(parts: TrainingParts, batch: Batch) -> Iterator[None]:
    """Takes out the scale of fp16 and clips before the update, in passes of their own."""
    with mock.patch.object(parts, "gradients", Gradients(parts.model, in_one_buffer=False)):
        yield


@contextmanager
def fastest_attention(parts: TrainingParts, batch: Batch) -> Iterator[None]:
    """Lets attention run on the kernel that is the fastest on this batch. Nothing is timed for a second call."""
    model = parts.model
    dtype = model.half_copies.dtype if model.half_copies is not None else torch.float32
    times = kernel_times(attention_shape(model, len(batch.ids), int(batch.frame_lengths.max()), dtype), parts.device)
    model.attention_kernel = next(iter(times), None)
    try:
        yield
    finally:
        model.attention_kernel = None


kernel_times = functools.cache(time_kernels)


@contextmanager
def no_turns() -> Iterator[None]:
    with mock.patch.object(models.layers.frontend, "CACHED_SAMPLES", 2**40):
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
    "front-end": Lever(step(FRONT_END), step()),
    "transformer": Lever(step(ENCODER), step()),
    "positions": Lever(step(POSITIONS), step()),
    "modules": Lever(step(MODULES), step()),
    "inference": Lever(infer(MODULES), infer()),
    "turns": Lever(infer(anywhere(no_turns)), infer()),
    "mask": Lever(step(padded), step()),
    "adamw": Lever(updates(fused=False), updates(fused=True)),
    "half-copies": Lever(step(no_half_copies), step(), needs_cuda=True),
    "table": Lever(step(), step(cached), frozen=True),
    "frozen-all": Lever(step(MODULES), step(cached), frozen=True),
    "graphs": Lever(step(cached), captured(cached), frozen=True, needs_cuda=True),
    "linear": Lever(captured(cached, anywhere(torch_linear)), captured(cached), frozen=True, needs_cuda=True),
    "layer-norm": Lever(captured(cached, anywhere(autocast_norms)), captured(cached), frozen=True, needs_cuda=True),
    "attention": Lever(
        captured(cached, padded), captured(cached, padded, fastest_attention), frozen=True, needs_cuda=True
    ),
    "clip": Lever(step(cached, clipped_before), step(cached), frozen=True, needs_cuda=True),
    "graphs-all": Lever(step(anywhere(hf_modules), no_half_copies), captured(cached), frozen=True, needs_cuda=True),
    "ctc": Lever(step(cached, anywhere(hf_loss)), step(cached), frozen=True),
    "checkpointing": Lever(step(), step(checkpointed), frozen=True),
}
"""Name -> lever, in the order in which they are measured."""
