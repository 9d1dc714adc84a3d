"""What stands in for CUDA graphs where there is no GPU: the same operations run again, in the same memory."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import torch
from torch import Tensor

from models.layers.half_copies import HalfCopies
from trainer.loop.gradients import Gradients
from trainer.loop.graphs import Graphs
from trainer.loop.step import TrainingParts


class Rerun:
    """A recorder whose recordings are functions. Like a capture, recording leaves random numbers as they were, and what
    is recorded rounds no weights: their copies are up to date at that moment."""

    def __init__(self) -> None:
        self.num_recorded = self.num_rerun = 0

    def record(self, operations: Callable[[], Tensor | None]) -> tuple[Tensor | None, Callable[[], None]]:
        self.num_recorded += 1
        with torch.random.fork_rng(devices=[]):
            result = operations()

        def again() -> None:
            self.num_rerun += 1
            with mock.patch.object(HalfCopies, "refresh"):
                new = operations()
            if result is not None and new is not None:
                result.copy_(new)

        return result, again

    def recover(self) -> bool:
        return True


def with_graphs(parts: TrainingParts, *, accumulates: bool = False, told: list[str] | None = None) -> Rerun:
    """Give `parts` graphs as a run on CUDA has them; returns what records them."""
    recorder = Rerun()
    parts.gradients = Gradients(parts.model, in_one_buffer=True)
    parts.graphs = Graphs(
        parts.model, parts.gradients, parts.autocast, recorder, ([] if told is None else told).append,
        accumulates=accumulates,
    )  # fmt: skip
    return recorder
