"""What the ranks agree on in every step, before its gradient is summed: whether all have one, and which parameters do.

It is agreed between the hosts, who know it without waiting for their devices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from data.batches.loading import StopRequested
from trainer.errors import AudioError, LoaderError, TrainingStopped
from trainer.parallel.failures import as_record
from trainer.parallel.world import World

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """What all ranks know after a vote."""

    out_of_memory: bool
    """Whether any rank ran out of memory: all redo the step."""
    stops: bool
    """Whether any rank was asked to stop: all stop after this step."""
    found: list[bool]
    """Whether each parameter has a gradient on any rank."""


class Ballot:
    """One vote of all ranks in each attempt at a step."""

    def __init__(self, world: World, num_parameters: int) -> None:
        self.world, self.num_parameters = world, num_parameters

    def cast(
        self, *, out_of_memory: bool, must_stop: Callable[[], bool], found: Callable[[], Sequence[bool]]
    ) -> Outcome:
        """Vote, and hear what all voted. If a rank has failed, its error is raised in all.

        `found` tells whether each parameter has a gradient here. A process alone is asked for neither.
        """
        if self.world.is_alone:
            return Outcome(out_of_memory, False, [])
        return self._vote(None, out_of_memory, must_stop(), found())

    def fail(self, error: BaseException) -> NoReturn:
        """Tell the others that this rank cannot take the step, and raise what all raise then."""
        if self.world.is_alone:
            raise error
        self._vote(error, False, False, [False] * self.num_parameters)
        raise AssertionError("a vote with a failure raises")

    def _vote(self, error: BaseException | None, out_of_memory: bool, stops: bool, found: Sequence[bool]) -> Outcome:
        assert len(found) == self.num_parameters
        failed, *flags = self.world.agree([error is not None, out_of_memory, stops, *found])
        if failed:
            raise self.world.shared(self.world.gather(None if error is None else as_record(error)), error)
        return Outcome(bool(flags[0]), bool(flags[1]), [flag > 0 for flag in flags[2:]])

    def in_step(self, steps: Iterator[T]) -> Iterator[T]:
        """`steps` of this rank's loader. When they fail here, or a signal interrupts them, it happens in all ranks."""
        while True:
            try:
                step = next(steps, None)
            except (TrainingStopped, LoaderError, AudioError, StopRequested) as error:
                self.fail(error)
            if step is None:
                return
            yield step
