"""What ranks beside the first have in place of a log and of checkpoints: they write nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainer.loop.state import TrainState
from trainer.loop.step import TrainingParts
from trainer.rundir.checkpoints.saving import Saver
from trainer.rundir.checkpoints.sharded import ShardedSaver, refuse_unshared_folder


def make_saver(
    parts: TrainingParts, run_dir: Path, keep: int, identity: Mapping[str, Any], warn: Callable[[str], None]
) -> Saver | SilentSaver:
    """What saves a run on this rank: all ranks save where the model is spread over them, else rank 0 alone."""
    if parts.model.is_sharded:
        refuse_unshared_folder(parts.world, run_dir)
        return ShardedSaver(run_dir, keep, identity, warn, parts.world)
    return Saver(run_dir, keep, identity, warn) if parts.world.is_first else SilentSaver()


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
