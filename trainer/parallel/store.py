"""The store through which the processes of a run find each other: torchrun holds it, or else rank 0."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from datetime import timedelta

import torch.distributed as dist

from trainer.errors import ConfigError
from trainer.parallel.launch import Launch

SHORTEST_NAP, LONGEST_NAP = 0.001, 0.1
"""Seconds between two questions to the store, at first and after a while."""
SECONDS_TO_BE_HEARD = 5.0
"""How long rank 0 stays when the others may still have to read why the run ends."""


def open_store(launch: Launch, seconds: float) -> dist.Store:
    host, port = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
    if not host or not port.isdigit():
        raise ConfigError(
            "the environment names RANK, but not MASTER_ADDR and MASTER_PORT. Start the run with torchrun."
        )
    try:
        return dist.TCPStore(
            host, int(port), is_master=launch.rank == 0 and not agent_has_store(), timeout=timedelta(seconds=seconds),
            wait_for_workers=False, multi_tenant=True,
        )  # fmt: skip
    except RuntimeError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(
            f"rank {launch.rank} cannot reach rank 0's host at {host}:{port} within {seconds:g} s ({reason}). Is the "
            "first node started, and is this port open?"
        ) from None


def hear(store: dist.Store, launch: Launch, others: Iterable[int]) -> None:
    """Say that this process needs the store no more. Rank 0 waits a while until `others` have said so: where torchrun
    does not hold the store, it ends with rank 0."""
    keys = [f"heard/{rank}" for rank in others if rank != launch.rank]
    end = time.monotonic() + SECONDS_TO_BE_HEARD
    with contextlib.suppress(RuntimeError):
        store.set(f"heard/{launch.rank}", "")
        while launch.is_first and not agent_has_store() and not store.check(keys) and time.monotonic() < end:
            time.sleep(SHORTEST_NAP)


def agent_has_store() -> bool:
    """Whether torchrun itself holds the store, and not rank 0."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
