"""Time training steps of timit-hf on the synthetic corpus in several settings, and profile the first of them.

The batches are the first of the real run, over and over, since in a whole run nearly every batch has a shape that came
before. Their features come from a table of noise, which costs the same as the real one and need not be filled; the part
`table` fills one. What the loader costs shows in the part `run`.
"""

from __future__ import annotations

import functools
import gc
import itertools
import math
import statistics
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import torch

from data.batches.collate import Batch
from data.batches.loading import TrainLoader
from data.corpora.synthetic.tree import ensure_tree
from models.checkpoints.pretrained import EncoderSource
from models.ctc import CTCModel
from models.feature_table import FeatureTable
from models.flops import forward_flops, training_flops
from scripts.bench.gpu.kernels import profile_steps
from scripts.bench.gpu.record import Record, parse_part, timit_hf_options
from scripts.bench.gpu.timing import launch_microseconds, matmul_tflops, synchronize
from trainer.cli.console import Console
from trainer.cli.parse import parse, report_errors
from trainer.config.schema import Config
from trainer.config.validate import resolve, validate
from trainer.device import choose_device, choose_precision
from trainer.loop.fit import finish_previous_step
from trainer.loop.state import TrainState
from trainer.loop.step import StepResult, TrainingParts, train_step
from trainer.parallel.world import ALONE, World
from trainer.prepare.build import read_inputs
from trainer.prepare.corpus import PreparedCorpus
from trainer.prepare.pieces import build_model, build_parts, build_train_loader, plan_batches
from trainer.prepare.shapes import with_shapes
from trainer.prepare.sharing import Sharing, place

NUM_BATCHES = 12
"""In turn. Each is taken twice before the clock starts: the first time a shape's kernels are chosen, the second time
its graphs are captured."""
NUM_PROFILED = 6
MAX_SKIPS = 25
VARIANTS = {
    "as the recipe": "",
    "bf16": "--precision bf16",
    "no graphs": "--model.no-cuda-graphs",
    "no graphs, no grid": "--model.no-cuda-graphs --batching.frame-grid 1",
    "features computed": "--model.no-cache-features",
    "activation checkpointing": "--model.activation-checkpointing",
}
"""Name -> options of trainer.run."""
SLOW_ON_CPU = ("bf16",)
HEADLINE = (
    "step_ms_p50", "step_ms_in_a_row", "audio_rate", "model_tflops", "peak_memory_gb", "outside_torch_gb",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 all were timed, 1 a variant failed, 2 an option is wrong."""
    return report_errors(lambda: time_variants(parse_part(argv, "step", __doc__ or "")))


def time_variants(options: Namespace) -> int:
    """Time each variant; each is recorded when it is timed, and one that fails costs only itself."""
    record, begin = Record(options.out), time.perf_counter()
    device = choose_device(options.device)
    command = timit_hf_options(options, ensure_tree(options.corpus, 0, options.cache_dir))
    command += ["--cache-dir", str(options.cache_dir), "--train.epochs", "1000"]
    console = Console()
    config, encoder, data = read_inputs(read_config(command), console)
    variants: dict[str, Any] = {}
    headline: dict[str, Any] = {
        "matmul_tflops": round(matmul_tflops(device, *((256, 5) if device.type == "cpu" else ())), 3),
        "launch_us": round(launch_microseconds(device), 2),
    }
    record.add(preparation_seconds=round(time.perf_counter() - begin, 2), headline=headline)
    for name, changes in VARIANTS.items():
        if device.type == "cpu" and name in SLOW_ON_CPU:
            continue
        try:
            changed = read_config([*command, *changes.split()])
            with_corpus = replace(changed, model=replace(changed.model, revision=config.model.revision))
            variants[name] = Variant(with_corpus, encoder, data, device, console).time(options.steps, not variants)
            headline[name] = {key: variants[name][key] for key in HEADLINE}
        except Exception as error:
            variants[name] = failed(error)
            headline[name] = variants[name]["failed"][:200]
        if "profile" in variants[name]:
            headline["profile"] = variants[name]["profile"]["kinds_ms"]
            headline["launches"] = variants[name]["profile"]["launches"]
        print(f"{name}: {headline[name]}", flush=True)
        record.add(headline=headline, variants=variants)
        forget(device)
    return int(any("failed" in figures for figures in variants.values()))


def failed(error: Exception) -> dict[str, Any]:
    """What is recorded of a variant that failed."""
    return {"failed": f"{type(error).__name__}: {error}"[:2000]}


def forget(device: torch.device) -> None:
    """Give back the memory of the variant before."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def read_config(command: Sequence[str]) -> Config:
    """The Config of a command line of trainer.run."""
    return resolve(validate(parse(command)))


class Variant:
    """One way to train, ready for its first step."""

    def __init__(
        self, config: Config, encoder: EncoderSource, data: PreparedCorpus, device: torch.device, console: Console,
        world: World = ALONE,
    ) -> None:  # fmt: skip
        """With --parallel fsdp the model is spread over the processes of `world`."""
        self.config, self.device, self.console = config, device, console
        self.precision = choose_precision(config.precision, config.auto_precision, device)
        self.model, _ = build_model(config, encoder, data, torch.device("cpu"))
        place(self.model, Sharing(config.parallel == "fsdp", "asked for"), self.precision, device, world)
        self.config = config = with_shapes(config, self.model, device)
        plan = plan_batches(config, data, self.model)
        _, self.parts = build_parts(config, self.model, device, self.precision, plan.total_steps(), console.warn, world)
        on_cuda, num_workers = device.type == "cuda", config.batching.num_workers
        if num_workers is None:
            num_workers = 2 if on_cuda else 0  # as trainer.prepare.build chooses
        self.loader = build_train_loader(config, data, self.model, plan, num_workers, on_cuda, encoder.do_normalize)
        if config.model.cache_features is not False:
            self.parts.features = table_of_noise(self.model, data, device)
            self.loader.dataset.frontend = replace(
                self.loader.dataset.frontend, first_rows=self.parts.features.first_rows
            )

    def time(self, num_steps: int, with_profile: bool) -> dict[str, Any]:
        """Times of single steps, for which the host waits, and of as many in a row, as training runs them.

        Real audio seconds a second, model FLOPs and memory are those of the steps in a row.
        """
        on_cuda, steps = self.device.type == "cuda", Steps(self.model, self.parts, self.loader, self.console)
        begin = time.perf_counter()
        for _ in range(2 * steps.num_batches if on_cuda else 1):
            steps.take()
        synchronize(self.device)
        warmup_seconds, single = time.perf_counter() - begin, list[float]()
        for _ in range(num_steps):
            begin = time.perf_counter()
            steps.take()
            synchronize(self.device)
            single.append(1000 * (time.perf_counter() - begin))
        if on_cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        taken, begin = list[Batch](), time.perf_counter()
        for _ in range(num_steps):
            taken += steps.take()
        synchronize(self.device)
        seconds = time.perf_counter() - begin
        peak = torch.cuda.max_memory_allocated(self.device) / 1e9 if on_cuda else None
        audio, flops = sum(b.num_seconds for b in taken), flops_of(self.model, taken, self.parts.features is not None)
        ordered = sorted(single)
        profiled = (
            {"profile": profile_steps(steps.take, NUM_PROFILED if on_cuda else 1, self.device)} if with_profile else {}
        )
        steps.finish()
        return {
            "precision": self.precision,
            "num_steps": num_steps,
            "warmup_seconds": round(warmup_seconds, 2),
            "step_ms_p50": round(statistics.median(ordered), 2),
            "step_ms_p95": round(ordered[math.ceil(0.95 * (len(ordered) - 1))], 2),
            "step_ms_in_a_row": round(1000 * seconds / num_steps, 2),
            "audio_rate": round(audio / seconds, 1),
            "model_tflops": round(flops / seconds / 1e12, 3),
            "peak_memory_gb": peak and round(peak, 2),
            "outside_torch_gb": outside_torch(self.device),
            "num_shapes": len({shape_of(b) for b in taken}),
            "num_graphs": self.parts.graphs.num_recorded if self.parts.graphs else 0,
            "num_skipped": steps.state.num_skipped,
            "losses": [round(steps.losses[0].item(), 4), round(steps.losses[-1].item(), 4)],
            **profiled,
        }


def outside_torch(device: torch.device) -> float | None:
    """GB of a GPU in use that torch's allocator did not hand out: CUDA's context, libraries' plans, graphs, and other
    processes. None on a CPU."""
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    return round((total - free - torch.cuda.memory_reserved(device)) / 1e9, 3)


class Steps:
    """Training steps one at a time, each finished by its successor, as in trainer.loop.fit."""

    def __init__(self, model: CTCModel, parts: TrainingParts, loader: TrainLoader, console: Console) -> None:
        self.parts, self.console, self.state = parts, console, TrainState()
        self.losses: list[torch.Tensor] = []
        batches = list(itertools.islice(loader.steps(0, 0), NUM_BATCHES if parts.device.type == "cuda" else 2))
        self.num_batches = len(batches)
        self._batches: Iterator[tuple[int, Sequence[Batch], bool]] = itertools.cycle(batches)
        self._result: StepResult | None = None
        model.train()

    def take(self) -> Sequence[Batch]:
        """The batches of the step that was taken."""
        epoch, batches, ends_epoch = next(self._batches)
        finish = functools.partial(self._finish, self._result)
        self._result = train_step(self.parts, batches, 1.0, finish)
        self.state.advance(epoch, batches, ends_epoch)
        self.losses.append(self._result.loss)
        return batches

    def finish(self) -> None:
        """Finish the last step."""
        self._finish(self._result)

    def _finish(self, result: StepResult | None) -> None:
        finish_previous_step(result, self.parts, self.state, MAX_SKIPS, self._report_skip)

    def _report_skip(self, skipped: StepResult) -> None:
        self.console.say(f"step {skipped.step} was not applied")


def shape_of(batch: Batch) -> tuple[int, ...]:
    """What a graph is captured for: rows and frames, or rows and samples."""
    return tuple((batch.waveforms if batch.feature_rows is None else batch.feature_rows).shape)


def table_of_noise(model: CTCModel, data: PreparedCorpus, device: torch.device) -> FeatureTable:
    """A table of the right size for the training split, without computing the features."""
    ends = list(accumulate((model.num_frames(e.num_samples) for e in data.train), initial=1))
    rows = torch.randn(ends[-1], model.hf.config.conv_dim[-1], device=device)
    return FeatureTable(rows, tuple(ends[:-1]))


def flops_of(model: CTCModel, batches: Sequence[Batch], cached: bool) -> float:
    """Operations of training on `batches` with the feature encoder frozen. Padding does not count, nor does the feature
    encoder where its output is `cached`."""
    hf, total = model.hf.config, 0.0
    for num_samples in (int(n) for b in batches for n in b.waveform_lengths):
        total += training_flops(hf, num_samples, frozen=True) - cached * forward_flops(hf, num_samples)[0]
    return total


if __name__ == "__main__":
    sys.exit(main())
