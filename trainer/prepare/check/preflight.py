"""`--check`: everything short of training, on one screen, and every fault of the corpus, not the first alone."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from data.batches.collate import BatchDataset
from data.batches.padding import padded_seconds
from data.batches.plan import evaluation_batches
from data.examples.leaks import describe_leaks
from data.examples.prepare import Example, frames_needed
from data.faults import Fault, Faults, split_remedy
from data.plural import counted
from data.utterance import SAMPLE_RATE, Corpus
from trainer.cli.console import Console
from trainer.config.schema import Config
from trainer.errors import UserError
from trainer.loop.optim import moment_bytes
from trainer.loop.step import train_step
from trainer.parallel.joining import refuse_without_torchrun
from trainer.parallel.world import ALONE, World
from trainer.prepare.build import PreparedRun, prepare, with_cache
from trainer.prepare.check.card_memory import judge_card
from trainer.prepare.check.fault_report import tell_faults
from trainer.prepare.check.quality import find_outliers
from trainer.prepare.check.text_report import describe_text
from trainer.prepare.features.table import (
    ROOM,
    fits_device,
    num_table_bytes,
    seconds_to_fill,
    table_examples,
    table_folder,
)
from trainer.prepare.intro import describe_sharing, size_range
from trainer.prepare.ranks import describe_waiting
from trainer.prepare.shapes import describe_padding
from trainer.prepare.timing import timed, training_batches
from trainer.rundir.logs.log import clock
from trainer.rundir.results import peak_memory_bytes

GB = 1e9
UNREAD = "audio that cannot be read any more"
"""Shards are opened only here, and files may change under a check."""


def check(config: Config, console: Console, corpus: Corpus | None = None, world: World = ALONE) -> int:
    """Print what the run would do and need, and what is wrong; 2 when it would stop, or a disk is too small, else 0.

    Of several ranks one does this: `world` says how many there are, and none of them is talked to.
    """
    if config.parallel == "fsdp":
        refuse_without_torchrun(world.launch)
    console.say(f"check of {config.run_dir}: nothing is trained; of that folder only check.jsonl is written")
    faults, code = Faults(collects=True), 0
    try:
        run = prepare(config, console, faults, corpus, world)
    except UserError as error:  # what is left is no corpus to train on, or an option cannot be
        if not faults.found:
            raise
        faults.add(Fault("the check ends here", *split_remedy(str(error))))
    else:
        code = _describe(run, config, console, faults)
        splits = {"train": run.data.train, **run.data.evaluation}
        with faults.noted(UNREAD):
            for fault in find_outliers(splits, partial(console.progress, desc="listening", unit="utterance")):
                faults.add(fault)
    return max(code, 2 if tell_faults(faults.found, config.run_dir / "check.jsonl", console) else 0)


def _describe(run: PreparedRun, asked: Config, console: Console, faults: Faults) -> int:
    """What the run would do and need; 2 when the disk or the card that `asked` names is too small, else 0.

    Audio that cannot be read for a step that is tried is one of `faults`.
    """
    plan, config, model = run.plan, run.config, run.parts.model
    say = console.say
    say(_lengths("train", run.data.train))
    for split, examples in run.data.evaluation.items():
        say(_lengths(split, examples))
    normalize = config.corpus.text_rule(are_units=run.data.of_units)
    for line in describe_text(run.data.train, normalize, run.data.vocab):
        say(line)
    num_frames = model.num_frames
    tightest = min(run.data.train, key=lambda e: num_frames(e.num_samples) / max(1, frames_needed(e.targets)))
    say(
        f"frames:    tightest {tightest.utterance.id}: {num_frames(tightest.num_samples)} frames for "
        f"{frames_needed(tightest.targets)} needed by its {len(tightest.targets)} units"
    )
    batches, lengths = plan.batches(0), plan.epoch_lengths(0)
    padded = padded_seconds(batches, lengths, plan.grid)
    say(
        f"batches:   {len(batches)} an epoch of {size_range(batches.sizes.tolist())} utterances, "
        f"at most {max(padded):.1f} s padded; {describe_padding(plan, batches)}"
    )
    say(f"leaks:     {'; '.join(describe_leaks(run.data.leaks, run.data.train, run.data.evaluation))}")
    if run.parts.world.size > 1 or run.sharing.is_sharded:
        say(f"processes: {run.parts.world.size}; {describe_waiting(plan, run.loader.shares)}")
        say(f"parallel:  {describe_sharing(run)}")
        say("tried:     in one process, with the whole model and whole batches:")
    table = _find_table(run)
    if table.is_refused:
        run.config = with_cache(run.config, False)
    code = 0
    if asked.card_memory is not None:
        code = judge_card(run, asked, table.num_bytes, say)
    if asked.card_memory is not None and run.parts.device.type == "cpu":
        say("time:      not estimated, since the card is not here")
    else:
        with faults.noted(UNREAD):
            _tell_time_and_memory(run, table, padded, say)
    if table.num_bytes:
        say(table.describe())
    return max(code, _check_disk(run, table, say), 2 if table.is_refused and run.table_was_asked_for else 0)


def _tell_time_and_memory(run: PreparedRun, table: _Table, padded: Sequence[float], say: Callable[[str], None]) -> None:
    plan, config = run.plan, run.config
    seconds_per_second, forward, memory = _time_steps(run, padded)
    filling = ""
    if config.model.cache_features:
        memory += table.num_bytes if table.lies_in_memory else 0
        if not table.is_there:
            filling = f"{clock(_seconds_to_fill(run))} for features, "
    train_seconds = seconds_per_second * sum(padded) * run.total_steps / plan.num_steps(0)
    num_evals = 1 + run.total_steps // config.train.eval_every if config.train.eval_every else 1
    eval_seconds = forward * _padded_evaluation(run) * num_evals
    say(
        f"time:      about {filling}{clock(train_seconds)} for {counted(run.total_steps, 'step')}, "
        f"{clock(eval_seconds)} for {counted(num_evals, 'evaluation')} "
        f"({run.precision} on {run.parts.device}; from a few timed steps)"
    )
    say(f"memory:    about {memory / GB:.2f} GB at its peak, on the largest batch of the first epoch")


@dataclass(frozen=True)
class _Table:
    """What training from a table of features asks of the disk; no bytes where it is not wanted.

    The audio that is decoded once lies there already: the check reads the corpus as a run does.
    """

    folder: Path
    num_bytes: int = 0
    is_there: bool = False
    free: int = 0
    lies_in_memory: bool = False
    """Whether training reads it from the device's memory, so that it needs no room on the disk."""

    @property
    def is_kept(self) -> bool:
        """The disk has room for it."""
        return self.missing_bytes * ROOM <= self.free

    @property
    def is_refused(self) -> bool:
        """There is no room for it anywhere."""
        return not self.is_kept and not self.lies_in_memory

    @property
    def missing_bytes(self) -> int:
        """Still to be written."""
        return 0 if self.is_there else self.num_bytes

    def describe(self) -> str:
        verdict = "enough"
        if self.is_there:
            verdict = "it is there"
        elif self.is_refused:
            verdict = "NOT ENOUGH: features are computed in every step, unless another --cache-dir has room"
        elif not self.is_kept:
            verdict = "NOT ENOUGH to keep it: every run computes it anew, unless another --cache-dir has room"
        return (
            f"cache:     {self.num_bytes / GB:.2f} GB for the frozen feature encoder's output; "
            f"{self.free / GB:.1f} GB free in {self.folder}: {verdict}"
        )


def _find_table(run: PreparedRun) -> _Table:
    cache = Path(run.config.cache_dir)
    if not run.config.model.cache_features:
        return _Table(cache)
    model, examples, frontend = run.parts.model, table_examples(run.data), run.loader.dataset.frontend
    folder = table_folder(cache, model, examples, frontend.do_normalize, run.precision, run.parts.device)
    free = shutil.disk_usage(_existing(cache)).free
    num_bytes = num_table_bytes(model, examples)
    return _Table(cache, num_bytes, folder.exists(), free, fits_device(num_bytes, run.parts.device))


def _lengths(split: str, examples: Sequence[Example]) -> str:
    seconds = sorted(e.num_samples / SAMPLE_RATE for e in examples)
    speakers = len({e.utterance.speaker for e in examples} - {None})
    p95 = seconds[int(0.95 * (len(seconds) - 1))]
    return (
        f"{split + ':':10} {counted(len(examples), 'utterance')}, {sum(seconds) / 3600:.2f} h, "
        f"{counted(speakers, 'speaker', str(speakers or 'unknown'))}; "
        f"{seconds[0]:.1f} to {seconds[-1]:.1f} s, median {statistics.median(seconds):.1f}, p95 {p95:.1f}"
    )


def _time_steps(run: PreparedRun, padded: Sequence[float]) -> tuple[float, float, float]:
    """(Training seconds per padded second, forward seconds per padded second, peak memory in bytes)."""
    parts, batches = run.parts, run.plan.batches(0)
    by_size = sorted(range(len(batches)), key=padded.__getitem__)
    worst, middle = by_size[-1], by_size[len(by_size) // 2]
    if parts.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(parts.device)
    parts.model.train()
    trained: dict[int, float] = {}
    # The first time of each is a warm-up, and with CUDA graphs the second too, in which they are captured
    timed_after = 1 if parts.graphs is None else 2
    with training_batches(run) as load:
        for i in (worst, middle, *(middle, worst) * timed_after):
            batch = load(batches[i])
            seconds = timed(lambda: train_step(parts, [batch], 1.0, lambda: None), parts.device)  # noqa: B023
            trained[i] = seconds / padded[i]
    parts.model.eval()
    batch = BatchDataset(run.data.train, run.loader.dataset.frontend, run.plan)[0, batches[middle]].to(parts.device)
    with torch.inference_mode(), parts.autocast():
        forward = min(
            timed(lambda: parts.model(batch.waveforms, batch.frame_lengths, is_padded=batch.is_padded), parts.device)
            for _ in range(2)
        )
    return statistics.mean(trained.values()), forward / padded[middle], float(peak_memory_bytes(parts.device))


def _seconds_to_fill(run: PreparedRun) -> float:
    parts, do_normalize = run.parts, run.loader.dataset.frontend.do_normalize
    return seconds_to_fill(parts.model, table_examples(run.data), do_normalize, parts.device, parts.autocast)


def _padded_evaluation(run: PreparedRun) -> float:
    """Padded seconds of one evaluation of the monitored split."""
    lengths = [e.num_samples for e in run.monitor.examples]
    config = run.config.eval
    batches = evaluation_batches(
        lengths,
        batch_size=config.batch_size,
        max_batch_seconds=config.max_batch_seconds,
        equal_lengths=not run.parts.model.is_batch_invariant,
    )
    return sum(padded_seconds(batches, lengths, run.monitor.frontend.grid))


def _check_disk(run: PreparedRun, table: _Table, say: Callable[[str], None]) -> int:
    """Room for the checkpoints that are kept, one being written, the best and the exported weights (fp32)."""
    num_all = sum(t.numel() for t in run.parts.model.state_dict().values())
    trained = [p for p in run.parts.model.parameters() if p.requires_grad]
    weights = 4 * num_all
    checkpoint = weights + sum(moment_bytes(p, run.config.optim.moments) for p in trained)
    needed = checkpoint * (run.config.train.save_total_limit + 1) + 3 * weights
    folder = _existing(Path(run.config.runs_dir))
    free, beside = shutil.disk_usage(folder).free, ""
    if table.missing_bytes and table.is_kept and folder.stat().st_dev == _existing(table.folder).stat().st_dev:
        free, beside = free - table.missing_bytes, " beside the cache"
    verdict = "enough" if free > needed else "NOT ENOUGH: lower --train.save-total-limit or choose another --runs-dir"
    say(
        f"disk:      {needed / GB:.2f} GB for checkpoints of {checkpoint / GB:.3f} GB, best and exported weights; "
        f"{free / GB:.1f} GB free in {folder}{beside}: {verdict}"
    )
    return 0 if free > needed else 2


def _existing(folder: Path) -> Path:
    """The folder itself, or the one in which it will be made."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder
