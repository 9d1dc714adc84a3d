"""Errors on their way from one process to the others: as JSON, by the name of their class. Nothing is unpickled."""

from __future__ import annotations

from typing import Any

import torch

import trainer.errors
from data.batches.loading import StopRequested
from trainer.errors import TrainingStopped, UserError

KINDS: dict[str, type[BaseException]] = {
    name: kind for name, kind in vars(trainer.errors).items() if isinstance(kind, type) and issubclass(kind, UserError)
} | {"StopRequested": StopRequested, "OutOfMemoryError": torch.OutOfMemoryError, "OSError": OSError}
"""Class by name: what one process raises is raised in all."""


def is_shared_kind(error: BaseException) -> bool:
    """Whether `error` is one that the user is told in a line, or a request to stop. Others are errors of ours."""
    return isinstance(error, tuple(KINDS.values()))


def as_record(error: BaseException) -> dict[str, Any]:
    """`error` as JSON can hold it."""
    name = type(error).__name__
    if name not in KINDS:
        name = next(n for n in ("OSError", "UserError") if isinstance(error, KINDS[n]))
    message = str(error)
    if name == "OSError":
        assert isinstance(error, OSError)
        message = f"{error.filename}: {error.strerror or error}" if error.filename else str(error.strerror or error)
    return {"kind": name, "message": message, "is_request": name == "StopRequested"}


def as_error(record: dict[str, Any]) -> BaseException:
    """The error of a record. "where" names the process that it comes from, if that is not this one."""
    where = f"{record['where']}: " if record.get("where") else ""
    kind = KINDS.get(record["kind"], TrainingStopped)
    return kind(f"{where}{record['message']}")
