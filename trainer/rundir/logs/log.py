"""Every record of a run goes three ways: to the progress bar or lines, to TensorBoard, to metrics.jsonl."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.utils.tensorboard import SummaryWriter

from data import strict_json
from data.text.vocab import Vocab
from trainer.cli.console import Console
from trainer.loop.state import TrainState
from trainer.loop.step import StepResult
from trainer.rundir.disk import write_text
from trainer.rundir.logs.tensorboard import Board, tag_of
from trainer.rundir.reading import read_records
from trainer.rundir.results import peak_memory_bytes
from trainer.scoring.scores import Scores

SECONDS_BETWEEN_LINES = 10.0
"""Seconds between two lines in a pipe. metrics.jsonl has every record."""


class Watch(Protocol):
    """What looks for causes of bad training. trainer.diagnosis.watch implements it."""

    def evaluated(self, step: int, scores: Scores) -> None: ...

    def look(self, records: Sequence[Mapping[str, Any]]) -> Mapping[str, str]:
        """Name of a finding -> a paragraph for the terminal, of all that the records show."""


class RunLog:
    """Records what happens in training. Nothing here changes training itself."""

    def __init__(
        self,
        run_dir: Path,
        console: Console,
        state: TrainState,
        vocab: Vocab,
        *,
        total_steps: int,
        steps_per_epoch: int,
        device: torch.device,
        watch: Watch | None = None,
        flops_share: float | None = None,
    ) -> None:
        """Records of steps after `state`, from an earlier process, are removed: the steps will be taken again.

        `watch` is asked after each record; each of its findings is told once. `flops_share` is the share of the
        device's peak that one second of audio per second takes, where it is known.
        """
        self.device, self.flops_share = device, flops_share
        self.console, self.vocab = console, vocab
        self.total_steps, self.steps_per_epoch, self.watch = total_steps, steps_per_epoch, watch
        self.metrics_path = run_dir / "metrics.jsonl"
        self.unwritten = ""
        drop_records_after(self.metrics_path, state)
        self.records = read_records(self.metrics_path) if self.metrics_path.exists() else []
        self.told = set(self._findings() if self.records else ())  # what an earlier process told
        self.board = Board(run_dir, state, console.warn)
        self.bar = console.bar(total_steps, initial=state.step, desc="training", unit="step")
        self.shown: dict[str, str] = {}
        self.first_step = state.step
        """The steps that earlier processes took."""
        self.rate_mark = (state.train_seconds, state.audio_seconds)
        self.first_log = (0, 0.0)
        self.last_line = -math.inf
        if not self.records:
            self._tell_findings()  # what corpus and checkpoint show before the first step

    def step(self, state: TrainState) -> None:
        """Move the bar: a step was begun. Its outcome may not be known yet, and nothing here waits for it."""
        self.bar.update(state.step - self.bar.n)

    def train(self, state: TrainState, *, loss: float, grad_norm: float, lr: float, grad_scale: float,
              part_norms: Mapping[str, float], blank_share: float) -> None:  # fmt: skip
        """Record the mean loss since the last log and the other figures of the last step."""
        seconds, audio = state.train_seconds - self.rate_mark[0], state.audio_seconds - self.rate_mark[1]
        self.rate_mark = (state.train_seconds, state.audio_seconds)
        rate = audio / seconds if seconds > 0 else math.nan
        self._write(state, {
            "train/loss": loss, "train/lr": lr, "train/grad_norm": grad_norm, "train/grad_scale": grad_scale,
            "train/audio_seconds_per_second": rate, "train/num_skipped": state.num_skipped,
            "train/blank_share": blank_share, "train/peak_memory_bytes": peak_memory_bytes(self.device),
            **({} if self.flops_share is None else {"train/mfu": rate * self.flops_share}),
            **{f"grad_norm/{part}": norm for part, norm in part_norms.items()},
        })  # fmt: skip
        self.shown["loss"] = f"loss {loss:.3f}"
        self._update_bar(state)
        if not self.console.is_terminal and self._line_is_due(state):
            self.console.say(
                f"step {state.step}/{self.total_steps}  epoch {self.epoch(state):.2f}  loss {loss:.4f}  lr {lr:.1e}  "
                f"grad norm {grad_norm:.2f}  {rate:.0f} s/s"
            )
        self._estimate(state)
        self._tell_findings()

    def evaluation(self, state: TrainState, scores: Scores, improved: bool) -> None:
        """Record one evaluation of the monitored split."""
        words, rates, units = scores.words, scores.rates, scores.units
        self._write(state, {
            "eval/loss": scores.loss, **{f"eval/{metric}": rate for metric, rate in rates.items()},
            "eval/blank_share": scores.blank_share,
            "eval/num_errors": words.num_errors, f"eval/num_reference_{units.name}": words.num_reference,
            "eval/num_infinite": scores.num_infinite, "eval/seconds": scores.seconds,
        })  # fmt: skip
        self.board.evaluation(state.step, scores, self.vocab)
        self.shown["WER"] = f"{units.label} {100 * words.rate:.1f} %"
        self._update_bar(state)
        rule = f" [{scores.rule}]" if scores.rule else ""
        shown = "  ".join(
            f"{metric.upper()}{rule if metric == units.main else ''} {100 * rate:.2f} %"
            for metric, rate in rates.items()
        )
        infinite = f"  {scores.num_infinite} utterances without finite loss" if scores.num_infinite else ""
        self.console.say(
            f"step {state.step}/{self.total_steps}  {scores.split}: {shown}  loss {scores.loss:.4f}"
            f"  ({scores.seconds:.1f} s)"
            f"{infinite}{self.console.paint('  best', 'good') if improved else ''}"
        )
        if self.watch is not None:
            self.watch.evaluated(state.step, scores)
        self._tell_findings()

    def skipped(self, state: TrainState, result: StepResult) -> None:
        """Warn of a step that was not applied, and name the utterances that caused it."""
        culprits = result.culprits()
        what, names = ("loss", culprits) if culprits else ("gradient", result.ids)
        shown = ", ".join(names[:4]) + (f", ... ({len(names)})" if len(names) > 4 else "")
        self.console.warn(
            f"step {result.step}: {what} is not finite in [{shown}]; weights unchanged, "
            f"{state.num_skipped} skipped so far. If it goes on, inspect these files or lower --optim.lr."
        )

    def halved(self, state: TrainState, result: StepResult) -> None:
        """Warn of a step that fitted into the device's memory only in smaller microbatches."""
        self.console.warn(
            f"step {result.step}: out of memory; redone in {len(result.nats)} microbatches ({state.num_halved} steps "
            "so far). Lower --batching.batch-size or --batching.max-batch-seconds to spare the detour."
        )

    def flush(self) -> None:
        """Bring all records so far to the disk."""
        self.board.show(SummaryWriter.flush)
        self._append("", sync=True)

    def epoch(self, state: TrainState) -> float:
        """Passes over the training split so far."""
        return state.step / self.steps_per_epoch

    def close_bar(self) -> None:
        """Close the bar of training, since what follows shows other bars."""
        self.bar.close()

    def close(self) -> None:
        """Bring all records to the disk and close TensorBoard's file."""
        self.flush()
        self.board.show(SummaryWriter.close)

    def _write(self, state: TrainState, scalars: dict[str, float]) -> None:
        self.board.scalars(state.step, {tag_of(figure): value for figure, value in scalars.items()})
        record = strict_json.finite({"step": state.step, "epoch": round(self.epoch(state), 4), **scalars})
        self.records.append(record)
        self._append(strict_json.dumps(record) + "\n")

    def _findings(self) -> Mapping[str, str]:
        return {} if self.watch is None else self.watch.look(self.records)

    def _tell_findings(self) -> None:
        """Tell each finding once."""
        for name, paragraph in self._findings().items():
            if name not in self.told:
                self.told.add(name)
                self.console.warn(paragraph)

    def _update_bar(self, state: TrainState) -> None:
        self.bar.set_postfix_str("  ".join(self.shown.values()), refresh=False)
        self.bar.update(state.step - self.bar.n)

    def _line_is_due(self, state: TrainState) -> bool:
        due = state.step >= self.total_steps or time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES
        self.last_line = time.monotonic() if due else self.last_line
        return due

    def _estimate(self, state: TrainState) -> None:
        """Print once how long training takes, from the steps between the first two logs: earlier steps are slow."""
        step, seconds = self.first_log
        if step == 0:
            self.first_log = (state.step, state.train_seconds)
        elif step > 0:
            self.first_log = (-1, 0.0)
            left = (state.train_seconds - seconds) / (state.step - step) * (self.total_steps - state.step)
            if state.step < self.total_steps:
                self.console.say(f"about {clock(left)} of training to go, evaluations not counted")

    def _append(self, line: str, sync: bool = False) -> None:
        """Add to metrics.jsonl whole lines or nothing. What the disk refuses now is written with the next line."""
        had_failed = bool(self.unwritten)
        self.unwritten += line
        size = self.metrics_path.stat().st_size if self.metrics_path.exists() else 0
        try:
            with open(self.metrics_path, "ab") as file:
                file.write(self.unwritten.encode())
                file.flush()
                if sync:
                    os.fsync(file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                os.truncate(self.metrics_path, size)
            if not had_failed and self.unwritten:
                self.console.warn(f"{self.metrics_path}: not written ({error.strerror}); the next record tries again")
            return
        self.unwritten = ""


def clock(seconds: float) -> str:
    """A duration, rounded for a person.

    >>> clock(59.6), clock(1000), clock(9000)
    ('60 s', '17 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def drop_records_after(path: Path, state: TrainState) -> None:
    """Keep in a metrics file what is part of `state`. A resumed run logs the rest again."""
    if path.exists():
        kept = [r for r in read_records(path) if all(state.is_already_logged(r["step"], tag) for tag in r)]
        write_text(path, "".join(strict_json.dumps(r) + "\n" for r in kept))
