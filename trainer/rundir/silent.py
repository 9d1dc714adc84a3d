"""What ranks beside the first have in place of a log and of checkpoints: they write nothing."""

from __future__ import annotations

from typing import Any

from trainer.loop.state import TrainState


class SilentLog:
    """A RunLog without a word."""

    def __init__(self, state: TrainState) -> None:
        self.first_step = state.step

    def step(self, state: TrainState) -> None: ...

    def train(self, state: TrainState, **figures: Any) -> None: ...

    def evaluation(self, *what: Any) -> None: ...

    def skipped(self, *what: Any) -> None: ...

    def halved(self, *what: Any) -> None: ...

    def flush(self) -> None: ...

    def close_bar(self) -> None: ...

    def close(self) -> None: ...


class SilentSaver:
    """A Saver that saves nothing: rank 0 has all that there is to save."""

    def save(self, *what: Any) -> None: ...

    def save_best(self, *what: Any) -> None: ...

    def finish(self) -> bool:
        """There was nothing to wait for."""
        return True
