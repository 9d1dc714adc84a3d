"""The one mutable object of a run: how far training has come. Every checkpoint holds all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from data.batches.collate import Batch


@dataclass
class TrainState:
    """Progress, best result and running sums."""

    step: int = 0
    """Optimizer steps taken from the plan, skipped ones included."""
    epoch: int = 0
    batches_done: int = 0
    """Batches of the current epoch that are done."""
    num_skipped: int = 0
    """Steps whose update was not applied: loss or gradient was not finite."""
    skipped_in_a_row: int = 0
    num_halved: int = 0
    """Steps redone in halves because the device ran out of memory."""
    best_step: int | None = None
    best_wer: float | None = None
    evals_without_gain: int = 0
    last_eval_step: int = -1
    """For whoever reads state.json; nothing here does."""
    eval_pending: bool = False
    """Whether a signal interrupted an evaluation; a resumed run then begins with it."""
    train_seconds: float = 0.0
    """Time from the request of each batch to the end of its step, without evaluations and saves; and the time that it
    took to fill training's part of the table of features."""
    eval_seconds: float = 0.0
    """Time of the evaluations, and of filling their part of that table."""
    audio_seconds: float = 0.0
    """Real, unpadded audio trained on."""
    padded_seconds: float = 0.0
    """Audio trained on, padding included."""
    losses: list[float] = field(default_factory=list)
    """Of the steps since the last log; those that are no numbers belong to skipped steps, which are counted."""

    def advance(self, epoch: int, batches: Sequence[Batch], ends_epoch: bool) -> None:
        """Count one step over `batches` of `epoch`; `ends_epoch` tells whether they are the last ones of it."""
        self.step += 1
        self.batches_done = (self.batches_done if epoch == self.epoch else 0) + len(batches)
        self.epoch = epoch
        if ends_epoch:
            self.epoch, self.batches_done = epoch + 1, 0
        self.audio_seconds += sum(batch.num_seconds for batch in batches)
        self.padded_seconds += sum(batch.num_padded_seconds for batch in batches)

    def is_already_logged(self, step: int, tag: str) -> bool:
        """Whether a run that goes on from this state keeps what was logged as `tag` at `step`.

        It does not keep what it is going to log again: later steps, an evaluation that is pending, the figures of the
        trained model (final/ in older versions).
        """
        if self.step == 0 or step > self.step or tag.startswith(("trained/", "final/", "_hparams_/")):
            return False
        of_an_evaluation = tag.startswith(("eval/", "watch/eval/", "utterances/posteriors/"))
        return step < self.step or not (self.eval_pending and of_an_evaluation)

    def record(self, wer: float, seconds: float) -> bool:
        """Note an evaluation's WER; True when it is the lowest so far."""
        self.last_eval_step, self.eval_seconds, self.eval_pending = self.step, self.eval_seconds + seconds, False
        improved = self.best_wer is None or wer < self.best_wer
        if improved:
            self.best_step, self.best_wer, self.evals_without_gain = self.step, wer, 0
        else:
            self.evals_without_gain += 1
        return improved
