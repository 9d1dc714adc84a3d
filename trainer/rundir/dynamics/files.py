"""The files of runs/NAME/dynamics: the loss of each utterance at each visit in training, and at each evaluation.

    train.npy              a record of VISIT for each utterance of each step
    train-ids.arrow        the utterances that `row` counts, one id each
    evaluations.npy        a record of SCORE for each utterance of each evaluation during training
    evaluations-ids.arrow  the utterances of the split that is scored

Swayamdipta et al. 2020 (arXiv 2009.10795) read from such losses which examples are easy, ambiguous, or labelled wrong.
Nothing goes on from these files: whoever damages one loses what it tells, and no training.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from data.text.normalised import ArrowTexts
from data.text.utf8 import in_utf8
from trainer.errors import ConfigError, DamagedError
from trainer.rundir.disk import write_bytes
from trainer.rundir.dynamics.record_file import map_records

FOLDER = "dynamics"
VISIT = np.dtype([("epoch", "<u4"), ("step", "<u4"), ("row", "<u4"), ("loss", "<f4")])
"""Epoch from 0; step from 1; place in the ids; nats per unit, inf where the loss was infinite or no number."""
SCORE = np.dtype(
    [("step", "<u4"), ("row", "<u4"), ("loss", "<f4"), ("word_errors", "<u4"), ("character_errors", "<u4")]
)
"""The steps taken before the evaluation; the others as in VISIT; edits between transcript and hypothesis."""
TABLES = {"train": VISIT, "evaluations": SCORE}
MAX_WHOLE = 2**28
"""Records of a table that are all kept: 26 epochs of ten million utterances, 4.3 GB."""


def is_kept(k: int, size: int) -> bool:
    """Whether the k-th pass over `size` utterances is kept, counted from 0.

    All are, up to MAX_WHOLE records; from then on every second one, from twice as many on every fourth, and so on: with
    each doubling the file grows by half of what was kept before the first.

    >>> [k for k in range(60) if is_kept(k, 2**25)]
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56]
    """
    whole = max(1, MAX_WHOLE // max(1, size))
    return k % (1 << (k // whole).bit_length()) == 0


@dataclass(frozen=True)
class Dynamics:
    """What a run has kept so far. The arrays are mapped from its files, in the order of steps, then of rows."""

    visits: np.ndarray
    """VISIT, of training."""
    ids: Sequence[str]
    """The utterance of each row in training."""
    scores: np.ndarray
    """SCORE, of the evaluations during training."""
    scored_ids: Sequence[str]
    """The utterance of each row in evaluations."""


def read_dynamics(run_dir: Path) -> Dynamics:
    """What `run_dir` has kept, also while the run goes on. ConfigError where there is nothing; DamagedError."""
    folder = run_dir / FOLDER
    if not (folder / "train.npy").exists():
        raise ConfigError(f"{folder}: holds no losses. Runs of older versions of this program kept none.")
    tables = [
        (map_records(folder / f"{name}.npy", dtype), read_ids(folder / f"{name}-ids.arrow"))
        for name, dtype in TABLES.items()
    ]
    return Dynamics(*tables[0], *tables[1])


def by_pass(records: np.ndarray, key: str, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """(K,) the epochs of training or the steps of evaluations, and float32 (K, num_rows) the losses in each.

    `key` is "epoch" or "step". NaN where an utterance was not visited. Of two visits in one epoch, which a resume with
    other batches can bring, the later one counts.
    """
    passes, which = np.unique(records[key], return_inverse=True)
    losses = np.full((len(passes), num_rows), np.nan, np.float32)
    losses[which, records["row"]] = records["loss"]
    return passes, losses


def ids_column(ids: Sequence[str]) -> pa.LargeStringArray:
    """`ids` as one Arrow array. A lone surrogate, of a file's name that is not UTF-8, stands there as `\\udcff`."""
    if isinstance(ids, ArrowTexts):
        chunks = ids.column.cast(pa.large_string()).chunks
        return pa.concat_arrays(chunks) if chunks else pa.array([], pa.large_string())
    try:
        return pa.array(ids, pa.large_string())
    except UnicodeEncodeError:
        return pa.array([in_utf8(i) for i in ids], pa.large_string())


def digest_of_ids(column: pa.LargeStringArray) -> str:
    """SHA-256 of lengths and content, in hexadecimal: the same for the same ids in any version of pyarrow."""
    _, offsets, content = column.buffers()
    if len(column) == 0:
        return hashlib.sha256().hexdigest()
    bounds = np.frombuffer(offsets, "<i8")[column.offset : column.offset + len(column) + 1]
    digest = hashlib.sha256(np.diff(bounds).tobytes())
    digest.update(b"" if content is None else memoryview(content)[bounds[0] : bounds[-1]])
    return digest.hexdigest()


def write_ids(path: Path, column: pa.LargeStringArray) -> None:
    """Write the ids, unless the file holds them already."""
    with contextlib.suppress(DamagedError):
        if read_ids(path).column.chunk(0).equals(column):
            return
    told = pa.BufferOutputStream()
    with pa.ipc.new_file(told, pa.schema([("id", pa.large_string())])) as writer:
        writer.write_batch(pa.record_batch([column], names=["id"]))
    write_bytes(path, told.getvalue())


def check_ids(path: Path, digest: str) -> None:
    """DamagedError unless the file holds the ids that have this digest."""
    if digest_of_ids(read_ids(path).column.chunk(0)) != digest:
        raise DamagedError(f"{path}: its content is not what was written (SHA-256 differs)")


def read_ids(path: Path) -> ArrowTexts:
    """The ids, mapped from the file. DamagedError when it cannot be read."""
    try:
        column = pa.ipc.open_file(pa.memory_map(str(path))).read_all().column("id")
        column.validate(full=True)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DamagedError(f"{path}: not readable ({getattr(error, 'strerror', None) or error})") from None
    if column.type != pa.large_string() or column.num_chunks != 1:
        raise DamagedError(f"{path}: holds something else than ids")
    return ArrowTexts(column)
