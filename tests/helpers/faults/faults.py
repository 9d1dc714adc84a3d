"""The faults, injected by a run into itself: tests.helpers.faults.server calls them by name before the run begins."""

from __future__ import annotations

import atexit
import collections
import contextlib
import dataclasses
import errno
import functools
import json
import os
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from tests.helpers.paths import ROOT

OURS = tuple(f"{ROOT / package}{os.sep}" for package in ("trainer", "data", "models"))


def die() -> None:
    """As kill -9 does it: nothing is flushed, no `finally` runs."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def select_weights_by(wers: dict[str, float]) -> None:
    """The best weights are exported, and these are the WERs that they are chosen by."""
    from data.corpora.manifest import ManifestCorpus
    from trainer.loop.state import TrainState

    ManifestCorpus.splits = dataclasses.replace(ManifestCorpus.splits, selects=True)
    original = TrainState.record

    def record(state: TrainState, wer: float, seconds: float) -> bool:
        return original(state, wers.get(str(state.step), 1.0), seconds)

    TrainState.record = record  # type: ignore[method-assign]


Seen = Callable[[int, str, Path], None]


def around_operations(before: Seen | None, after: Seen | None = None) -> None:
    """Call `before` and `after` with number, function and path of every write, fsync, rename and removal."""
    import trainer.rundir.disk

    original, number = trainer.rundir.disk.disk_operation, iter(range(10**9))

    def disk_operation(operation: Callable, *args: Any) -> Any:
        function = operation.func if isinstance(operation, functools.partial) else operation
        this, name = next(number), function.__name__
        path = Path(args[0]) if isinstance(args[0], str | Path) else Path()  # several processes write together
        if before is not None:
            before(this, name, path)
        done = original(operation, *args)
        if after is not None:
            after(this, name, path)
        return done

    trainer.rundir.disk.disk_operation = disk_operation


def trace_operations(path: str) -> None:
    with open(path, "w", encoding="utf-8"):
        pass

    def note(number: int, name: str, where: Path) -> None:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps([name, str(where)]) + "\n")

    around_operations(note)


def kill_at_operation(number: int, torn: bool = False) -> None:
    """Die just before operation `number`; `torn`: just after it, with half of what it wrote."""

    def maybe(this: int, name: str, path: Path) -> None:
        if this == number:
            if torn and path.is_file():
                os.truncate(path, path.stat().st_size // 2)
            die()

    around_operations(None if torn else maybe, maybe if torn else None)


def fail_at_operation(number: int, code: str = "ENOSPC", until: int | None = None) -> None:
    """The operating system refuses operation `number`, or all from there to `until`."""
    last = number if until is None else until

    def maybe(this: int, name: str, path: Path) -> None:
        if number <= this <= last:
            raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)), str(path))

    around_operations(maybe)


def slow_disk(seconds: float) -> None:
    around_operations(lambda number, name, path: time.sleep(seconds) if name == "_fsync" else None)


def watch_calls(seen: Callable[[str], None]) -> None:
    """Call `seen` with `file:function` at every call of a function of this project, in every thread."""

    def profile(frame: FrameType, event: str, arg: object) -> None:
        if event == "call" and OURS and frame.f_code.co_filename.startswith(OURS):  # None at the interpreter's end
            seen(f"{Path(frame.f_code.co_filename).relative_to(ROOT)}:{frame.f_code.co_qualname}")

    threading.setprofile(profile)
    sys.setprofile(profile)


def count_calls(path: str) -> None:
    counts: collections.Counter[str] = collections.Counter()
    watch_calls(lambda name: counts.update([name]))

    def write() -> None:
        sys.setprofile(None)
        Path(path).write_text(json.dumps(counts))

    atexit.register(write)


def kill_at_call(function: str, number: int) -> None:
    """Die in call `number` (from 0) of a function."""
    left = [number]

    def maybe(name: str) -> None:
        if name == function:
            if left[0] == 0:
                die()
            left[0] -= 1

    watch_calls(maybe)


def signal_at_call(function: str, signals: list[int]) -> None:
    """Signals to itself in the first call of a function."""
    left = list(signals)

    def maybe(name: str) -> None:
        while name == function and left:
            os.kill(os.getpid(), left.pop(0))

    watch_calls(maybe)


def before_step(step: int, action: Callable[[Any], None], until: int | None = None) -> None:
    """Call `action` with the batches of step `step` (from 1), or of all from there to `until`, before it is taken."""
    import trainer.loop.fit
    import trainer.session

    original, last = trainer.session.fit, step if until is None else until

    def fit(parts: Any, loader: Any, state: Any, *args: Any, **options: Any) -> bool:
        take = trainer.loop.fit.train_step

        def train_step(parts: Any, batches: Any, *rest: Any) -> Any:
            if step <= state.step + 1 <= last:
                action(batches)
            return take(parts, batches, *rest)

        trainer.loop.fit.train_step = train_step
        return original(parts, loader, state, *args, **options)

    trainer.session.fit = fit


def note_batches(folder: str) -> None:
    """Write down what each step reads, before it is taken: step, rank, ranks, and the ids of each of its batches; and
    before that, in starts.jsonl, which process this is."""
    import trainer.loop.fit
    import trainer.session

    start = {"rank": int(os.environ["RANK"]), "ranks": int(os.environ.get("WORLD_SIZE", 1)), "pid": os.getpid()}
    with open(Path(folder) / "starts.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(start) + "\n")
    original = trainer.session.fit

    def fit(parts: Any, loader: Any, state: Any, *args: Any, **options: Any) -> bool:
        take, start = trainer.loop.fit.train_step, parts.world.broadcast(time.time())

        def train_step(parts: Any, batches: Any, *rest: Any) -> Any:
            note = {"step": state.step + 1, "rank": parts.world.rank, "ranks": parts.world.size, "start": start,
                    "ids": [list(batch.ids) for batch in batches]}  # fmt: skip
            with open(Path(folder) / f"rank{parts.world.rank}.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(note) + "\n")
            return take(parts, batches, *rest)

        trainer.loop.fit.train_step = train_step
        return original(parts, loader, state, *args, **options)

    trainer.session.fit = fit


def in_double_precision() -> None:
    """Training in float64, so that two orders of summing differ by less than any mistake."""
    import trainer.loop.step
    import trainer.prepare.build
    import trainer.scoring.transcripts

    build, compute = trainer.prepare.build.build_model, trainer.loop.step.batch_logits

    def build_model(*args: Any) -> Any:
        model, report = build(*args)
        return model.double(), report

    def batch_logits(model: Any, batch: Any, *args: Any) -> Any:
        return compute(model, dataclasses.replace(batch, waveforms=batch.waveforms.double()), *args)

    trainer.prepare.build.build_model = build_model
    trainer.loop.step.batch_logits = trainer.scoring.transcripts.batch_logits = batch_logits


def on_rank(rank: int, name: str, **options: Any) -> None:
    """The fault `name` on one rank of several."""
    if int(os.environ["RANK"]) == rank:
        globals()[name](**options)


def once(mark: str, name: str, **options: Any) -> None:
    """The fault `name`, but not again in a process that is started in place of this one."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        globals()[name](**options)


def collectives_take(seconds: float) -> None:
    """So long at most, rather than half an hour."""
    import trainer.parallel.processes

    trainer.parallel.processes.COLLECTIVE_SECONDS = seconds


def slow_steps(seconds: float) -> None:
    """Each step takes so much longer."""
    before_step(1, lambda batches: time.sleep(seconds), until=10**9)


def stop_in_step(step: int) -> None:
    """The process stands still from step `step` on, as if frozen."""
    before_step(step, lambda batches: os.kill(os.getpid(), signal.SIGSTOP))


def kill_in_step(step: int) -> None:
    """As kill -9 does it, in step `step`."""
    before_step(step, lambda batches: die())


def send_signals(step: int, numbers: list[int], group: bool = False) -> None:
    """Signals to itself in step `step`."""

    def send(batches: object) -> None:
        for number in numbers:
            (os.killpg if group else os.kill)(os.getpid(), number)

    before_step(step, send)


def signal_in_evaluation(evaluation: int, number: int, batch: int = 0) -> None:
    """A signal to itself before batch `batch` of evaluation `evaluation` (from 0, the closing ones included)."""
    import trainer.scoring.evaluate

    original, count = trainer.scoring.evaluate._load, iter(range(10**9))

    def load(*args: Any) -> Any:
        this = next(count)
        for i, item in enumerate(original(*args)):
            if this == evaluation and i == batch:
                os.kill(os.getpid(), number)
            yield item

    trainer.scoring.evaluate._load = load


def nan_in_steps(first: int, last: int) -> None:
    """Every utterance of these steps has a sample that is not a number."""

    def poison(batches: Any) -> None:
        for batch in batches:
            batch.waveforms[:, 100] = float("nan")

    before_step(first, poison, last)


def out_of_memory_above(num_utterances: int, step: int = 1) -> None:
    """The device holds microbatches of at most `num_utterances`, from step `step` on."""
    import torch

    import trainer.loop.step

    original, full = trainer.loop.step.backward, [False]

    def backward(parts: Any, batch: Any, *rest: Any) -> Any:
        if full[0] and len(batch.ids) > num_utterances:
            raise torch.OutOfMemoryError("CUDA out of memory (injected)")
        return original(parts, batch, *rest)

    trainer.loop.step.backward = backward
    before_step(step, lambda batches: full.__setitem__(0, True), 10**9)


def break_worker(mark: str, how: str, utterance: str = "train3", epoch: int = 1) -> None:
    """A loader worker dies, or hangs, over an utterance: once, since it leaves the file `mark`."""
    from torch.utils.data import get_worker_info

    from data.batches.collate import BatchDataset

    original = BatchDataset.__getitem__

    def get(data: BatchDataset, key: Any) -> Any:
        chosen = key[0] == epoch and any(data.examples[i].utterance.id == utterance for i in key[1])
        if chosen and get_worker_info() is not None and not Path(mark).exists():
            Path(mark).touch()
            die() if how == "dies" else time.sleep(1000)
        return original(data, key)

    BatchDataset.__getitem__ = get  # type: ignore[method-assign]


def signal_while_a_batch_is_made(mark: str, number: int, utterance: str, epoch: int) -> None:
    """A signal to the training process while an utterance's batch is made, which then takes for ever; once."""
    from torch.utils.data import get_worker_info

    from data.batches.collate import BatchDataset

    original = BatchDataset.__getitem__

    def get(data: BatchDataset, key: Any) -> Any:
        chosen = key[0] == epoch and any(data.examples[i].utterance.id == utterance for i in key[1])
        if chosen and not Path(mark).exists():
            Path(mark).touch()
            time.sleep(0.3)  # whoever is to wait for the batch does so now
            os.kill(os.getpid() if get_worker_info() is None else os.getppid(), number)
            time.sleep(1000)
        return original(data, key)

    BatchDataset.__getitem__ = get  # type: ignore[method-assign]


def kill_worker_in_step(step: int) -> None:
    """A worker is killed while the training process computes, and waits for nothing."""
    import multiprocessing

    def kill(batches: object) -> None:
        multiprocessing.active_children()[0].kill()
        time.sleep(0.2)

    before_step(step, kill)


def jumping_clock(seed: int) -> None:
    """time.time jumps by up to a year, forth and back, at every call."""
    rng, real = random.Random(seed), time.time
    time.time = lambda: real() + rng.uniform(-3e7, 3e7)


def broken_tensorboard(when: str) -> None:
    """The event file cannot be opened, or its writer fails after a few events."""
    from tensorboard.summary.writer import event_file_writer

    if when == "open":

        def refuse(*args: Any) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "events")

        event_file_writer.EventFileWriter.__init__ = refuse
        return
    original, left = event_file_writer.RecordWriter.write, [12]

    def write(writer: Any, data: bytes) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(writer, data)

    event_file_writer.RecordWriter.write = write


def full_metrics(first: int, last: int) -> None:
    """metrics.jsonl cannot be written from its record `first` to its record `last`: half a line, then ENOSPC."""
    from trainer.rundir.logs import log as runlog

    count = iter(range(10**9))

    class Full:
        def __init__(self, file: Any) -> None:
            self.file, self.fails = file, first <= next(count) <= last

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *args: object) -> None:
            self.file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, data: bytes) -> int:
            if not self.fails:
                return self.file.write(data)
            self.file.write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def patched_open(path: Any, mode: str = "r", **options: Any) -> Any:
        file = open(path, mode, **options)  # noqa: SIM115
        return Full(file) if mode == "ab" else file

    runlog.open = patched_open  # type: ignore[attr-defined]


def largest_file(num_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


def other_torch(version: str) -> None:
    import torch

    torch.__version__ = version  # type: ignore[assignment]


def unread_stderr() -> None:
    """stderr is a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.dup2(writer, 2)
    os.close(reader)
    os.close(writer)


def no_streams() -> None:
    """As `<&- >&- 2>&-` leaves a process."""
    for number in (0, 1, 2):
        os.close(number)
    sys.stdin = sys.stdout = sys.stderr = None  # type: ignore[assignment]


def vanish(step: int, folder: str) -> None:
    """The run's folder is removed in the middle of training; at once, for a save may be writing into it."""
    import shutil

    def remove(batches: object) -> None:
        os.rename(folder, f"{folder}-gone")
        shutil.rmtree(f"{folder}-gone", ignore_errors=True)

    before_step(step, remove)


def few_files(spare: int, step: int) -> None:
    """Too many open files, from step `step` on."""

    def limit(batches: object) -> None:
        used = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + spare, used + spare))
        with contextlib.suppress(OSError):
            while True:
                os.dup(0)

    before_step(step, limit)
