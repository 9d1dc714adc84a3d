"""TensorBoard's part of the log: what its tabs show, and a writer that may fail without stopping training.

The tabs show scalars in groups with a layout, transcripts as a table, audio and pictures of a few utterances, lengths
and padding, and the options with the final WER. All of it depends on the training state and not on the clock, so that a
resumed run leaves the same.

TensorBoard sorts groups by name, and its tab Time Series opens the first two alone. So these are eval (error rates,
loss) and train (loss), under the names that Hugging Face's Trainer gives them. `trained` has the closing evaluation,
`utterances` lengths and posteriors, `watch` all other figures.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from data.batches.padding import padded_seconds, padding_shares
from data.batches.plan import BatchPlan
from data.examples.table import lengths_of
from data.text.vocab import Vocab
from data.utterance import SAMPLE_RATE
from trainer.cli.clock import Phase, name
from trainer.config.as_json import flatten
from trainer.config.schema import Config
from trainer.errors import AudioError
from trainer.loop.state import TrainState
from trainer.rundir.logs.eventfiles import drop_events_after
from trainer.rundir.logs.pictures import draw_posteriors
from trainer.scoring.evaluate import EvalSet
from trainer.scoring.followed import followed_positions, shown_positions
from trainer.scoring.metrics import METRICS, Units
from trainer.scoring.scores import Scores

LAYOUT = {
    "recognition": {"share of frames that are blank": ["Multiline", ["^watch/(train|eval)/blank_share$"]]},
    "loss": {"training and evaluation, nats per unit": ["Multiline", ["^train/loss$", "^eval/loss$"]]},
    "optimisation": {
        "learning rate": ["Multiline", ["^watch/train/lr$"]],
        "gradient norm, whole and by part": ["Multiline", ["^watch/train/grad_norm$", "^watch/grad_norm/"]],
        "steps not applied": ["Multiline", ["^watch/train/num_skipped$"]],
    },
    "speed": {"seconds of audio per second": ["Multiline", ["^watch/train/audio_seconds_per_second$"]]},
}
"""The layout of the tab Custom Scalars, without error rates: category -> chart -> tags, as regular expressions."""
FIRST = {"train/loss", "eval/loss", *(f"eval/{metric}" for metric in METRICS)}
"""Figures of metrics.jsonl whose tag is their name. All others stand behind them."""


def layout_of(units: Units) -> dict[str, dict[str, list]]:
    """LAYOUT with the error rates that a run on `units` has."""
    rates = [f"^eval/{name}$" for name, metric in METRICS.items() if units.name in metric.of]
    return LAYOUT | {"recognition": {"error rates": ["Multiline", rates], **LAYOUT["recognition"]}}


def tag_of(figure: str) -> str:
    """The tag of a figure of metrics.jsonl.

    >>> tag_of("eval/wer"), tag_of("train/lr"), tag_of("grad_norm/head")
    ('eval/wer', 'watch/train/lr', 'watch/grad_norm/head')
    """
    return figure if figure in FIRST else f"watch/{figure}"


def _silence_writer_threads() -> None:
    """Print no traceback where TensorBoard's thread meets a full disk: the next call raises the error."""
    installed = threading.excepthook
    if hasattr(installed, "is_tame"):
        return

    def hook(args: threading.ExceptHookArgs) -> None:
        if type(args.thread).__name__ != "_AsyncWriterThread":
            installed(args)

    hook.is_tame = True  # type: ignore[attr-defined]
    threading.excepthook = hook


class Board:
    """Writes one run's event file."""

    def __init__(self, run_dir: Path, state: TrainState, warn: Callable[[str], None]) -> None:
        self.warn = warn
        self.writer: SummaryWriter | None = None
        _silence_writer_threads()
        try:
            drop_events_after(run_dir, state)
            self.writer = SummaryWriter(str(run_dir))
        except Exception as error:  # any error of the writer: training does not need it
            warn(f"no TensorBoard log ({error})")

    def show(self, action: Callable[[SummaryWriter], object]) -> None:
        """Let `action` write to TensorBoard. When this fails, training goes on without TensorBoard."""
        if self.writer is None:
            return
        try:
            action(self.writer)
        except Exception as error:  # any error of the writer's thread
            self.writer = None
            self.warn(f"TensorBoard's log ends here ({error}); metrics.jsonl goes on")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write figures under these tags."""
        for tag, value in values.items():
            self.show(lambda writer: writer.add_scalar(tag, value, step))  # noqa: B023

    def begin(self, plan: BatchPlan, monitor: EvalSet) -> None:
        """Write what stays the same throughout: layout, lengths, padding, and the audio of the followed utterances."""
        self.show(lambda writer: writer.add_custom_scalars(layout_of(monitor.units)))
        lengths, batches = plan.epoch_lengths(0), plan.batches(0)
        self._histogram("utterances/train_seconds", lengths / SAMPLE_RATE)
        self._histogram(f"utterances/{monitor.split}_seconds", lengths_of(monitor.examples) / SAMPLE_RATE)
        self._histogram("utterances/batch_seconds", padded_seconds(batches, lengths, plan.grid))
        self._histogram("utterances/batch_padding_share", padding_shares(batches, lengths, plan.grid))
        for example in (monitor.examples[i] for i in followed_positions(monitor)):
            try:
                waveform = example.load()[None]
            except AudioError:  # can happen without a store; the evaluation counts and names it
                continue
            self.show(lambda writer: writer.add_audio(f"utterances/{example.utterance.id}", waveform, 0, SAMPLE_RATE))  # noqa: B023

    def evaluation(self, step: int, scores: Scores, vocab: Vocab) -> None:
        """Write transcripts as a table and posteriors as pictures."""
        shown = [scores.hypotheses[i] for i in shown_positions(len(scores.hypotheses))]
        rows = [(h.id, h.reference, h.hypothesis, f"{h.words.num_errors} of {h.words.num_reference}") for h in shown]
        cells = [f"utterance | reference | hypothesis | {scores.units.one} errors", "---|---|---|---"]
        cells += [" | ".join(map(_cell, row)) for row in rows]
        table = "\n".join(f"| {row} |" for row in cells)
        self.show(lambda writer: writer.add_text("eval/transcripts", table, step))
        heard = {h.id: h for h in scores.hypotheses}
        for followed in scores.followed:
            h = heard[followed.id]
            self.show(
                lambda writer: writer.add_image(
                    f"utterances/posteriors/{followed.id}",  # noqa: B023
                    draw_posteriors(followed, vocab, h.hypothesis, h.reference),  # noqa: B023
                    step,
                    dataformats="HWC",
                )
            )

    def end(self, config: Config, results: Mapping[str, Any], num_steps: int) -> None:
        """Write options and final figures for the tab HParams, into the run's own event file."""
        final = {f"trained/{name}": results[name] for name in (*METRICS, "loss") if name in results}
        final = {tag: math.nan if value is None else value for tag, value in final.items()}
        for summary in hparams({"steps": num_steps, **flat_options(config)}, final):
            self.show(lambda writer: writer._get_file_writer().add_summary(summary))  # noqa: B023
        self.scalars(num_steps, final)

    def findings(self, table: str, num_steps: int) -> None:
        """Write what was found to be wrong with the run, as Markdown."""
        self.show(lambda writer: writer.add_text("trained/findings", table, num_steps))

    def clock(self, seconds: Mapping[Phase, float], num_steps: int) -> None:
        """Write where the time of this process went as a table. The tag says that a resumed run writes it anew."""
        whole = sum(seconds.values())
        rows = [f"{name(phase)} | {s:.1f} | {100 * s / whole:.1f}" for phase, s in seconds.items() if s]
        cells = ["phase | seconds | %", "---|---|---", *rows, f"sum | {whole:.1f} | 100.0"]
        table = "\n".join(f"| {row} |" for row in cells)
        self.show(lambda writer: writer.add_text("trained/clock", table, num_steps))

    def _histogram(self, tag: str, values: Sequence[float] | np.ndarray) -> None:
        self.show(lambda writer: writer.add_histogram(tag, np.asarray(values), 0, bins=30))


SHORT = ("batching.batch_size", "train.epochs", "train.grad_accum_steps", "optim.lr", "batching.max_batch_seconds",
         "train.max_steps", "augment.speeds")  # fmt: skip
"""Options that the tab HParams shows without their group, since it sorts by name and shows the first five."""


def flat_options(config: Config) -> dict[str, bool | int | float | str]:
    """The options that decide a result, for the tab HParams. Those that are None are left out."""
    model, flat = config.model, flatten(config)
    shown: dict[str, Any] = {name.partition(".")[2]: flat[name] or None for name in SHORT}
    shown |= {name: flat[name] for name in ("preset", "precision", "seed")}
    shown["model"] = model.pretrained or f"{model.family} {model.size}"
    told = {*SHORT, "model.pretrained", "model.family", "model.size"}
    shown |= {k: v for k, v in flat.items() if k.startswith(("optim.", "model.")) and k not in told}
    return {
        k: v if isinstance(v, bool | int | float | str) else " ".join(map(str, v))
        for k, v in shown.items()
        if v is not None
    }


def _cell(text: str) -> str:
    """`text` for a cell of a Markdown table, with all markup escaped."""
    return "".join(f"\\{c}" if c in "\\|*_`<>[]#" else c for c in text) or "(nothing)"
