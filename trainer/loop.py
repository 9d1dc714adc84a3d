"""The training loop. It knows no corpus and no model family: batches in, a trained model out.

`train_step` is one optimizer step, `fit` is everything that happens between steps. Every name called from
here is a plain function that can be opened; there are no hooks.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim.lr_scheduler import LambdaLR

from data.collate import Batch
from data.loading import LoaderError, TrainLoader
from data.randomness import derive_seed
from data.utterance import AudioError
from models.ctc import CTCModel, ctc_loss_per_utterance
from trainer.config import TrainConfig
from trainer.evaluate import Scores
from trainer.features import FeatureTable
from trainer.gradients import norms_by_part
from trainer.state import TrainState
from trainer.transfer import HostCopy


@dataclass
class StepResult:
    """One step's outcome. The tensors are on the device until somebody must know."""

    loss: Tensor
    """Scalar: nats per unit, averaged over the step's utterances."""
    grad_norm: Tensor
    """Scalar: global L2 norm before clipping."""
    finite: HostCopy
    """Scalar bool: whether the update was applied."""
    nats: list[Tensor]
    """(B,) of each microbatch: nats per unit of each utterance."""
    ids: list[str]
    blank_share: Tensor
    """Scalar: share of frames whose most likely unit is the blank, averaged over the step's utterances."""
    lr: float
    part_norms: dict[str, Tensor] = field(default_factory=dict)
    """Scalars: the same norm of each part of the model, in steps that are logged."""
    is_halved: bool = False
    """The device ran out of memory on larger microbatches."""
    step: int = 0
    settled: bool = False

    def culprits(self) -> list[str]:
        """Ids of the utterances whose own loss is not finite; none when only the gradient is not."""
        nats = torch.cat(self.nats).tolist()
        return [i for i, n in zip(self.ids, nats, strict=True) if not math.isfinite(n)]


@dataclass
class Parts:
    """What is trained, and with what."""

    model: CTCModel
    optimizer: torch.optim.AdamW
    scheduler: LambdaLR
    scaler: GradScaler
    device: torch.device
    autocast: Callable[[], AbstractContextManager]
    features: FeatureTable | None = None
    """What the frozen feature encoder gives, if it was computed beforehand; then batches hold its row numbers."""


class TrainLog(Protocol):
    """Who is told; see trainer.runlog."""

    def train(
        self, state: TrainState, *, loss: float, grad_norm: float, lr: float, grad_scale: float,
        part_norms: Mapping[str, float], blank_share: float,
    ) -> None: ...  # fmt: skip

    def evaluation(self, state: TrainState, scores: Scores, improved: bool) -> None: ...

    def skipped(self, state: TrainState, result: StepResult) -> None: ...

    def halved(self, state: TrainState, result: StepResult) -> None: ...


class TrainingStopped(ValueError):  # noqa: N818  the end of a run, by name
    """Training cannot go on; `fit` saves what it reached. The message says why and what to do."""

    exit_code = 3


class InterruptedEvaluation(Exception):  # noqa: N818  a request, not an error
    """A signal asked to stop in the middle of an evaluation."""


def train_step(
    parts: Parts,
    batches: Sequence[Batch],
    max_grad_norm: float,
    before_update: Callable[[], None],
    seed: int = 0,
    by_part: bool = False,
) -> StepResult:
    """One optimizer step over all utterances of `batches`; nothing changes if loss or gradient is not finite.

    Each utterance weighs the same, whatever microbatch it is in. `before_update` runs when the gradient is
    on its way and the weights have not moved yet: that is when the step before is settled. `seed` decides
    dropout and LayerDrop; `by_part` measures each part's gradient too.
    """
    optimizer, scaler = parts.optimizer, parts.scaler
    loss, nats, ids, blank_share = accumulate_gradient(parts, batches, seed)
    scaler.unscale_(optimizer)  # fp16: the gradient as it is, so that its norm means something
    part_norms = norms_by_part(parts.model.named_parameters()) if by_part else {}
    grad_norm = torch.nn.utils.clip_grad_norm_((p for g in optimizer.param_groups for p in g["params"]), max_grad_norm)
    finite = torch.isfinite(loss) & torch.isfinite(grad_norm)
    before_update()
    lr = optimizer.param_groups[0]["lr"]
    # AdamW's fused kernel reads found_inf on the device and leaves weights, moments and its step count alone if
    # it is 1. scaler.step would hand over the gradients' flag only; ours covers the loss too, at every precision.
    optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
    optimizer.grad_scale = None  # type: ignore[attr-defined]
    optimizer.step()
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return StepResult(
        loss, grad_norm, HostCopy(finite), nats, ids, blank_share, lr, part_norms, is_halved=len(nats) > len(batches)
    )


def accumulate_gradient(
    parts: Parts, batches: Sequence[Batch], seed: int
) -> tuple[Tensor, list[Tensor], list[str], Tensor]:
    """(Step loss, nats per unit of each microbatch's utterances, ids, blank share); the gradient is in the parameters.

    Out of memory, the whole step is redone from its seed with every microbatch in halves: the same gradient up to
    rounding where dropout is off.
    """
    while True:
        torch.manual_seed(seed)
        loss, blank_share = torch.zeros((2,), device=parts.device)
        nats: list[Tensor] = []
        num_utterances = sum(len(batch.ids) for batch in batches)
        try:
            for batch in batches:
                of_batch, blank_shares = backward(parts, batch, num_utterances)
                nats.append(of_batch)
                loss += of_batch.sum() / num_utterances
                blank_share += blank_shares.sum() / num_utterances
            return loss, nats, [i for batch in batches for i in batch.ids], blank_share
        except torch.OutOfMemoryError:
            pass  # freeing memory must wait until the exception, which holds the step's tensors, is gone
        parts.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        if all(len(batch.ids) == 1 for batch in batches):
            longest = max(batches, key=lambda batch: batch.num_samples)
            raise TrainingStopped(
                f"out of memory on single utterances, the longest {longest.ids[0]} of {longest.num_seconds:.1f} s. "
                "Lower --corpus.max-seconds, freeze the feature encoder, or train a smaller model."
            )
        whole, batches = batches, []
        for batch in whole:
            batches += batch.halves(parts.model.num_frames) if len(batch.ids) > 1 else [batch]


def backward(parts: Parts, batch: Batch, num_utterances: int) -> tuple[Tensor, Tensor]:
    """(Nats per unit, share of blank frames), each (B,), of one microbatch, once its share of the gradient is added."""
    b = batch.to(parts.device)
    inputs = b.waveforms
    if parts.features is not None:
        assert batch.feature_rows is not None
        inputs = parts.features.gather(batch.feature_rows, parts.device)
    with parts.autocast():
        logits = parts.model(inputs, b.frame_lengths, is_padded=b.is_padded,
                             time_mask=b.time_mask, feature_mask=b.feature_mask)  # fmt: skip
    blank_id = parts.model.blank_id
    nats = ctc_loss_per_utterance(logits, b.frame_lengths, b.targets, b.target_lengths, blank_id=blank_id)
    parts.scaler.scale(nats.sum() / num_utterances).backward()
    is_real = torch.arange(logits.shape[1], device=parts.device) < b.frame_lengths[:, None]
    num_blank = ((logits.argmax(-1) == blank_id) & is_real).sum(1)
    return nats.detach(), num_blank / b.frame_lengths


def fit(
    parts: Parts,
    loader: TrainLoader,
    state: TrainState,
    config: TrainConfig,
    *,
    max_grad_norm: float,
    total_steps: int,
    score: Callable[[], Scores],
    save_best: Callable[[], None],
    save: Callable[[], None],
    runlog: TrainLog,
    must_stop: Callable[[], bool],
) -> bool:
    """Train from `state` to the end of the plan; False when `must_stop` cut it short (then it was saved).

    `score` evaluates the monitored split, `save_best` keeps the weights, `save` everything that is needed to go on.
    TrainingStopped, LoaderError and AudioError leave a checkpoint of the last step that was taken.
    """
    result: StepResult | None = None
    recent: list[Tensor] = []
    on_skip = functools.partial(runlog.skipped, state)
    clock = time.perf_counter()

    def catch_up() -> None:
        """Let the host know what the device knows, and the state what the loop knows."""
        nonlocal clock
        state.losses += torch.stack(recent).tolist() if recent else []
        recent.clear()
        state.train_seconds += time.perf_counter() - clock
        clock = time.perf_counter()
        settle(result, parts, state, config.max_skips, on_skip)

    def evaluate_and_record() -> bool:
        """Score the monitored split; False when a signal cut that short."""
        nonlocal clock
        state.eval_pending = True
        try:
            scores = score()
        except InterruptedEvaluation:
            return False
        except torch.OutOfMemoryError:
            clock = time.perf_counter()  # no time of training
            raise out_of_memory_in_evaluation() from None
        if improved := state.record(scores.words.rate, scores.seconds):
            save_best()
        runlog.evaluation(state, scores, improved)
        return True

    if state.eval_pending:
        if not evaluate_and_record():
            return False
        save()
    if is_done(state, config, total_steps):
        return True
    parts.model.train()
    clock = time.perf_counter()
    try:
        for epoch, batches, ends_epoch in loader.steps(state.epoch, state.batches_done):
            settle_previous = functools.partial(settle, result, parts, state, config.max_skips, on_skip)
            seed = derive_seed(loader.plan.seed, "step", state.step)
            log_due = state.step + 1 >= total_steps or is_due(state.step + 1, config.log_every)
            result = train_step(parts, batches, max_grad_norm, settle_previous, seed, log_due)
            recent.append(result.loss)
            state.advance(epoch, batches, ends_epoch)
            result.step = state.step
            if result.is_halved:
                state.num_halved += 1
                runlog.halved(state, result)

            stopping, last = must_stop(), state.step >= total_steps
            eval_due = last or is_due(state.step, config.eval_every)
            save_due = last or stopping or is_due(state.step, config.save_every)
            if not (log_due or eval_due or save_due):
                continue
            hopeless: TrainingStopped | None = None
            try:
                catch_up()
            except TrainingStopped as error:  # what falls on this step still happens: a resumed run starts after it
                hopeless = error
            if log_due:
                figures = [result.grad_norm, result.blank_share, *result.part_norms.values()]
                grad_norm, blank_share, *norms = torch.stack(figures).tolist()  # one wait
                runlog.train(state, loss=finite_mean(state.losses), grad_norm=grad_norm, lr=result.lr,
                             blank_share=blank_share, grad_scale=parts.scaler.get_scale(),
                             part_norms=dict(zip(result.part_norms, norms, strict=True)))  # fmt: skip
                state.losses.clear()
            if eval_due and not evaluate_and_record():
                stopping = True
            if hopeless is not None:
                raise hopeless
            done = not state.eval_pending and is_done(state, config, total_steps)
            if save_due or stopping or done:
                save()
            if done or stopping:
                return done
            clock = time.perf_counter()
    except (TrainingStopped, LoaderError, AudioError):
        with contextlib.suppress(TrainingStopped):
            catch_up()
        save()
        raise
    raise AssertionError("the plan ended before its last step")


def out_of_memory_in_evaluation() -> TrainingStopped:
    """What to raise when the device cannot hold a batch that is to be scored."""
    return TrainingStopped(
        "out of memory in an evaluation: lower --eval.batch-size or --eval.max-batch-seconds, which changes no "
        "transcript; then --resume."
    )


def settle(
    result: StepResult | None,
    parts: Parts,
    state: TrainState,
    max_skips: int,
    on_skip: Callable[[StepResult], None],
) -> None:
    """Learn whether a step was applied, and only then move the schedule. The wait is over before this is called.

    TrainingStopped after `max_skips` steps in a row that were not.
    """
    if result is None or result.settled:
        return
    (finite,) = result.finite.wait()
    result.settled = True
    if bool(finite):
        parts.scheduler.step()
        state.skipped_in_a_row = 0
        return
    state.num_skipped += 1
    state.skipped_in_a_row += 1
    on_skip(result)
    if state.skipped_in_a_row >= max_skips:
        state.skipped_in_a_row = 0  # a resumed run, with other options, gets as many again
        raise TrainingStopped(
            f"step {result.step}: loss or gradient was not finite {max_skips} times in a row; the weights are those "
            f"of step {result.step - max_skips}. Lower --optim.lr, raise the precision, or inspect the "
            "audio of the utterances named above; then --resume."
        )


def is_due(step: int, every: int) -> bool:
    """Whether something done `every` steps (0: never) falls on `step`."""
    return every > 0 and step % every == 0


def is_done(state: TrainState, config: TrainConfig, total_steps: int) -> bool:
    """Whether the plan is over, or patience is."""
    return state.step >= total_steps or (config.patience is not None and state.evals_without_gain >= config.patience)


def finite_mean(losses: Sequence[float]) -> float:
    """The mean of those losses that are numbers; the others belong to skipped steps, which are counted."""
    finite = [loss for loss in losses if math.isfinite(loss)]
    return sum(finite) / len(finite) if finite else math.nan
