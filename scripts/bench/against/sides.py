"""One side of scripts.bench.benchmark on one workload: a process of its own, and the figures that it leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data.text.normalise import plain
from data.text.vocab import Vocab
from models.checkpoints.export import save_huggingface
from models.config import ModelConfig
from models.encoder import build_random, configure, random_config
from scripts.bench.against.report import Figures, percentile, phase_seconds, step_seconds
from scripts.bench.against.workloads import Workload
from trainer.rundir.logs.eventfiles import read_events

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
    texts = [plain(json.loads(line)["text"]) for line in train.read_text(encoding="utf-8").splitlines()]
    vocab = Vocab.build(texts)
    model_config = ModelConfig(size=workload.size, mask_time_prob=workload.mask_time_prob)  # type: ignore[arg-type]
    config = configure(random_config(model_config), model_config, vocab_size=len(vocab), blank_id=vocab.blank_id)
    save_huggingface(build_random(config, 0), vocab.tokens, vocab.special, True, folder)
    return folder


def run_ours(job: Job) -> Figures:
    """Run our command line and read the figures from its records."""
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
    """Run scripts.bench.against.hf_side in a process and read its figures."""
    w = job.workload
    spec: dict[str, Any] = {
        **asdict(w), "tuned": tuned, "weights": str(job.weights), "train": str(job.train), "eval": str(job.scored),
        "warmup_steps": job.warmup_steps, "weight_decay": 0.005, "seed": 42, "scratch": str(job.scratch),
        "has_sdpa": json.loads((job.weights / "config.json").read_text())["model_type"] != "wavlm",
    }  # fmt: skip
    done = measure(["scripts.bench.against.hf_side", json.dumps(spec)], job)
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
