"""One record of the run, shown three ways: progress bar or lines, TensorBoard, metrics.jsonl."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO, TypeVar, cast

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams
from tqdm import tqdm

from data.prepare import Example
from data.utterance import SAMPLE_RATE, AudioError
from trainer.config import Config
from trainer.disk import write_text
from trainer.evaluate import Scores
from trainer.eventfiles import drop_events_after
from trainer.loop import StepResult
from trainer.state import TrainState

T = TypeVar("T")
NUM_SAMPLES_SHOWN = 8
"""Utterances whose transcripts (and four whose audio) TensorBoard shows."""


class Unbreakable:
    """A text stream whose reader may go away: what cannot be written is dropped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):  # a broken pipe, a vanished terminal; a closed file
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        return not self._stream.closed and self._stream.isatty()


class Console:
    """Lines and bars on the terminal; in a pipe, lines alone. Nobody need read them."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = cast(TextIO, Unbreakable(stream or sys.stderr))
        self.is_terminal = self.stream.isatty()

    def say(self, line: str) -> None:
        """One line, above any bar."""
        tqdm.write(line, file=self.stream)

    def warn(self, line: str) -> None:
        self.say(f"warning: {line}")

    def progress(self, items: Iterable[T], total: int, desc: str = "", unit: str = "it") -> Iterator[T]:
        """`items`, with a bar on a terminal that goes away when they end."""
        with tqdm(items, total=total, desc=desc, unit=unit, file=self.stream, leave=False, dynamic_ncols=True,
                  disable=not self.is_terminal) as bar:  # fmt: skip
            yield from bar


class RunLog:
    """Writes what happens in training; nothing here changes what happens."""

    def __init__(
        self, run_dir: Path, console: Console, state: TrainState, *, total_steps: int, steps_per_epoch: int
    ) -> None:
        """What an earlier process told of steps after `state` is taken back: they are about to be taken again."""
        self.console, self.total_steps, self.steps_per_epoch = console, total_steps, steps_per_epoch
        self.metrics_path = run_dir / "metrics.jsonl"
        self.unwritten = ""
        drop_records_after(self.metrics_path, state)
        self.tensorboard: SummaryWriter | None = None
        try:
            drop_events_after(run_dir, state)
            self.tensorboard = SummaryWriter(str(run_dir))
        except Exception as error:  # whatever the writer meets: training does not need it
            console.warn(f"no TensorBoard log ({error})")
        self.bar = tqdm(total=total_steps, initial=state.step, desc="training", unit="step", file=console.stream,
                        dynamic_ncols=True, disable=not console.is_terminal)  # fmt: skip
        self.shown: dict[str, str] = {}
        self.rate_mark = (state.train_seconds, state.audio_seconds)

    def train(self, state: TrainState, *, loss: float, grad_norm: float, lr: float, grad_scale: float) -> None:
        """The mean loss since the last log, and the last step's other figures."""
        seconds, audio = state.train_seconds - self.rate_mark[0], state.audio_seconds - self.rate_mark[1]
        self.rate_mark = (state.train_seconds, state.audio_seconds)
        rate = audio / seconds if seconds > 0 else math.nan
        self._write(state, {
            "train/loss": loss, "train/lr": lr, "train/grad_norm": grad_norm, "train/grad_scale": grad_scale,
            "train/audio_seconds_per_second": rate, "train/num_skipped": state.num_skipped,
        })  # fmt: skip
        self.shown |= {"loss": f"{loss:.3f}", "lr": f"{lr:.1e}", "audio s/s": f"{rate:.0f}"}
        self.bar.set_postfix(self.shown, refresh=False)
        self.bar.update(state.step - self.bar.n)
        if not self.console.is_terminal:
            self.console.say(
                f"step {state.step}/{self.total_steps}  epoch {self.epoch(state):.2f}  loss {loss:.4f}  lr {lr:.2e}  "
                f"grad norm {grad_norm:.2f}  {rate:.0f} audio s/s"
            )

    def evaluation(self, state: TrainState, scores: Scores, improved: bool) -> None:
        """One evaluation of the monitored split."""
        words = scores.words
        self._write(state, {
            "eval/loss": scores.loss, "eval/wer": words.rate, "eval/cer": scores.characters.rate,
            "eval/num_errors": words.num_errors, "eval/num_reference_words": words.num_reference,
            "eval/num_infinite": scores.num_infinite, "eval/seconds": scores.seconds,
        })  # fmt: skip
        spread = max(1, len(scores.hypotheses) // NUM_SAMPLES_SHOWN)  # neighbours are often of one speaker
        shown = scores.hypotheses[::spread][:NUM_SAMPLES_SHOWN]
        rows = [f"| {h.id} | {h.reference} | {h.hypothesis} |" for h in shown]
        table = "\n".join(["| utterance | reference | hypothesis |", "|---|---|---|", *rows])
        self._show(lambda board: board.add_text("eval/transcripts", table, state.step))
        self.shown["WER"] = f"{100 * words.rate:.1f}%"
        self.bar.set_postfix(self.shown)
        infinite = f"  {scores.num_infinite} utterances without finite loss" if scores.num_infinite else ""
        self.console.say(
            f"step {state.step}/{self.total_steps}  {scores.split}: WER {100 * words.rate:.2f} %"
            f"  CER {100 * scores.characters.rate:.2f} %  loss {scores.loss:.4f}  ({scores.seconds:.1f} s)"
            f"{infinite}{'  best' if improved else ''}"
        )

    def skipped(self, state: TrainState, result: StepResult) -> None:
        """A step that was not applied, and whose fault it was."""
        culprits = result.culprits()
        what, names = ("loss", culprits) if culprits else ("gradient", result.ids)
        shown = ", ".join(names[:4]) + (f", ... ({len(names)})" if len(names) > 4 else "")
        self.console.warn(
            f"step {result.step}: {what} is not finite in [{shown}]; weights unchanged, "
            f"{state.num_skipped} skipped so far. If it goes on, inspect these files or lower --optim.lr."
        )

    def halved(self, state: TrainState, result: StepResult) -> None:
        """A step that fitted the device's memory only in smaller microbatches."""
        self.console.warn(
            f"step {result.step}: out of memory; redone in {len(result.nats)} microbatches ({state.num_halved} steps "
            "so far). Lower --batching.batch-size or --batching.max-batch-seconds to spare the detour."
        )

    def flush(self) -> None:
        """Bring everything told so far to the disk."""
        self._show(SummaryWriter.flush)
        self._append("", sync=True)

    def audio(self, examples: Sequence[Example]) -> None:
        """A few utterances to listen to in TensorBoard."""
        for example in [e for e in examples if e.num_samples][:4]:
            with contextlib.suppress(AudioError):  # without a store; the evaluation counts and names it
                waveform = example.load()[None]
                self._show(lambda board: board.add_audio(f"eval/{example.utterance.id}", waveform, 0, SAMPLE_RATE))  # noqa: B023

    def hparams(self, config: Config, wer: float) -> None:
        """Options and final WER, for TensorBoard's HPARAMS tab; in the run's own event file."""
        flat: dict[str, Any] = {"preset": config.preset, "seed": config.seed, "precision": config.precision}
        for part in ("optim", "train", "batching", "model", "augment"):
            flat |= {f"{part}.{k}": v for k, v in vars(getattr(config, part)).items() if v is not None}
        flat = {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in flat.items()}
        for summary in hparams(flat, {"final/wer": wer}):
            self._show(lambda board: board._get_file_writer().add_summary(summary))  # noqa: B023
        self._show(lambda board: board.add_scalar("final/wer", wer, self.total_steps))

    def epoch(self, state: TrainState) -> float:
        """Passes over the training split so far."""
        return state.step / self.steps_per_epoch

    def close_bar(self) -> None:
        """Training is over; what follows has bars of its own."""
        self.bar.close()

    def close(self) -> None:
        """Everything is on the disk."""
        self.flush()
        self._show(SummaryWriter.close)

    def _show(self, action: Callable[[SummaryWriter], object]) -> None:
        """Let TensorBoard have it; when that fails, training goes on without."""
        if self.tensorboard is None:
            return
        try:
            action(self.tensorboard)
        except Exception as error:  # its writer thread hands over whatever it met
            self.tensorboard = None
            self.console.warn(f"TensorBoard's log ends here ({error}); metrics.jsonl goes on")

    def _write(self, state: TrainState, scalars: dict[str, float]) -> None:
        for tag, value in scalars.items():
            self._show(lambda board: board.add_scalar(tag, value, state.step))  # noqa: B023
        finite = {tag: value if math.isfinite(value) else None for tag, value in scalars.items()}
        record = {"step": state.step, "epoch": round(self.epoch(state), 4), **finite}
        self._append(json.dumps(record) + "\n")

    def _append(self, line: str, sync: bool = False) -> None:
        """Add to metrics.jsonl, whole lines or nothing; what the disk refuses now is written with the next line."""
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


def drop_records_after(path: Path, state: TrainState) -> None:
    """Leave in a metrics file what is part of `state`: the rest is about to happen, and to be told, again."""
    if path.exists():
        kept = [r for r in read_records(path) if all(state.tells_of(r["step"], tag) for tag in r)]
        write_text(path, "".join(json.dumps(r) + "\n" for r in kept))


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of metrics.jsonl; a last line cut off by a crash is left out."""
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            break
        if not isinstance(record, dict) or not isinstance(record.get("step"), int):
            break
        records.append(record)
    return records
