"""One record of the run, shown three ways: progress bar or lines, TensorBoard, metrics.jsonl."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO, TypeVar

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams
from tqdm import tqdm

from data.prepare import Example
from data.utterance import SAMPLE_RATE, AudioError
from trainer.config import Config
from trainer.evaluate import Scores
from trainer.loop import StepResult
from trainer.state import TrainState

T = TypeVar("T")
NUM_SAMPLES_SHOWN = 8
"""Utterances whose transcripts (and four whose audio) TensorBoard shows."""


class Console:
    """Lines and bars on the terminal; in a pipe, lines alone."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
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
        self, run_dir: Path, console: Console, *, total_steps: int, steps_per_epoch: int, start_step: int
    ) -> None:
        self.console, self.total_steps, self.steps_per_epoch = console, total_steps, steps_per_epoch
        self.metrics_path = run_dir / "metrics.jsonl"
        drop_records_after(self.metrics_path, start_step)
        self.tensorboard = SummaryWriter(str(run_dir), purge_step=start_step + 1 if start_step else None)
        self.bar = tqdm(total=total_steps, initial=start_step, desc="training", unit="step", file=console.stream,
                        dynamic_ncols=True, disable=not console.is_terminal)  # fmt: skip
        self.shown: dict[str, str] = {}
        self.rate_mark = (0.0, 0.0)

    def start(self, state: TrainState) -> None:
        """Throughput is counted from here."""
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
        self.tensorboard.add_text("eval/transcripts", table, state.step)
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

    def audio(self, examples: Sequence[Example]) -> None:
        """A few utterances to listen to in TensorBoard."""
        for example in [e for e in examples if e.num_samples][:4]:
            with contextlib.suppress(AudioError):  # without a store; the evaluation counts and names it
                self.tensorboard.add_audio(f"eval/{example.utterance.id}", example.load()[None], 0, SAMPLE_RATE)

    def hparams(self, config: Config, wer: float) -> None:
        """Options and final WER, for TensorBoard's HPARAMS tab; in the run's own event file."""
        flat: dict[str, Any] = {"preset": config.preset, "seed": config.seed, "precision": config.precision}
        for part in ("optim", "train", "batching", "model", "augment"):
            flat |= {f"{part}.{k}": v for k, v in vars(getattr(config, part)).items() if v is not None}
        flat = {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in flat.items()}
        for summary in hparams(flat, {"final/wer": wer}):
            self.tensorboard._get_file_writer().add_summary(summary)
        self.tensorboard.add_scalar("final/wer", wer, self.total_steps)

    def epoch(self, state: TrainState) -> float:
        """Passes over the training split so far."""
        return state.step / self.steps_per_epoch

    def close_bar(self) -> None:
        """Training is over; what follows has bars of its own."""
        self.bar.close()

    def close(self) -> None:
        self.tensorboard.close()

    def _write(self, state: TrainState, scalars: dict[str, float]) -> None:
        for tag, value in scalars.items():
            self.tensorboard.add_scalar(tag, value, state.step)
        finite = {tag: value if math.isfinite(value) else None for tag, value in scalars.items()}
        record = {"step": state.step, "epoch": round(self.epoch(state), 4), **finite}
        with open(self.metrics_path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def drop_records_after(path: Path, step: int) -> None:
    """Leave in a metrics file what happened up to `step`: later steps are about to be taken again."""
    if path.exists():
        records = read_records(path)
        text = "".join(json.dumps(r) + "\n" for r in records if r["step"] <= step)
        temporary = path.with_suffix(".part")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of metrics.jsonl; a last line cut off by a crash is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records
