"""Worker processes that hang or die (data.batches.loading): the next batch is an error that says so, never a wait."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from data.batches.collate import BatchDataset, Frontend
from data.batches.loading import TrainLoader, load_batches
from data.batches.plan import BatchPlan
from data.config import BatchingConfig
from data.examples.prepare import Example
from tests.helpers.models import eval_set, example, small_model
from tests.helpers.steps import EXAMPLES, NUM_FRAMES
from trainer.errors import LoaderError
from trainer.scoring.evaluate import evaluate


def hang() -> np.ndarray:
    time.sleep(60)
    raise AssertionError("waited for in vain")


def die() -> np.ndarray:
    os._exit(1)


def with_load(load: Callable[[], np.ndarray], one: Example) -> Example:
    """The same utterance, whose audio is loaded so."""
    return replace(one, load=load)


def train_loader(load: Callable[[], np.ndarray], timeout_seconds: float) -> TrainLoader:
    """Batches of one, made by one worker; the audio of the third utterance is loaded by `load`."""
    examples = [*EXAMPLES[:2], with_load(load, EXAMPLES[2]), *EXAMPLES[3:]]
    lengths, ids = [e.num_samples for e in examples], [e.utterance.id for e in examples]
    plan = BatchPlan(lengths, ids, BatchingConfig(batch_size=1), 7, 1)
    return TrainLoader(BatchDataset(examples, Frontend(NUM_FRAMES), plan), plan, num_workers=1, pin_memory=False,
                       timeout_seconds=timeout_seconds)  # fmt: skip


@pytest.fixture(autouse=True)
def soon(deadline: Callable[[int], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for what never comes; and torch gives a worker that hangs a moment to end, not five seconds."""
    deadline(20)
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.1)


@pytest.mark.parametrize(("load", "timeout_seconds"), [(hang, 0.3), (die, 20.0)])
def test_training_meets_a_worker_that_hangs_or_dies_with_an_error(
    load: Callable[[], np.ndarray], timeout_seconds: float
) -> None:
    """After batches that came before it, in their order: of one that hangs all, while a death may be noticed sooner."""
    loader = train_loader(load, timeout_seconds)
    order = [epoch_batch[0] for epoch_batch in loader.plan.batches(0)]
    seen: list[str] = []

    def take_all() -> None:
        for _, batches, _ in loader.steps(0, 0):
            seen.extend(batches[0].ids)

    with pytest.raises(LoaderError, match=r"a loader worker died or hung \(.*--resume goes on"):
        take_all()
    before = [f"u{i}" for i in order[: order.index(2)]]
    assert seen == (before if load is hang else before[: len(seen)])


def test_an_evaluation_meets_a_worker_that_hangs_with_an_error() -> None:
    model = small_model()
    hanging = with_load(hang, example(4000, "abba"))
    split = replace(eval_set(model, [hanging]), num_workers=1, worker_timeout=0.3)
    with pytest.raises(LoaderError, match="a loader worker died or hung"):
        evaluate(model, split, torch.device("cpu"), nullcontext)


def test_a_worker_that_is_slower_than_nothing_is_waited_for() -> None:
    """A control: the same loader, whose utterance takes a moment and comes."""

    def slowly() -> np.ndarray:
        time.sleep(0.2)
        return EXAMPLES[2].load()

    loader = train_loader(slowly, 10.0)
    assert sorted(batches[0].ids[0] for _, batches, _ in loader.steps(0, 0)) == [e.utterance.id for e in EXAMPLES]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_come_in_the_order_asked_for(num_workers: int) -> None:
    """Whoever makes them."""
    asked: list[tuple[int, list[int]]] = [(0, [2]), (0, [0, 1]), (1, [4]), (1, [3, 0])]
    options: dict[str, Any] = dict(num_workers=num_workers, pin_memory=False, timeout_seconds=20.0)
    dataset = BatchDataset(EXAMPLES, Frontend(NUM_FRAMES))
    batches = list(load_batches(dataset, lambda: iter(asked), **options))
    assert [list(batch.positions) for batch in batches] == [positions for _, positions in asked]
