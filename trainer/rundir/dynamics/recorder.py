"""Keep the loss of each utterance at each visit. trainer.rundir.dynamics.files describes the files, and reads them.

Each rank notes the losses of its own utterances when the loop has them on the host, one step late, and waits for
nothing. Before a checkpoint, rank 0 collects what all have noted, brings it to its files, and seals them: the seals lie
in the checkpoint's state.json. A run that goes on from there cuts off what came behind them, and visits those
utterances again; its files end bit for bit as those of a run that nothing stopped.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.errors import DamagedError
from trainer.loop.state import TrainState
from trainer.loop.step import StepResult
from trainer.parallel.world import World
from trainer.rundir.checkpoints.restore import seals_of
from trainer.rundir.disk import sync
from trainer.rundir.dynamics.files import (
    FOLDER,
    SCORE,
    TABLES,
    VISIT,
    digest_of_ids,
    ids_column,
    is_kept,
    write_ids,
)
from trainer.rundir.dynamics.record_file import RecordFile, put_aside
from trainer.scoring.scores import Scores

HELD = 2**16
"""Records that a process alone holds in memory before it writes them. Several hold theirs until the next save."""


class LossFiles:
    """The files of one run, which rank 0 writes. What the disk refuses is kept in memory, and tried again later."""

    def __init__(self, run_dir: Path, ids: Mapping[str, Sequence[str]], step: int, warn: Callable[[str], None]) -> None:
        """Files that go on from the checkpoint of `step`; at step 0 they are made anew.

        `ids`: the utterances of each of TABLES. A file that is damaged, or tells of other utterances, is put aside with
        a warning. OSError when the disk refuses.
        """
        self.folder, self.warn = run_dir / FOLDER, warn
        self.folder.mkdir(exist_ok=True)
        self.ids_digests: dict[str, str] = {}
        seals = seals_of(run_dir / "checkpoints" / f"step-{step:08d}") if step else {}
        self.files = {name: self._open(name, ids_column(ids[name]), step, seals.get(name)) for name in TABLES}
        self.unwritten: dict[str, list[np.ndarray]] = {name: [] for name in TABLES}
        self.has_failed = False
        sync(self.folder)

    def append(self, name: str, records: np.ndarray) -> None:
        """Add `records` to the file `name`."""
        if not len(records) and not self.unwritten[name]:
            return
        self.unwritten[name].append(records)
        try:
            self.files[name].append(np.concatenate(self.unwritten[name]))
        except OSError as error:
            self._tell(self.files[name].path, error)
            return
        self.unwritten[name].clear()
        self.has_failed = False

    def seal(self) -> dict[str, Any]:
        """Name of a table -> its seal, after all records are on the disk."""
        for file in self.files.values():
            try:
                file.sync()
            except OSError as error:
                self._tell(file.path, error)
        return {name: file.seal() | {"ids": self.ids_digests[name]} for name, file in self.files.items()}

    def _tell(self, path: Path, error: OSError) -> None:
        if not self.has_failed:
            self.warn(f"{path}: not written ({error.strerror or error}); the next save tries again")
        self.has_failed = True

    def _open(self, name: str, column: Any, step: int, seal: Mapping[str, Any] | None) -> RecordFile:
        path, listed = self.folder / f"{name}.npy", self.folder / f"{name}-ids.arrow"
        file, digest = RecordFile(path, TABLES[name]), digest_of_ids(column)
        self.ids_digests[name] = digest
        reason = ""
        if step == 0 or (seal is None and not path.exists()):  # an older version kept nothing up to here
            file.begin()
        elif seal is None:
            reason = f"{path}: the checkpoint of step {step} knows nothing of it"
        elif seal.get("ids") != digest:
            reason = f"{path}: its rows count other utterances than those of this run"
        else:
            try:
                file.go_on(seal)
            except DamagedError as error:
                reason = str(error)
        if reason:
            asides = [put_aside(p, step).name for p in (path, listed) if p.exists()]
            shown = f"It is put aside as {asides[0]}; losses" if asides else "Losses"
            self.warn(f"{reason}. {shown} are kept from step {step} on. Training itself goes on as it would.")
            file.begin()
        write_ids(listed, column)
        return file


class LossRecorder:
    """What the loop of each rank tells losses to."""

    def __init__(
        self, world: World, files: LossFiles | None, num_utterances: int, eval_every: int, warn: Callable[[str], None]
    ) -> None:
        """`files`: those of rank 0. `num_utterances`: of the training split. `eval_every`: steps, as the option."""
        self.world, self.files, self.warn = world, files, warn
        self.num_utterances, self.eval_every = num_utterances, eval_every
        self.noted: list[np.ndarray] = []
        self.num_noted = 0

    def visited(self, result: StepResult, nats: Sequence[Tensor]) -> None:
        """Note the losses of this rank's utterances in the step of `result`."""
        if not nats or not is_kept(result.epoch, self.num_utterances):
            return
        records = np.empty(len(result.positions), VISIT)
        records["epoch"], records["step"], records["row"] = result.epoch, result.step, result.positions
        records["loss"] = as_losses(torch.cat(list(nats)).numpy())
        self.noted.append(records)
        self.num_noted += len(records)
        if self.num_noted >= HELD and self.world.is_alone:
            self._write(self._taken())

    def evaluated(self, state: TrainState, scores: Scores) -> None:
        """Note the losses and errors of an evaluation. All ranks have the same scores."""
        k = state.step // self.eval_every if self.eval_every else 0
        if self.files is None or not is_kept(k, len(scores.hypotheses)):
            return
        records = np.empty(len(scores.hypotheses), SCORE)
        records["step"], records["row"] = state.step, np.arange(len(records))
        records["loss"] = as_losses(np.array([h.loss for h in scores.hypotheses], np.float32))
        records["word_errors"] = [h.words.num_errors for h in scores.hypotheses]
        records["character_errors"] = [h.characters.num_errors for h in scores.hypotheses]
        self.files.append("evaluations", records)

    def collect(self) -> dict[str, Any]:
        """Bring to the disk what all ranks have noted; the seals for the checkpoint that is saved next. All call this.

        Where a process is gone, what it had noted since the last save is lost with it.
        """
        own = self._taken()
        of_ranks = [own]
        if self.world.is_broken:
            if self.files is not None:
                self.warn(
                    "the losses that other processes noted since the last save are lost with them (dynamics/train.npy)"
                )
        elif not self.world.is_alone:
            of_ranks = [as_records(text) for text in self.world.gather(base64.b64encode(own.tobytes()).decode())]
        if self.files is None:
            return {}
        self._write(np.concatenate(of_ranks))
        return self.files.seal()

    def _taken(self) -> np.ndarray:
        """What was noted since this was asked last."""
        records = np.concatenate(self.noted) if self.noted else np.empty(0, VISIT)
        self.noted, self.num_noted = [], 0
        return records

    def _write(self, records: np.ndarray) -> None:
        """Add whole steps to the file, in an order that does not depend on who had which utterance."""
        if self.files is not None:
            self.files.append("train", records[np.lexsort((records["row"], records["step"]))])


def as_losses(nats: np.ndarray) -> np.ndarray:
    """`nats`, with inf for what is no number: NaN stands for utterances that were not visited."""
    return np.where(np.isnan(nats), np.inf, nats)


def as_records(text: str) -> np.ndarray:
    """VISIT records from their bytes in base64."""
    return np.frombuffer(base64.b64decode(text), VISIT)
