"""The training loop. It knows no corpus and no model family: batches in, a trained model out.

`trainer.loop.step.train_step` is one optimizer step, `fit` is everything that happens between steps. Every name called
from here is a plain function that can be opened; there are no hooks.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from data.batches.loading import StopRequested, TrainLoader
from data.randomness import derive_seed
from trainer.config.schema import TrainConfig
from trainer.errors import AudioError, LoaderError, TrainingStopped
from trainer.loop.state import TrainState
from trainer.loop.step import StepResult, TrainingParts, train_step
from trainer.scoring.scores import Scores


class TrainLog(Protocol):
    """What the loop reports to. trainer.rundir.logs.log implements it."""

    def step(self, state: TrainState) -> None: ...

    def train(
        self, state: TrainState, *, loss: float, grad_norm: float, lr: float, grad_scale: float,
        part_norms: Mapping[str, float], blank_share: float,
    ) -> None: ...  # fmt: skip

    def evaluation(self, state: TrainState, scores: Scores, improved: bool) -> None: ...

    def skipped(self, state: TrainState, result: StepResult) -> None: ...

    def halved(self, state: TrainState, result: StepResult) -> None: ...


class LossLog(Protocol):
    """Where the loss of each utterance goes. trainer.rundir.dynamics.recorder implements it, on every rank."""

    def visited(self, result: StepResult, nats: Sequence[Tensor]) -> None:
        """`nats` are those of `result`, on the host."""

    def evaluated(self, state: TrainState, scores: Scores) -> None: ...


def fit(
    parts: TrainingParts,
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
    dynamics: LossLog,
    must_stop: Callable[[], bool],
) -> bool:
    """Train from `state` to the end of the plan. False when `must_stop` ended training early; it is saved then.

    `score` evaluates the monitored split, `save_best` keeps the weights, `save` keeps everything that is needed to go
    on. Before TrainingStopped, LoaderError or AudioError is raised, the last step that was taken is saved.

    All ranks of several go through this together: what one of them meets, all do after the same step.
    """
    world = parts.world
    result: StepResult | None = None
    recent: list[Tensor] = []
    settle = functools.partial(
        finish_previous_step, parts=parts, state=state, max_skips=config.max_skips,
        on_skip=functools.partial(runlog.skipped, state), dynamics=dynamics,
    )  # fmt: skip
    clock = time.perf_counter()

    def catch_up() -> None:
        """Wait for the last step's outcome; bring losses, seconds and skipped steps in `state` up to date."""
        nonlocal clock
        state.losses += filter(math.isfinite, torch.stack(recent).tolist() if recent else [])
        recent.clear()
        state.train_seconds += time.perf_counter() - clock
        clock = time.perf_counter()
        settle(result)

    def evaluate_and_record() -> bool:
        """Score the monitored split; False when a signal interrupted it."""
        nonlocal clock
        state.eval_pending = True
        try:
            scores = score()
        except StopRequested:
            return False
        except torch.OutOfMemoryError:
            clock = time.perf_counter()  # an evaluation is not training time
            raise world.told(out_of_memory_in_evaluation()) from None
        if improved := state.record(scores.words.rate, scores.seconds):
            save_best()
        runlog.evaluation(state, scores, improved)
        dynamics.evaluated(state, scores)
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
        steps = loader.steps(state.epoch, state.batches_done, must_stop)
        for epoch, batches, ends_epoch in parts.ballot.in_step(steps):
            finish_previous = functools.partial(settle, result)
            seed = derive_seed(loader.plan.seed, "step", state.step)
            log_due = state.step + 1 >= total_steps or is_due(state.step + 1, config.log_every)
            result = train_step(parts, batches, max_grad_norm, finish_previous, seed, log_due, must_stop)
            recent.append(result.loss)
            state.advance(epoch, batches, ends_epoch)
            result.epoch, result.step = epoch, state.step
            runlog.step(state)
            if result.is_halved:
                state.num_halved += 1
                runlog.halved(state, result)

            stopping, last = must_stop() if world.is_alone else result.stops, state.step >= total_steps
            eval_due = last or is_due(state.step, config.eval_every)
            save_due = last or stopping or is_due(state.step, config.save_every)
            if not (log_due or eval_due or save_due):
                continue
            hopeless: TrainingStopped | None = None
            try:
                catch_up()
            except TrainingStopped as error:  # what is due still happens: a resumed run starts after this step
                hopeless = error
            if log_due:
                record_training(runlog, state, result, parts.scaler.get_scale())
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
    except torch.OutOfMemoryError as error:
        reason = str(error).splitlines()[0]
    except (TrainingStopped, LoaderError, AudioError, StopRequested) as error:
        if not world.has_summed():
            raise  # the gradient of the last step never came, and the device may have updated weights without it
        with contextlib.suppress(TrainingStopped):
            catch_up()
        save()
        if isinstance(error, StopRequested):  # while the next step's batches were waited for
            return False
        raise
    else:
        raise AssertionError("the plan ended before its last step")
    # Outside of the exception, which holds the tensors of the step that was not taken
    world.quit()
    parts.optimizer.zero_grad(set_to_none=True)
    torch.cuda.empty_cache()
    with contextlib.suppress(TrainingStopped):
        catch_up()
    save()
    raise out_of_memory_in_update(state.step, reason)


def record_training(runlog: TrainLog, state: TrainState, result: StepResult, grad_scale: float) -> None:
    """Log the mean loss of the steps since the last log, and what was measured in the newest one."""
    assert result.blank_share is not None, "a step that is logged measures it"
    figures = [result.grad_norm, result.blank_share, *result.part_norms.values()]
    grad_norm, blank_share, *norms = torch.stack(figures).tolist()  # one wait
    runlog.train(state, loss=mean(state.losses), grad_norm=grad_norm, lr=result.lr, grad_scale=grad_scale,
                 blank_share=blank_share, part_norms=dict(zip(result.part_norms, norms, strict=True)))  # fmt: skip
    state.losses.clear()


def out_of_memory_in_update(step: int, reason: str) -> TrainingStopped:
    """The error to raise when there was no memory after the gradient of the step behind `step` was there."""
    return TrainingStopped(
        f"out of memory after step {step}, in clipping or the optimizer ({reason}). Free the device of other "
        "programs, freeze the feature encoder, or train a smaller model; then --resume."
    )


def out_of_memory_in_evaluation() -> TrainingStopped:
    """The error to raise when a single utterance of an evaluation does not fit into the device's memory."""
    return TrainingStopped(
        "out of memory in an evaluation: one utterance alone does not fit. Free the device of other programs, or split "
        "the longest utterances; then --resume."
    )


def finish_previous_step(
    result: StepResult | None,
    parts: TrainingParts,
    state: TrainState,
    max_skips: int,
    on_skip: Callable[[StepResult], None],
    dynamics: LossLog | None = None,
) -> None:
    """Wait until the host knows whether the step of `result` was applied. Move the schedule only if it was.

    Its losses, applied or not, go to `dynamics`. Nothing happens without a result, or for one that was finished before.
    TrainingStopped after `max_skips` steps in a row that were not applied.
    """
    if result is None or result.settled:
        return
    finite, *nats = result.outcome.wait()
    result.settled = True
    if dynamics is not None:
        dynamics.visited(result, nats)
    if bool(finite):
        parts.scheduler.step()
        state.skipped_in_a_row = 0
        return
    state.num_skipped += 1
    state.skipped_in_a_row += 1
    result.gather(parts.world)
    on_skip(result)
    if state.skipped_in_a_row >= max_skips:
        state.skipped_in_a_row = 0  # a resumed run may have other options: it counts anew
        raise parts.world.told(
            TrainingStopped(
                f"step {result.step}: loss or gradient was not finite {max_skips} times in a row; the weights are "
                f"those of step {result.step - max_skips}. Lower --optim.lr, raise the precision, or inspect the audio "
                "of the utterances named above; then --resume."
            )
        )


def is_due(step: int, every: int) -> bool:
    """Whether something done `every` steps (0: never) falls on `step`."""
    return every > 0 and step % every == 0


def is_done(state: TrainState, config: TrainConfig, total_steps: int) -> bool:
    """Whether all steps of the plan are taken, or `patience` evaluations in a row brought no lower WER."""
    return state.step >= total_steps or (config.patience is not None and state.evals_without_gain >= config.patience)


def mean(losses: Sequence[float]) -> float:
    """Of the steps since the last log; not a number when all of them were skipped."""
    return sum(losses) / len(losses) if losses else math.nan
