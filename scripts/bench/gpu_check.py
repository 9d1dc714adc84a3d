"""Run everything that needs a GPU in one offline call of under 9 minutes: tests and speed at full size, into one JSON.

    python -m scripts.bench.gpu_check --out gpu.json

1. Every test marked `gpu`.
2. 60 steps of `timit-hf` at full model size (315 M, random weights) on the `full` synthetic corpus, in fp16 and in
   bf16, and in bf16 without cached features, with compiled layers, with activation checkpointing: step time p50 and
   p95, real audio seconds per second, peak memory, model FLOP utilisation.
3. One evaluation of the corpus' 1680 test utterances.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
import statistics
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from data.corpora.synthetic import SyntheticConfig
from models.flops import training_flops
from models.pretrained import EncoderSource
from trainer.card.text import versions
from trainer.cli.arguments import ArgumentParser, count
from trainer.cli.console import Console
from trainer.cli.parse import parse, report_errors
from trainer.config.schema import Config, resolve, validate
from trainer.device import autocast_for, choose_device
from trainer.errors import ConfigError
from trainer.loop.fit import finish_previous_step
from trainer.loop.state import TrainState
from trainer.loop.step import StepResult, train_step
from trainer.prepare.build import (
    build_eval_sets,
    build_model,
    build_parts,
    build_train_loader,
    plan_batches,
    read_inputs,
)
from trainer.prepare.corpus import PreparedCorpus
from trainer.prepare.features import open_table
from trainer.scoring.evaluate import evaluate

NUM_WARMUP = 10
MAX_SKIPS = 25
NUM_WORKERS = min(4, os.cpu_count() or 1)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 all is well, 1 a test failed, 2 an option is wrong."""
    return report_errors(lambda: check(parse_options(argv)))


def parse_options(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.bench.gpu_check", description=__doc__ or "")
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"), help="where the JSON goes")
    parser.add_argument("--cache-dir", default="cache", help="folder of the synthetic corpus")
    parser.add_argument("--steps", type=count, default=60, help="timed steps of each precision")
    parser.add_argument("--device", default="cuda", help="cpu, with a small model, only shows that the script runs")
    parser.add_argument("--size", default="large", choices=("tiny", "base", "large"), help="model size")
    parser.add_argument("--corpus", default="full", choices=("tiny", "demo", "full"), help="synthetic corpus")
    parser.add_argument("--no-tests", action="store_true", help="only the measurements")
    return parser.parse_args(argv)


def check(args: Namespace) -> int:
    """Run and measure everything; print the JSON and write it."""
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError("no CUDA device; --device cpu --size tiny --corpus tiny shows that the script runs.")
    device = choose_device(args.device)

    started = time.perf_counter()
    report: dict[str, Any] = {"device": device_name(device), "versions": versions(), "size": args.size}
    if not args.no_tests:
        report["tests"] = run_gpu_tests()
    if device.type == "cuda":
        report["matmul_tflops"] = matmul_tflops(device)
    config = check_config(args.size, args.corpus, args.cache_dir)
    console = Console()
    config, encoder, data = read_inputs(config, console)
    report["preparation_seconds"] = time.perf_counter() - started
    report["training"] = {
        name: time_training(config, encoder, data, device, name.split(",")[0], args.steps, console, **changes)
        for name, changes in training_variants(device).items()
    }
    report["evaluation"] = time_evaluation(config, encoder, data, device)
    report["seconds"] = time.perf_counter() - started
    args.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    return 0 if args.no_tests or report["tests"]["failed"] == 0 else 1


def training_variants(device: torch.device) -> dict[str, dict[str, bool]]:
    """Name -> changed options, for each kind of run that is timed. The name begins with the precision."""
    on_cuda = device.type == "cuda"
    precision = "bf16" if on_cuda else "fp32"
    return {
        **({"fp16": {}} if on_cuda else {}),
        precision: {},
        f"{precision}, features computed": {"cache_features": False},
        f"{precision}, activation checkpointing": {"activation_checkpointing": True},
        # on a CPU, which only shows that the script runs, compiling takes half a minute
        **({f"{precision}, compiled layers": {"compile_layers": True}} if on_cuda else {}),
    }


def check_config(size: str, corpus: str, cache_dir: str) -> Config:
    """The preset `timit-hf`, with random weights and a synthetic corpus."""
    config = parse(["timit-hf", "--corpus.root", "unused", "--model.size", size, "--cache-dir", cache_dir])
    synthetic = SyntheticConfig(
        size=corpus,  # type: ignore[arg-type]
        protocol="hf",
        normalizer="hf-timit",
        vocabulary="new",
        bos_eos=True,
    )
    frozen = replace(config.model, freeze_feature_encoder=True)
    return resolve(validate(replace(config, corpus=synthetic, model=frozen, train=replace(config.train, epochs=1000))))


def run_gpu_tests() -> dict[str, Any]:
    """Run the tests marked `gpu`. Returns their counts and the end of pytest's output."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"], capture_output=True, text=True
    )
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout)}
    return {"failed": counts.get("failed", 0) + counts.get("error", 0), **counts, "tail": done.stdout[-1500:]}


def time_training(
    config: Config, encoder: EncoderSource, data: PreparedCorpus, device: torch.device, precision: str, num_steps: int,
    console: Console, *, cache_features: bool = True, **changes: bool,
) -> dict[str, Any]:  # fmt: skip
    """Step times, throughput, memory and utilisation over `num_steps` steps after a warm-up."""
    config = replace(config, model=replace(config.model, **changes))  # type: ignore[arg-type]
    model, _ = build_model(config, encoder, data, device)
    plan = plan_batches(config, data, model)
    _, parts = build_parts(config, model, device, precision, plan.total_steps())
    loader = build_train_loader(config, data, model, plan, NUM_WORKERS, device.type == "cuda", encoder.do_normalize)
    seconds_to_cache = 0.0
    if cache_features:
        begin = time.perf_counter()
        parts.features = open_table(
            model, data.train, Path(config.cache_dir), do_normalize=encoder.do_normalize, precision=precision,
            device=device, autocast=parts.autocast, log=console.say, progress=lambda items, total: items,
        )  # fmt: skip
        loader.dataset.frontend = replace(loader.dataset.frontend, first_rows=parts.features.first_rows)
        seconds_to_cache = time.perf_counter() - begin
    state, seconds, audio, flops, losses = TrainState(), [], 0.0, 0.0, []
    model.train()
    result: StepResult | None = None

    def report_skip(skipped: StepResult) -> None:
        console.say(f"{precision}: step {skipped.step} was not applied")

    for epoch, batches, ends_epoch in loader.steps(0, 0):
        if state.step == NUM_WARMUP + num_steps:
            break
        if state.step == NUM_WARMUP:
            synchronize(device)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            begin = last = time.perf_counter()
        previous = result
        finish_previous = functools.partial(finish_previous_step, previous, parts, state, MAX_SKIPS, report_skip)
        result = train_step(parts, batches, 1.0, finish_previous)
        state.advance(epoch, batches, ends_epoch)
        if state.step > NUM_WARMUP:
            synchronize(device)  # to time each step; the loop of a real run does not wait here
            seconds.append(time.perf_counter() - last)
            last = time.perf_counter()
            audio += sum(b.num_seconds for b in batches)
            flops += sum(
                training_flops(model.hf.config, int(n), frozen=True) for b in batches for n in b.waveform_lengths
            )
        losses.append(result.loss)
    elapsed = time.perf_counter() - begin
    finish_previous_step(result, parts, state, MAX_SKIPS, report_skip)
    ordered = sorted(seconds)
    return {
        "num_steps": num_steps,
        "seconds_to_cache": seconds_to_cache,
        "step_seconds_p50": statistics.median(ordered),
        "step_seconds_p95": ordered[math.ceil(0.95 * (len(ordered) - 1))],
        "audio_seconds_per_second": audio / elapsed,
        "model_tflops": flops / elapsed / 1e12,
        "peak_memory_gb": torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None,
        "num_skipped": state.num_skipped,
        "first_loss": losses[0].item(),
        "last_loss": losses[-1].item(),
    }


def time_evaluation(
    config: Config, encoder: EncoderSource, data: PreparedCorpus, device: torch.device
) -> dict[str, Any]:
    """Time an evaluation of the test split, in bf16 on CUDA. It is the second of two; the first is a warm-up."""
    model, _ = build_model(config, encoder, data, device)
    eval_set = build_eval_sets(config, data, model, NUM_WORKERS, encoder.do_normalize)["test"]
    autocast = autocast_for("bf16", device) if device.type == "cuda" else nullcontext
    scores = [evaluate(model, eval_set, device, autocast) for _ in range(2)][-1]
    return {
        "num_utterances": len(scores.hypotheses),
        "seconds": scores.seconds,
        "audio_seconds_per_second": scores.num_audio_seconds / scores.seconds,
    }


def matmul_tflops(device: torch.device, size: int = 8192, repeats: int = 50) -> float:
    """The speed of a dense bf16 product of random matrices on this device, in TFLOP/s."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        a @ b
    synchronize(device)
    begin = time.perf_counter()
    for _ in range(repeats):
        a @ b
    synchronize(device)
    return 2 * size**3 * repeats / (time.perf_counter() - begin) / 1e12


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


if __name__ == "__main__":
    sys.exit(main())
