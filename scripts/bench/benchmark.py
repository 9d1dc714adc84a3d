"""Time this trainer against transformers' Trainer: same manifest, weights and steps, runs alternating.

    python -m scripts.bench.benchmark tiny [--manifest DIR/train.jsonl DIR/test.jsonl] [--rounds 5] [--out tiny.json]

There are three sides. `ours` is `python -m trainer.run manifest ...`; its figures come from the run's own records. `hf`
is the Trainer as the reference run used it, `hf-tuned` is as fast as its options make it; both are in
scripts.bench.hf_trainer. Each run starts with empty caches. Training time excludes evaluations and saves. "whole run"
is the process from start to end: imports, decoding, the final evaluation (ours has two, the monitored and the closing
one) and export; a second table splits it into phases. Peak memory is the resident maximum of the process (Linux), on
CUDA that of the allocator. Without --manifest the data are tones.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from scripts.bench.benchmark_report import (
    Figures,
    markdown,
    markdown_of_phases,
    percentile,
    phase_seconds,
    step_seconds,
    summarize,
)
from trainer.cli.arguments import ArgumentParser, count
from trainer.cli.parse import report_errors
from trainer.errors import ConfigError

SIDES = ("ours", "hf", "hf-tuned")


@dataclass(frozen=True)
class Workload:
    """The work that every side does."""

    size: str = "tiny"
    batch_size: int = 16
    epochs: int = 2
    max_steps: int | None = None
    lr: float = 2e-3
    freeze: bool = False
    eval_every: int = 0
    save_every: int = 0
    log_every: int = 1
    """More than 1 on a GPU, since every log waits for the device. Step times are then means over this many steps."""
    precision: str = "fp32"
    device: str = "cpu"
    num_workers: int = 0
    only_evaluate: bool = False
    mask_time_prob: float = 0.0


TIMIT_LIKE = Workload(batch_size=32, epochs=20, lr=1e-4, freeze=True, eval_every=100, save_every=400, log_every=10,
                      precision="fp16", device="cuda", num_workers=4, mask_time_prob=0.05)  # fmt: skip
WORKLOADS = {
    "tiny": Workload(),
    "tiny-frozen": Workload(freeze=True, epochs=4),
    # set as the reference run: feature encoder frozen, length groups, an evaluation every 100 steps
    "reference": Workload(freeze=True, epochs=4, eval_every=100, save_every=400, log_every=10),
    "eval": Workload(only_evaluate=True),
    "base": replace(TIMIT_LIKE, size="base"),
    "large": replace(TIMIT_LIKE, size="large"),
}

# Runs a module as __main__ and writes at its end the most memory that it held. ru_maxrss would not do: across exec it
# keeps the maximum of the parent process.
WITH_PEAKS = """
import atexit, json, runpy, sys
path, module = sys.argv[1:3]
def write():
    torch = sys.modules.get("torch")
    cuda = torch.cuda.max_memory_allocated() if torch and torch.cuda.is_available() else 0
    with open("/proc/self/status") as status:
        resident = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    with open(path, "w") as file:
        json.dump(cuda or resident, file)
atexit.register(write)
sys.argv = sys.argv[2:]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the rounds, print the table."""
    return report_errors(lambda: run_rounds(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.bench.benchmark", description=__doc__ or "")
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--manifest", nargs=2, type=Path, metavar=("TRAIN", "EVAL"), help="a manifest pair")
    parser.add_argument("--rounds", type=count, default=5)
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--steps", type=count, default=None, help="cap on the training steps")
    parser.add_argument("--epochs", type=count, default=None)
    parser.add_argument("--batch-size", type=count, default=None)
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default=None)
    parser.add_argument("--device", choices=("cpu", "cuda"), default=None)
    parser.add_argument("--threads", type=count, default=os.cpu_count(), help="OMP_NUM_THREADS of every side")
    parser.add_argument("--weights", type=Path, default=None, help="a checkpoint folder instead of random weights")
    parser.add_argument("--tones", type=count, nargs=2, default=(400, 100), help="utterances of the generated corpus")
    parser.add_argument("--out", type=Path, default=None, help="where the JSON goes")
    options = parser.parse_args(argv)
    for path in (*(options.manifest or ()), *([options.weights / "config.json"] if options.weights else ())):
        if not path.is_file():
            raise ConfigError(f"{path}: no such file.")
    return options


def run_rounds(options: Namespace, keep: Callable[[str, Figures], None] = lambda side, figures: None) -> int:
    """Run the rounds, print the table. `keep` gets each side's name and figures as soon as it has run."""
    from scripts.bench.tones import write_tone_corpus
    from trainer.card.text import versions

    given = {"epochs": options.epochs, "max_steps": options.steps, "batch_size": options.batch_size,
             "precision": options.precision, "device": options.device}  # fmt: skip
    workload = replace(WORKLOADS[options.workload], **{k: v for k, v in given.items() if v is not None})
    rounds: dict[str, list[Figures]] = {side: [] for side in options.sides}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        train, scored = options.manifest or write_tone_corpus(folder / "tones", *options.tones)
        weights = options.weights or write_weights(folder / "weights", workload, train)
        for number in range(options.rounds):
            # the first side changes from round to round
            order = options.sides[number % len(options.sides) :] + options.sides[: number % len(options.sides)]
            for side in order:
                with tempfile.TemporaryDirectory(dir=folder) as own:
                    job = Job(
                        workload, weights.resolve(), train.resolve(), scored.resolve(), Path(own), options.threads
                    )
                    figures = run_ours(job) if side == "ours" else run_hf(job, tuned=side == "hf-tuned")
                rounds[side].append(figures)
                keep(side, figures)
                print(f"round {number + 1}, {side}: {json.dumps(figures)}", file=sys.stderr, flush=True)
    summary = summarize(rounds)
    record = {"workload": options.workload, "options": asdict(workload), "threads": options.threads,
              "versions": versions(), "rounds": rounds, **summary}  # fmt: skip
    if options.out:
        options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"{markdown(summary)}\n\n{markdown_of_phases(summary)}")
    return 0


@dataclass(frozen=True)
class Job:
    """One side's run in one round."""

    workload: Workload
    weights: Path
    train: Path
    scored: Path
    scratch: Path
    threads: int

    @property
    def warmup_steps(self) -> int:
        """A tenth of the planned steps, at most 1000."""
        w = self.workload
        with open(self.train, encoding="utf-8") as file:
            steps = w.epochs * -(-sum(1 for line in file if line.strip()) // w.batch_size)
        return min(1000, min(steps, w.max_steps or steps) // 10)


def write_weights(folder: Path, workload: Workload, train: Path) -> Path:
    """A checkpoint folder with random weights and a vocabulary of the training text, for both sides."""
    from data.text.normalise import plain
    from data.text.vocab import Vocab
    from models.checkpoints.export import save_huggingface
    from models.config import ModelConfig
    from models.encoder import build_random, configure, random_config

    texts = [plain(json.loads(line)["text"]) for line in train.read_text(encoding="utf-8").splitlines()]
    vocab = Vocab.build(texts)
    model_config = ModelConfig(size=workload.size, mask_time_prob=workload.mask_time_prob)  # type: ignore[arg-type]
    config = configure(random_config(model_config), model_config, vocab_size=len(vocab), blank_id=vocab.blank_id)
    save_huggingface(build_random(config, 0), vocab.tokens, vocab.special, True, folder)
    return folder


def run_ours(job: Job) -> Figures:
    """Run our command line and read the figures from its records."""
    from trainer.rundir.eventfiles import read_events

    w, runs = job.workload, job.scratch / "runs"
    shared = [
        "--corpus.eval", str(job.scored), "--eval.batch-size", "32", "--device", w.device, "--precision", w.precision,
        "--batching.num-workers", str(w.num_workers), "--no-report", "--runs-dir", str(runs), "--name", "run",
        "--cache-dir", str(job.scratch / "cache"),
    ]  # fmt: skip
    if w.only_evaluate:
        command = ["scripts.evaluate", str(job.weights), "manifest", *shared]
    else:
        freeze = "--model.freeze-feature-encoder" if w.freeze else "--model.no-freeze-feature-encoder"
        command = [
            "trainer.run", "manifest", "--corpus.train", str(job.train), *shared,
            "--model.pretrained", str(job.weights), freeze,
            "--batching.batch-size", str(w.batch_size), "--train.epochs", str(w.epochs),
            "--train.eval-every", str(w.eval_every), "--train.save-every", str(w.save_every),
            "--train.log-every", str(w.log_every), "--optim.lr", str(w.lr),
            "--optim.warmup-steps", str(job.warmup_steps), "--optim.weight-decay", "0.005",
        ]  # fmt: skip
        if w.max_steps is not None:
            command += ["--train.max-steps", str(w.max_steps)]
    done = measure(command, job)
    results = json.loads((runs / "run" / "results.json").read_text(encoding="utf-8"))
    figures: Figures = {"end_to_end": done.seconds, "peak_memory_mb": done.peak_bytes / 1e6, "wer": results["wer"]}
    if w.only_evaluate:
        return {**figures, "eval_seconds": results["splits"]["eval"]["eval_seconds"]}
    figures |= phase_seconds(results["clock"], done.seconds)
    records = [json.loads(line) for line in (runs / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    evaluations = [record["eval/seconds"] for record in records if "eval/seconds" in record]
    logged = [
        (event.step, event.wall_time)
        for path in sorted((runs / "run").glob("events.out.tfevents.*"))
        for _, event in read_events(path.read_bytes())
        if any(value.tag == "train/loss" for value in event.summary.value)
    ]
    rate = results["audio_seconds_per_second"]
    return figures | {
        "audio_rate": rate,
        "padded_rate": rate / (1 - results["padding_share"]),
        "train_seconds": results["train_seconds"],
        "eval_seconds": sum(evaluations) / len(evaluations),
        "num_steps": results["steps"],
        **step_percentiles(logged, w),
    }


def run_hf(job: Job, *, tuned: bool) -> Figures:
    """Run scripts.bench.hf_side in a process and read its figures."""
    w = job.workload
    spec: dict[str, Any] = {
        **asdict(w), "tuned": tuned, "weights": str(job.weights), "train": str(job.train), "eval": str(job.scored),
        "warmup_steps": job.warmup_steps, "weight_decay": 0.005, "seed": 42, "scratch": str(job.scratch),
        "has_sdpa": json.loads((job.weights / "config.json").read_text())["model_type"] != "wavlm",
    }  # fmt: skip
    done = measure(["scripts.bench.hf_side", json.dumps(spec)], job)
    found = json.loads(done.stdout.splitlines()[-1])
    evaluations = found["eval_seconds"]
    figures: Figures = {
        "end_to_end": done.seconds,
        "peak_memory_mb": done.peak_bytes / 1e6,
        "wer": found["wer"],
        "eval_seconds": sum(evaluations) / len(evaluations),
        **phase_seconds(found["clock"], done.seconds),
    }
    if w.only_evaluate:
        return figures
    return figures | {
        "audio_rate": found["audio_seconds"] / found["train_seconds"],
        "padded_rate": found["padded_seconds"] / found["train_seconds"],
        "train_seconds": found["train_seconds"],
        "num_steps": found["num_steps"],
        **step_percentiles([(step, clock) for step, clock in found["logged"]], w),
    }


def step_percentiles(logged: Sequence[tuple[int, float]], w: Workload) -> Figures:
    """Median and 95th percentile of the steps, in milliseconds."""
    seconds = step_seconds(logged, (w.eval_every, w.save_every))
    if not seconds:
        return {"step_p50": None, "step_p95": None}
    return {"step_p50": 1000 * percentile(seconds, 0.5), "step_p95": 1000 * percentile(seconds, 0.95)}


@dataclass(frozen=True)
class Done:
    """A process that ended with exit code 0."""

    stdout: str
    seconds: float
    peak_bytes: int


def measure(arguments: Sequence[str], job: Job) -> Done:
    """Run a module with its arguments in a process. RuntimeError, with the end of its output, if it fails."""
    environment = os.environ | {
        "OMP_NUM_THREADS": str(job.threads), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(job.scratch / "datasets"), "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    peak, begin = job.scratch / "peak.json", time.perf_counter()
    command = [sys.executable, "-c", WITH_PEAKS, str(peak), *arguments]
    done = subprocess.run(command, capture_output=True, env=environment)
    seconds = time.perf_counter() - begin
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(arguments)[:200]}: exit {done.returncode}\n{said}")
    return Done(done.stdout.decode(errors="replace"), seconds, json.loads(peak.read_text()))


if __name__ == "__main__":
    sys.exit(main())
