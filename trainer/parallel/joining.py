"""How the processes of a run come together: each says that it is there, and all must be alike."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from trainer.errors import ConfigError, UserError
from trainer.parallel.alive import machine
from trainer.parallel.failures import as_error, as_record
from trainer.parallel.launch import Launch
from trainer.parallel.processes import Processes
from trainer.parallel.roll_call import call_the_roll
from trainer.parallel.store import hear, open_store
from trainer.parallel.world import World

JOIN_SECONDS = 60.0
"""How long a process waits until all others are there. The environment variable of this name sets another one."""


@contextmanager
def joined(
    launch: Launch, find_device: Callable[[int | None], torch.device], *, always: bool = False
) -> Iterator[World]:
    """The World of this process, which takes leave of the others when the context ends, however that happens.

    `find_device` is given the local rank; None for a process alone. `join` says what is refused, and what `always` is.
    """
    if launch.is_alone and not always:
        yield World(launch)
        return
    refuse_without_torchrun(launch)
    device: torch.device | UserError
    try:
        device = find_device(launch.local_rank)
    except UserError as error:
        device = error
    world = join(launch, device, always=always)
    assert isinstance(world, Processes)
    try:
        yield world
    except BaseException:
        world.leave(failed=True)
        world.wait_for_first()
        raise
    if not world.has_left:  # before the end of the run
        world.leave()
        world.wait_for_first()


def refuse_without_torchrun(launch: Launch) -> None:
    """ConfigError when this process, which is to share its model, was not started by torchrun."""
    if launch.is_alone and "MASTER_ADDR" not in os.environ:
        raise ConfigError("--parallel fsdp needs torchrun: torchrun --nproc-per-node N -m trainer.run ...")


def join(
    launch: Launch, device: torch.device | UserError, seconds: float | None = None, *, always: bool = False
) -> World:
    """The World of this process. It returns when all processes of the run are there and found to be alike.

    `device` is that of this process, or why it has none. Within `seconds` (JOIN_SECONDS) all others must have come:
    ConfigError names those that have not, and tells those that differ in versions, in this program or in the kind of
    their device. `always`: talk through torch.distributed even if there is one process.
    """
    if launch.is_alone and not always:
        if isinstance(device, UserError):
            raise device
        return World(launch)
    seconds = float(os.environ.get("JOIN_SECONDS", JOIN_SECONDS)) if seconds is None else seconds
    store = open_store(launch, seconds)
    own: dict[str, Any] = {
        "rank": launch.rank, "host": socket.gethostname(), "pid": os.getpid(), "machine": machine(),
    }  # fmt: skip
    if isinstance(device, UserError):
        own["error"] = as_record(device)
    else:
        own["same"] = {"device": device.type, **fingerprint()}
    store, present = call_the_roll(store, launch, own, seconds)
    if (error := _why_not(launch, present, seconds)) is not None:
        hear(store, launch, [one["rank"] for one in present])
        error.is_told = launch.rank != present[0]["rank"]
        raise error
    assert isinstance(device, torch.device)
    return Processes(launch, store, device, present)


def fingerprint() -> dict[str, str]:
    """What must be the same in all processes before they read anything."""
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(p for package in ("data", "models", "trainer") for p in (root / package).rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return {"torch": torch.__version__, "transformers": version("transformers"), "program": digest.hexdigest()}


def _why_not(launch: Launch, present: Sequence[dict[str, Any]], seconds: float) -> UserError | None:
    """Why the run cannot begin: a process is missing, has no device, or differs from rank 0. None if it can."""
    if len(present) < launch.size:
        missing = sorted(set(range(launch.size)) - {one["rank"] for one in present})
        names = ", ".join(map(str, missing[:8])) + (f", ... ({len(missing)})" if len(missing) > 8 else "")
        return ConfigError(
            f"rank {names} of {launch.size} did not come within {seconds:g} s; {len(present)} are there, the first of "
            f"them rank {present[0]['rank']} on {present[0]['host']}. See what the missing ones printed on their own "
            "nodes; if they only need longer, set JOIN_SECONDS. If this run is to be alone: unset RANK WORLD_SIZE, "
            "which stand in its environment."
        )
    for one in present:
        name = f"rank {one['rank']} on {one['host']}"
        if "error" in one:
            error = as_error(one["error"] | {"where": name})
            assert isinstance(error, UserError)
            return error
    for one in present:
        for key, value in one["same"].items():
            expected = present[0]["same"][key]
            if value != expected:
                return ConfigError(
                    f"rank {one['rank']} on {one['host']} differs from rank 0 on {present[0]['host']} in {key}: "
                    f"{value} and {expected}. All processes of a run need the same: install it everywhere, then start "
                    "again."
                )
    return None
