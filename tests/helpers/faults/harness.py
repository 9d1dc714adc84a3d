"""Runs that are made to fail: a server process that has imported everything once forks each of them.

    harness.start(argv, ("kill_at_operation", {"number": 7})) -> Victim;  victim.wait() -> exit code, or -signal

A victim is forked before any thread pool of torch exists, breaks itself as tests/helpers/faults/faults.py says, and
then does what `python -m trainer.run` does. `fingerprint` is all that a run computed, without the clock.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from safetensors.torch import load_file

from tests.helpers.paths import ROOT

OF_THE_COMMAND = {"command", "clock", "clock_from_step", "trained/clock/text_summary"}
"""What results.json and TensorBoard say of the process that wrote them: a resumed run was typed with --resume."""
WALL_CLOCK = {"train_seconds", "eval_seconds", "audio_seconds_per_second", "eval/seconds", "peak_memory_bytes",
              "train/audio_seconds_per_second", "train/mfu", "train/peak_memory_bytes"}  # fmt: skip
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
ENVIRONMENT.pop("PYTHONUNBUFFERED", None)  # it hides what a broken pipe does to the exit code
Fault = tuple[str, dict[str, Any]]

# 10 utterances in batches of 2, two batches a step: epochs of 3 steps, the last of them with one batch
OPTIONS = [
    "manifest", "--model.size", "demo", "--model.hidden-dropout", "0.1", "--model.layerdrop", "0.2",
    "--model.mask-time-prob", "0.3", "--model.mask-time-length", "3", "--augment.speeds", "0.9", "1.1",
    "--batching.batch-size", "2", "--train.grad-accum-steps", "2", "--train.epochs", "5", "--train.max-steps", "14",
    "--eval.batch-size", "2", "--train.log-every", "2", "--train.eval-every", "3", "--train.save-every", "4",
    "--train.save-total-limit", "2", "--optim.warmup-steps", "2", "--device", "cpu", "--name", "run",
]  # fmt: skip
LAST_STEP = 14
# Evaluations at 3, 6, 9, 12 and 14, of which 3, 6 and 12 are the best so far
SETTING: Fault = ("select_weights_by", {"wers": {3: 0.9, 6: 0.7, 9: 0.8, 12: 0.5, 14: 0.6}})


@dataclass
class Victim:
    """A run in a process of its own, in a process group of its own."""

    pid: int
    server: Server
    log: Path
    started: float = field(default_factory=time.perf_counter)

    def signal(self, number: int, group: bool = False) -> None:
        (os.killpg if group else os.kill)(self.pid, number)

    def wait(self) -> int:
        """Exit code, or minus the signal that ended it."""
        return self.server.ask(wait=self.pid)["status"]

    def wait_for(self, text: str, seconds: float = 60.0) -> None:
        """Until the log holds `text`."""
        deadline = time.monotonic() + seconds
        while text not in self.said:
            assert time.monotonic() < deadline, f"{text!r} never came:\n{self.said}"
            time.sleep(0.005)

    @property
    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""


class Server:
    """The process that forks victims, one request a line."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.faults.server"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=ENVIRONMENT,
        )  # fmt: skip
        assert self.ask(ready=True) == {"ready": True}

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(
        self, argv: list[str], *faults: Fault, log: Path, environment: Mapping[str, str] | None = None,
        torchrun: Mapping[str, Any] | None = None,
    ) -> Victim:  # fmt: skip
        """A victim doing `trainer.run ARGV`; what it prints goes to the end of `log`.

        `torchrun` holds fields of torch's LaunchConfig: the victim is then a torchrun, which starts such processes.
        """
        started = time.perf_counter()
        asked = self.ask(
            argv=argv, faults=faults, log=str(log), environment=dict(environment or {}), torchrun=torchrun
        )  # fmt: skip
        return Victim(asked["pid"], self, log, started)


@functools.cache
def server() -> Server:
    """One for the whole session; it ends with its standard input."""
    return Server()


@dataclass
class Corpus:
    """Tones, a cache, and runs on them."""

    folder: Path
    cache: Path

    def argv(self, runs: Path, *more: str) -> list[str]:
        corpus = ["--corpus.train", str(self.folder / "train.jsonl"), "--corpus.eval", str(self.folder / "eval.jsonl")]
        return [*OPTIONS, *corpus, "--runs-dir", str(runs), "--cache-dir", str(self.cache), *more]

    def start(self, runs: Path, *faults: Fault, more: tuple[str, ...] = (), log: str = "log") -> Victim:
        runs.mkdir(parents=True, exist_ok=True)
        return server().start(self.argv(runs, *more), SETTING, *faults, log=runs / log)

    def run(self, runs: Path, *faults: Fault, more: tuple[str, ...] = (), code: int = 0) -> Victim:
        """A run to its end, which must be `code`."""
        victim = self.start(runs, *faults, more=more)
        status = victim.wait()
        assert status == code, f"exit code {status}, not {code}:\n{victim.said}"
        return victim

    def resume(self, runs: Path, *faults: Fault, more: tuple[str, ...] = (), code: int = 0) -> Victim:
        return self.run(runs, *faults, more=("--resume", *more), code=code)


def make_corpus(folder: Path) -> Corpus:
    """Ten utterances to train on and four to score: tones of 0.2 to 0.4 s, a word each."""
    (folder / "wav").mkdir(parents=True)
    words = ["one", "two", "three", "four", "five", "six"]
    for split, number in (("train", 10), ("eval", 4)):
        rows = []
        for i in range(number):
            noise = np.random.default_rng([number, i]).standard_normal(3600 + 300 * i)
            wave = 0.3 * np.sin(np.arange(len(noise)) * (0.1 + 0.02 * i)) + 0.01 * noise
            soundfile.write(folder / "wav" / f"{split}{i}.wav", wave.astype(np.float32), 16_000, subtype="PCM_16")
            row = {"id": f"{split}{i}", "audio_filepath": f"wav/{split}{i}.wav", "text": words[i % 6], "speaker": split}
            rows.append(row)
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Corpus(folder, folder / "cache")


@dataclass
class Reference:
    """The run that nothing happened to."""

    corpus: Corpus
    run_dir: Path
    seconds: float
    expected: dict[str, Any]
    calls: dict[str, int]
    """How often it called each function of this project."""
    operations: list[tuple[str, str]]
    """(Function, path) of every write, fsync, rename and removal."""


def reference(folder: Path) -> Reference:
    """Its saves, evaluations and closing are what faults are aimed at."""
    corpus = make_corpus(folder / "corpus")
    corpus.run(folder / "warm-up", more=("--train.max-steps", "3"))  # fills the cache of decoded audio
    runs = folder / "reference"
    victim = corpus.start(runs)
    assert victim.wait() == 0, victim.said
    seconds = time.perf_counter() - victim.started
    corpus.run(folder / "counted", ("count_calls", {"path": str(folder / "calls.json")}),
               ("trace_operations", {"path": str(folder / "operations.jsonl")}))  # fmt: skip
    operations = [tuple(json.loads(line)) for line in (folder / "operations.jsonl").read_text().splitlines()]
    calls = json.loads((folder / "calls.json").read_text())
    return Reference(corpus, runs / "run", seconds, fingerprint(runs / "run"), calls, operations)


class Count:
    """count(injected=1, resumes=1) at a test's begin, count(survived=1, bit_exact=1) when that came true."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def __call__(self, **counts: int) -> None:
        self.counts.update(counts)


def fingerprint(run_dir: Path) -> dict[str, Any]:
    """All that a run computed: tensors by their bytes, logs record by record, nothing of the clock."""
    last = max((run_dir / "checkpoints").glob("step-????????"))
    state = json.loads((last / "state.json").read_text())
    found: dict[str, Any] = {"last checkpoint": last.name, "state": _timeless(state["state"])}
    found["schedule and scaler"] = (state["scheduler"], state["scaler"], state["tokens"])
    best, model = run_dir / "checkpoints" / "best", run_dir / "model"
    for path in [*last.glob("*.safetensors"), *best.glob("*"), *model.glob("*")]:
        if path.name not in ("README.md", "manifest.json"):  # a manifest has hashes of the files beside it
            found[str(path.relative_to(run_dir))] = _content(path)
    found["metrics"] = [_timeless(json.loads(line)) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    found["hypotheses"] = (run_dir / "hypotheses.jsonl").read_text()
    results = json.loads((run_dir / "results.json").read_text())
    found["findings"] = results.pop("findings")
    found["results"] = {k: _timeless(v) if isinstance(v, dict) else v for k, v in _timeless(results).items()}
    found["results"]["splits"] = {k: _timeless(v) for k, v in results["splits"].items()}
    if results["processes"] == 1:  # a process that is lost takes along what it had noted since the last save
        found |= {f"dynamics/{path.name}": _content(path) for path in (run_dir / "dynamics").iterdir()}
    return found | tensorboard(run_dir)


def _content(path: Path) -> str:
    """A hash of the file; of a file of tensors, one of the tensors, since its header has its notes in any order."""
    digest = hashlib.sha256()
    if path.suffix == ".safetensors":
        for name, tensor in sorted(load_file(path).items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    else:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def tensorboard(run_dir: Path) -> dict[str, list[tuple[int, float | str]]]:
    """What TensorBoard's own reader sees: (step, value) of every scalar and text, in its order."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    everything = dict.fromkeys(("scalars", "tensors", "audio", "images", "histograms"), 0)
    events = EventAccumulator(str(run_dir), size_guidance=everything).Reload()
    tags = events.Tags()
    found: dict[str, list] = {}
    for tag in sorted({*tags["scalars"]} - {f"watch/{name}" for name in WALL_CLOCK}):
        values = [(e.step, "nan" if math.isnan(e.value) else e.value) for e in events.Scalars(tag)]
        found[f"tensorboard {tag}"] = sorted(values)
    for tag in sorted({*tags["tensors"]} - OF_THE_COMMAND):
        found[f"tensorboard {tag}"] = sorted((e.step, str(e.tensor_proto.string_val)) for e in events.Tensors(tag))
    for tag in tags["audio"]:
        found[f"tensorboard {tag}"] = sorted((e.step, str(e.length_frames)) for e in events.Audio(tag))
    for tag in tags["images"]:
        found[f"tensorboard {tag}"] = sorted((e.step, e.encoded_image_string.hex()) for e in events.Images(tag))
    for tag in tags["histograms"]:
        found[f"tensorboard {tag}"] = sorted((e.step, str(e.histogram_value)) for e in events.Histograms(tag))
    return found


def differences(run_dir: Path, expected: dict[str, Any]) -> list[str]:
    """What a run has otherwise than `expected`; nothing when it is the same bit for bit."""
    found = fingerprint(run_dir)
    return sorted(key for key in {**found, **expected} if found.get(key) != expected.get(key))


def _timeless(record: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in record.items() if k not in WALL_CLOCK | OF_THE_COMMAND}


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a JSON-lines file."""
    for line in path.read_text().splitlines():
        yield json.loads(line)
