"""The training loop. It knows no corpus and no model family: batches in, a trained model out.

`train_step` is one optimizer step, `fit` is everything that happens between steps. Every name called from
here is a plain function that can be opened; there are no hooks.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim.lr_scheduler import LambdaLR

from data.collate import Batch, TrainLoader
from data.randomness import derive_seed
from models.ctc import CTCModel, ctc_loss_per_utterance
from trainer.config import TrainConfig
from trainer.evaluate import Scores
from trainer.state import TrainState


@dataclass
class StepResult:
    """One step's outcome. The tensors are on the device until somebody must know."""

    loss: Tensor
    """Scalar: nats per unit, averaged over the step's utterances."""
    grad_norm: Tensor
    """Scalar: global L2 norm before clipping."""
    finite: Tensor
    """Scalar bool on the host: whether the update was applied; valid once `copied` has happened."""
    copied: torch.cuda.Event | None
    nats: list[Tensor]
    """(B,) of each microbatch: nats per unit of each utterance."""
    ids: list[str]
    lr: float
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


class TrainLog(Protocol):
    """Who is told; see trainer.runlog."""

    def train(self, state: TrainState, *, loss: float, grad_norm: float, lr: float, grad_scale: float) -> None: ...

    def evaluation(self, state: TrainState, scores: Scores, improved: bool) -> None: ...

    def skipped(self, state: TrainState, result: StepResult) -> None: ...


def train_step(
    parts: Parts, batches: Sequence[Batch], max_grad_norm: float, before_update: Callable[[], None]
) -> StepResult:
    """One optimizer step over all utterances of `batches`; nothing changes if loss or gradient is not finite.

    Each utterance weighs the same, whatever microbatch it is in. `before_update` runs when the gradient is
    on its way and the weights have not moved yet: that is when the step before is settled.
    """
    model, optimizer, scaler = parts.model, parts.optimizer, parts.scaler
    num_utterances = sum(len(batch.ids) for batch in batches)
    loss = torch.zeros((), device=parts.device)
    nats = []
    for batch in batches:
        b = batch.to(parts.device)
        with parts.autocast():
            logits = model(b.waveforms, b.frame_lengths, is_padded=b.is_padded,
                           time_mask=b.time_mask, feature_mask=b.feature_mask)  # fmt: skip
        nats.append(
            ctc_loss_per_utterance(logits, b.frame_lengths, b.targets, b.target_lengths, blank_id=model.blank_id)
        )
        share = nats[-1].sum() / num_utterances
        scaler.scale(share).backward()
        loss += share.detach()
    scaler.unscale_(optimizer)  # fp16: the gradient as it is, so that its norm means something
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
    on_host, copied = _copy_to_host(finite)
    ids = [i for batch in batches for i in batch.ids]
    return StepResult(loss, grad_norm, on_host, copied, [n.detach() for n in nats], ids, lr)


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
    """
    if is_done(state, config, total_steps):
        return True
    result: StepResult | None = None
    recent: list[Tensor] = []
    on_skip = functools.partial(runlog.skipped, state)
    parts.model.train()
    clock = time.perf_counter()
    for epoch, batches, ends_epoch in loader.steps(state.epoch, state.batches_done):
        seed_step(loader.plan.seed, state.step)
        settle_previous = functools.partial(settle, result, parts, state, on_skip)
        result = train_step(parts, batches, max_grad_norm, settle_previous)
        recent.append(result.loss)
        state.advance(epoch, batches, ends_epoch)
        result.step = state.step

        stopping, last = must_stop(), state.step >= total_steps
        log_due = last or state.step % config.log_every == 0
        eval_due = last or is_due(state.step, config.eval_every)
        save_due = last or stopping or is_due(state.step, config.save_every)
        if not (log_due or eval_due or save_due):
            continue
        settle(result, parts, state, on_skip)
        state.losses += torch.stack(recent).tolist()
        recent.clear()
        state.train_seconds += time.perf_counter() - clock
        if log_due:
            runlog.train(state, loss=finite_mean(state.losses), grad_norm=result.grad_norm.item(), lr=result.lr,
                         grad_scale=parts.scaler.get_scale())  # fmt: skip
            state.losses.clear()
        if eval_due:
            scores = score()
            if improved := state.record(scores.words.rate, scores.seconds):
                save_best()
            runlog.evaluation(state, scores, improved)
        done = is_done(state, config, total_steps)
        if save_due or done:
            save()
        if done or stopping:
            return done
        clock = time.perf_counter()
    raise AssertionError("the plan ended before its last step")


def settle(result: StepResult | None, parts: Parts, state: TrainState, on_skip: Callable[[StepResult], None]) -> None:
    """Learn whether a step was applied, and only then move the schedule. The wait is over before this is called."""
    if result is None or result.settled:
        return
    if result.copied is not None:
        result.copied.synchronize()
    result.settled = True
    if bool(result.finite):
        parts.scheduler.step()
    else:
        state.num_skipped += 1
        on_skip(result)


def seed_step(seed: int, step: int) -> None:
    """Dropout and LayerDrop as a function of (seed, step), so that a resumed run draws what it would have drawn."""
    torch.manual_seed(derive_seed(seed, "step", step))


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


def _copy_to_host(flag: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    if flag.device.type != "cuda":
        return flag, None
    on_host = torch.empty((), dtype=flag.dtype, pin_memory=True)
    on_host.copy_(flag, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()
    return on_host, copied
