"""How many optimizer steps a run has, counted once: a resumed run of a large corpus need not plan all epochs again.

With a budget of seconds, epochs may differ by a batch, so that each has to be planned to be counted. For ten million
utterances and 20 epochs this takes 20 s and more. The number is then kept under the run's cache:

    CACHE/plans/DIGEST.json   {"total_steps": 6307160}
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from itertools import islice
from pathlib import Path

import numpy as np

from data.batches.plan import BatchPlan
from trainer.rundir.disk import write_text

WORTH_KEEPING = 5.0
"""Seconds. A count that takes longer is kept."""
AT_ONCE = 2**16
"""Ids that are hashed together."""


def planned_steps(plan: BatchPlan, at_most: int | None, cache: Path) -> int:
    """plan.total_steps(at_most), read from `cache` if an earlier start has counted the same plan for so long."""
    if plan.batching.max_batch_seconds is None:  # all epochs have as many as the first
        return plan.total_steps(at_most)
    if (cache / "plans").is_dir() and (kept := _read(_path(plan, at_most, cache))) is not None:
        return kept
    begin = time.monotonic()
    steps = plan.total_steps(at_most)
    if time.monotonic() - begin > WORTH_KEEPING:
        with contextlib.suppress(OSError):  # it is counted again, which takes as long as now
            path = _path(plan, at_most, cache)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps({"total_steps": steps}) + "\n")
    return steps


def _read(path: Path) -> int | None:
    """The number that is kept there; None if none is, or what is there is none."""
    try:
        steps = json.loads(path.read_text(encoding="utf-8"))["total_steps"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return steps if type(steps) is int and steps > 0 else None


def _path(plan: BatchPlan, at_most: int | None, cache: Path) -> Path:
    """Where the number of this plan is kept: the name says everything that decides it."""
    digest = hashlib.blake2b(digest_size=16)
    b = plan.batching
    decides = [b.batch_size, b.max_batch_seconds, plan.seed, plan.epochs, plan.grad_accum_steps, plan.speeds, at_most]
    digest.update(json.dumps(decides).encode())
    lengths = np.asarray(plan.lengths, dtype=np.int64)
    digest.update(np.ascontiguousarray(lengths).data)
    if plan.grid is not None:
        digest.update(np.unique(plan.grid.padded_lengths(lengths)).data)
    if plan.speeds:
        ids = iter(plan.ids)
        while some := "\x1f".join(islice(ids, AT_ONCE)):
            digest.update(some.encode() + b"\x1e")
    return cache / "plans" / f"{digest.hexdigest()}.json"
