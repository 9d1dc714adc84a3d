"""The loop when numbers, memory, signals or the loader fail: rows S4, S6, S7 and S11 in milliseconds."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import trainer.loop.step
from data.batches.collate import Batch
from data.batches.loading import StopRequested, TrainLoader
from tests.helpers.steps import (
    EXAMPLES,
    NoDynamics,
    Recorder,
    gradient_of_step,
    loader_of,
    make_batch,
    make_parts,
    run_fit,
    small_model,
)
from trainer.config.schema import TrainConfig
from trainer.errors import LoaderError, TrainingStopped
from trainer.loop.fit import fit
from trainer.loop.state import TrainState
from trainer.loop.step import TrainingParts, train_step
from trainer.scoring.scores import Scores


def with_nan(loader: TrainLoader, poisoned: set[int]) -> Callable:
    """The loader's steps, those of these numbers (from 1) with a sample that is not a number."""
    steps = loader.steps

    def poisoned_steps(*start: Any) -> Iterator:
        for number, (epoch, batches, ends_epoch) in enumerate(steps(*start), 1):
            if number in poisoned:
                batches[0].waveforms[:, 100] = math.nan
            yield epoch, batches, ends_epoch

    return poisoned_steps


def test_nan_n_times_in_a_row_stops_after_everything_due_and_leaves_the_weights_of_before() -> None:
    """Steps 3 to 5 are poisoned; the fifth is logged, evaluated and saved as it would be without. Then it stops."""
    config = TrainConfig(log_every=5, eval_every=5, save_every=5, max_skips=3)
    before = make_parts(small_model())
    run_fit(before, loader_of(EXAMPLES), TrainConfig(eval_every=0, save_every=0), 2)
    evaluated, saved, state, parts, loader = [], [], TrainState(), make_parts(small_model()), loader_of(EXAMPLES)

    def score() -> Scores:
        evaluated.append(state.step)
        return Scores("dev", (), 0.0, 0.0, {})

    loader.steps = with_nan(loader, {3, 4, 5})  # type: ignore[method-assign]
    with pytest.raises(TrainingStopped, match=r"^step 5: .* 3 times in a row; the weights are those of step 2\. Lower"):
        run_fit(parts, loader, config, 20, state=state, score=score, save=lambda: saved.append(state.step))
    assert (evaluated, saved, state.num_skipped, state.losses) == ([5], [5], 3, [])
    assert all(torch.equal(a, b) for a, b in zip(before.model.parameters(), parts.model.parameters(), strict=True))


def test_skips_that_are_not_in_a_row_do_not_stop() -> None:
    """Every second step is poisoned: never two in a row."""
    loader, state = loader_of(EXAMPLES), TrainState()
    loader.steps = with_nan(loader, {2, 4, 6, 8})  # type: ignore[method-assign]
    run_fit(make_parts(small_model()), loader, TrainConfig(save_every=0, max_skips=2), 9, state=state)
    assert (state.step, state.num_skipped) == (9, 4)


@pytest.fixture
def memory_for(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """memory_for(2): microbatches of more than 2 utterances run out of memory."""
    original = trainer.loop.step.backward

    def limit(num_utterances: int) -> None:
        def backward(parts: TrainingParts, batch: Batch, *rest: int) -> torch.Tensor:
            if len(batch.ids) > num_utterances:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return original(parts, batch, *rest)

        monkeypatch.setattr(trainer.loop.step, "backward", backward)

    return limit


@pytest.mark.parametrize("num_utterances", [1, 2, 4])
def test_a_step_redone_in_halves_has_the_gradient_of_the_whole(
    num_utterances: int, memory_for: Callable[[int], None]
) -> None:
    """Five utterances and three, halved until they fit; against one that had memory, to fp32 rounding."""
    whole = gradient_of_step([[0, 1, 2, 3, 4], [1, 3, 0]])
    memory_for(num_utterances)
    halved = gradient_of_step([[0, 1, 2, 3, 4], [1, 3, 0]])
    assert (halved - whole).norm() < 1e-5 * whole.norm()


ALLOCATOR = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: 2 bytes"


@pytest.mark.parametrize(
    "error",
    [RuntimeError(ALLOCATOR), RuntimeError("could not create a primitive"), MemoryError()],
    ids=["torch", "oneDNN", "numpy"],
)
def test_a_host_without_memory_has_its_step_redone_in_halves_too(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a CPU raises under a limit of memory (ulimit -v), against a step that had memory, to fp32 rounding."""
    whole = gradient_of_step([[0, 1, 2, 3, 4], [1, 3, 0]])
    original = trainer.loop.step.batch_logits

    def batch_logits(model: Any, batch: Batch, *rest: Any) -> Any:
        if len(batch.ids) > 2:
            raise error
        return original(model, batch, *rest)

    monkeypatch.setattr(trainer.loop.step, "batch_logits", batch_logits)
    halved = gradient_of_step([[0, 1, 2, 3, 4], [1, 3, 0]])
    assert (halved - whole).norm() < 1e-5 * whole.norm()


def test_a_halved_step_is_counted_and_a_step_that_fails_half_way_leaves_no_gradient(
    memory_for: Callable[[int], None],
) -> None:
    memory_for(2)
    parts, told = make_parts(small_model()), []
    parts.model.train()
    result = train_step(parts, [make_batch([1]), make_batch([0, 2, 4])], 1.0, lambda: None)
    assert result.is_halved
    assert [len(n) for n in result.nats] == [1, 2, 1]
    assert result.ids == ["u1", "u0", "u2", "u4"]
    log, state = Recorder(), TrainState()
    log.halved = lambda state, result: told.append(state.step)  # type: ignore[method-assign]
    arguments = dict(max_grad_norm=1.0, total_steps=2, score=lambda: Scores("dev", (), 0.0, 0.0, {}), save=lambda: None,
                     save_best=lambda: None, runlog=log, dynamics=NoDynamics(), must_stop=lambda: False)  # fmt: skip
    fit(parts, loader_of(EXAMPLES, batch_size=5), state, TrainConfig(), **arguments)  # type: ignore[arg-type]
    assert (state.num_halved, told) == (2, [1, 2])


def test_a_single_utterance_without_memory_stops_by_name_after_a_save(memory_for: Callable[[int], None]) -> None:
    memory_for(0)
    parts, saved, state = make_parts(small_model()), [], TrainState()
    before = [p.detach().clone() for p in parts.model.parameters()]
    with pytest.raises(TrainingStopped, match=r"^out of memory on single utterances, the longest u3 of 0\.5 s\."):
        run_fit(parts, loader_of(EXAMPLES, batch_size=5), TrainConfig(), 4, state=state,
                save=lambda: saved.append(state.step))  # fmt: skip
    assert saved == [0]
    assert all(torch.equal(a, b) for a, b in zip(before, parts.model.parameters(), strict=True))


def test_an_evaluation_cut_short_is_pending_and_comes_first_in_the_next_fit() -> None:
    evaluated, saved, state = [], [], TrainState()
    parts, config = make_parts(small_model()), TrainConfig(eval_every=2, save_every=0)

    def interrupted() -> Scores:
        raise StopRequested

    def score() -> Scores:
        evaluated.append(state.step)
        return Scores("dev", (), 0.0, 0.0, {})

    def save() -> None:
        saved.append((state.step, state.eval_pending))

    run_fit(parts, loader_of(EXAMPLES), config, 4, state=state, score=interrupted, save=save)
    assert (state.step, saved) == (2, [(2, True)])
    run_fit(parts, loader_of(EXAMPLES), config, 4, state=state, score=score, save=save)
    assert (evaluated, saved) == ([2, 4], [(2, True), (2, False), (4, False)])


def test_an_evaluation_without_memory_stops_with_everything_saved_and_comes_first_afterwards() -> None:
    evaluated, saved, state = [], [], TrainState()
    parts, config = make_parts(small_model()), TrainConfig(eval_every=2, save_every=0, log_every=2)

    def too_large() -> Scores:
        time.sleep(0.5)
        raise torch.OutOfMemoryError("CUDA out of memory")

    def score() -> Scores:
        evaluated.append(state.step)
        return Scores("dev", (), 0.0, 0.0, {})

    def save() -> None:
        saved.append((state.step, state.eval_pending))

    for _ in range(2):  # also when it is tried again first thing
        with pytest.raises(TrainingStopped, match=r"^out of memory in an evaluation: one utterance alone"):
            run_fit(parts, loader_of(EXAMPLES), config, 4, state=state, score=too_large, save=save)
        assert saved == [(2, True)]
    assert state.train_seconds < 0.5
    run_fit(parts, loader_of(EXAMPLES), config, 4, state=state, score=score, save=save)
    assert (evaluated, saved) == ([2, 4], [(2, True), (2, False), (4, False)])


def test_a_loader_that_fails_leaves_a_checkpoint_of_the_last_step() -> None:
    parts, loader, saved, state = make_parts(small_model()), loader_of(EXAMPLES), [], TrainState()
    steps = loader.steps

    def broken(*start: Any) -> Iterator:
        yield from itertools.islice(steps(*start), 3)
        raise LoaderError("a loader worker died or hung")

    loader.steps = broken  # type: ignore[method-assign]
    with pytest.raises(LoaderError):
        run_fit(parts, loader, TrainConfig(save_every=0), 9, state=state,
                save=lambda: saved.append((state.step, len(state.losses))))  # fmt: skip
    assert saved == [(3, 3)]
