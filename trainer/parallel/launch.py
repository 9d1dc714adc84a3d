"""How this process was launched: alone, or by torchrun as one of several. No torch here."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from trainer.errors import ConfigError, UserError

SECONDS_TO_BE_ENDED = 2.0
"""torchrun ends all processes as soon as it sees that one has ended: the one that tells the error must come first."""

NAMES = {"rank": "RANK", "size": "WORLD_SIZE", "local_rank": "LOCAL_RANK", "local_size": "LOCAL_WORLD_SIZE"}


@dataclass(frozen=True)
class Launch:
    """The place of this process among those of a run."""

    rank: int = 0
    """Its number among all processes of the run, from 0."""
    size: int = 1
    """Processes of the run."""
    local_rank: int = 0
    """Its number among those on this host; on CUDA also the number of its GPU."""
    local_size: int = 1
    """Processes of the run on this host."""

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes to the screen and to the disk."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether the run has no other process."""
        return self.size == 1


def launched(environment: Mapping[str, str] = os.environ) -> Launch:
    """What torchrun's environment says. Without it the process is alone; ConfigError when a part of it is missing."""
    if "WORLD_SIZE" not in environment or "RANK" not in environment:
        return Launch()
    try:
        found = {field: int(environment[name]) for field, name in NAMES.items()}
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"the environment names RANK and WORLD_SIZE, but not all of {', '.join(NAMES.values())} as numbers "
            f"({error}). Start the run with torchrun, or unset them."
        ) from None
    launch = Launch(**found)
    if not (0 <= launch.rank < launch.size and 0 <= launch.local_rank < launch.local_size <= launch.size):
        raise ConfigError(f"the environment says rank {launch.rank} of {launch.size}, local rank {launch.local_rank} "
                          f"of {launch.local_size}: this cannot be. Start the run with torchrun.")  # fmt: skip
    return launch


@contextmanager
def told_once(launch: Launch) -> Iterator[None]:
    """What is printed and raised within this context is the same in all processes: the first of each host tells it."""
    if launch.local_rank == 0:
        yield
        return
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            yield
    except (UserError, OSError) as error:
        error.is_told = True  # type: ignore[union-attr]
        time.sleep(SECONDS_TO_BE_ENDED)
        raise
