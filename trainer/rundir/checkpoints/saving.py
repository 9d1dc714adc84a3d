"""Checkpoints hold all that a run needs to go on, as safetensors and JSON, sealed by hashes (trainer.rundir.disk).

    checkpoints/step-00000400/   model.safetensors, optimizer.safetensors, state.json, manifest.json
    checkpoints/best/            model.safetensors, state.json, manifest.json: weights only

The loop waits while the state is copied to host memory. Then a thread writes it to the disk. Two saves may be under
way, since the best weights and the checkpoint of a step often come together; a third waits for the first. An error of
a thread is reported at the next save or at the end.

The best weights and a checkpoint of the same step share one file (a hard link) where the disk can do that. If the disk
damages it, both are lost: a resumed run then falls back to the checkpoint before, and comes to that step again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from data import strict_json
from trainer.device import HostCopy
from trainer.errors import DamagedError
from trainer.loop.state import TrainState
from trainer.loop.step import TrainingParts
from trainer.parallel.world import ALONE, World
from trainer.rundir.checkpoints.restore import reason_of
from trainer.rundir.disk import read_manifest, remove, write_sealed
from trainer.rundir.reading import checkpoints


class Saver:
    """Writes the checkpoints of one run in the background, one after the other."""

    def __init__(
        self, run_dir: Path, keep: int, identity: Mapping[str, Any], warn: Callable[[str], None], world: World = ALONE
    ) -> None:
        """`identity` goes into every state.json; a resumed run is compared with it. Its "tokens" and "model" say how to
        use the weights; they go into that of the best ones too. `world` are the processes that save together."""
        self.world = world
        self.folder, self.keep, self.identity, self.warn = run_dir / "checkpoints", keep, identity, warn
        self._threads: list[threading.Thread] = []
        self._failures: list[str] = []
        self._copied: tuple[int, weakref.ref[HostTensors]] | None = None
        """The step whose weights were copied last, and the copy, which lives until it is written."""
        self._best_step: int | None = None
        """The step of checkpoints/best, if this process wrote it."""

    def save(self, parts: TrainingParts, state: TrainState, seals: Mapping[str, Any] | None = None) -> None:
        """Copy everything to the host and start writing checkpoints/step-N. Reports which earlier saves failed.

        `seals` are those of the files in dynamics/, as they are on the disk now.
        """

        def copy() -> dict[str, HostTensors]:
            weights = self._weights(parts.model, state.step)
            return {"model.safetensors": weights, "optimizer.safetensors": self._copy(_moments(parts))}

        record = {
            "state": dataclasses.asdict(state),
            "scheduler": {"last_epoch": parts.scheduler.last_epoch},
            "scaler": parts.scaler.state_dict(),
            "dynamics": dict(seals or {}),
            **self.identity,
        }
        self._write_later(f"step-{state.step:08d}", state.step, copy, record)

    def save_best(self, model: nn.Module, state: TrainState) -> None:
        """The same for checkpoints/best, which holds the weights of the best evaluation so far."""
        record = {"step": state.step, "wer": state.best_wer}
        record |= {key: self.identity[key] for key in ("tokens", "model") if key in self.identity}
        self._write_later("best", state.step, lambda: {"model.safetensors": self._weights(model, state.step)}, record)

    def finish(self) -> bool:
        """Wait for all saves. If one failed, warn and return False; older checkpoints are whole."""
        return self._wait(0)

    def _wait(self, at_most: int) -> bool:
        """Wait until no more than `at_most` saves are under way; warn of those that failed and return False then."""
        while len(self._threads) > at_most:
            self._threads.pop(0).join()
        failures, self._failures = self._failures, []
        for failure in failures:
            self.warn(f"{failure}; the checkpoints before it are untouched. Free some space or mend the disk.")
        return not failures

    def _weights(self, model: nn.Module, step: int) -> HostTensors:
        """The weights on the host. Those of a step are copied once, if its first copy is still being written."""
        kept = self._copied[1]() if self._copied is not None and self._copied[0] == step else None
        weights = self._copy(model.state_dict()) if kept is None else kept
        self._copied = (step, weakref.ref(weights))
        return weights

    def _write_later(
        self, name: str, step: int, copy: Callable[[], dict[str, HostTensors]], record: dict[str, Any]
    ) -> None:
        self._wait(at_most=1)
        tensors: dict[str, HostTensors] = {}
        failure = ""
        try:
            tensors = copy()
        except (MemoryError, RuntimeError) as error:  # no memory for the copy; torch raises RuntimeError for it
            failure = reason_of(error)
        if failure := self._of_any(failure):
            self._failures.append(f"{self.folder / name} could not be written ({failure})")
            return
        # Not a daemon thread: the interpreter waits for it, as the next saves do
        before = self._threads[-1] if self._threads else None
        thread = threading.Thread(target=self._write, args=(name, step, tensors, record, before), name=f"save-{name}")
        self._threads.append(thread)
        thread.start()

    def _write(
        self,
        name: str,
        step: int,
        tensors: dict[str, HostTensors],
        record: dict[str, Any],
        before: threading.Thread | None,
    ) -> None:
        if before is not None:
            before.join()
        try:
            self._seal(name, step, tensors, record)
        except Exception as error:  # an error in a thread would go unnoticed
            self._failures.append(f"{self.folder / name} could not be written ({reason_of(error)})")
            return
        if name == "best":
            self._best_step = step
        if not self.world.is_first:
            return
        try:
            for _, old in checkpoints(self.folder.parent)[: -self.keep]:
                remove(old)
        except OSError as error:
            self._failures.append(f"{self.folder}: an old checkpoint could not be removed ({reason_of(error)})")

    def _seal(self, name: str, step: int, tensors: Mapping[str, HostTensors], record: dict[str, Any]) -> None:
        """Write one checkpoint's folder."""
        files: dict[str, Callable[[Path], Any]] = {n: partial(_save_tensors, content) for n, content in tensors.items()}
        files["state.json"] = partial(save_json, record)
        if name != "best" and step == self._best_step:
            files["model.safetensors"] = partial(_link_or_save, self.folder / "best", tensors["model.safetensors"])
        self.folder.mkdir(exist_ok=True)  # no parents: a run's folder that vanished is not made again
        write_sealed(self.folder / name, files)

    def _copy(self, tensors: Mapping[str, Tensor]) -> HostTensors:
        """Copies on the host."""
        return _on_host(tensors)

    def _of_any(self, failure: str) -> str:
        """`failure` of this process, or of any other that saves together with it; empty where all went well."""
        return failure


class HostTensors(dict[str, Tensor]):
    """Tensors in host memory, which the loop does not change. A class of its own can be referred to weakly."""


def _moments(parts: TrainingParts) -> dict[str, Tensor]:
    names: dict[Tensor, str] = {parameter: name for name, parameter in parts.model.named_parameters()}
    state = parts.optimizer.state.items()
    return {f"{key}/{names[p]}": moment for p, moments in state for key, moment in moments.items()}


def _on_host(tensors: Mapping[str, Tensor]) -> HostTensors:
    """Copies of `tensors` on the host: those of a CUDA device into pinned memory, with one wait for all of them."""
    there = {name: tensor.detach() for name, tensor in tensors.items()}
    on_device = [name for name, tensor in there.items() if tensor.is_cuda]
    copies: dict[str, Tensor] = {}
    if on_device:
        with contextlib.suppress(RuntimeError):  # no memory to pin, or to make them contiguous: see below
            pinned = HostCopy(*(there[name].contiguous() for name in on_device)).wait()
            copies = dict(zip(on_device, pinned, strict=True))
    return HostTensors(
        (name, copies[name] if name in copies else tensor.to("cpu", copy=True).contiguous())
        for name, tensor in there.items()
    )


def _save_tensors(tensors: HostTensors, path: Path) -> None:
    save_file(dict(tensors), path)


def _link_or_save(best: Path, tensors: HostTensors, path: Path) -> dict[str, Any] | None:
    """Make `path` another name of the best weights' file and return its entry in their manifest.

    Where the disk has no hard links, write `tensors` and return None. The entry is not computed anew: if the file was
    damaged in between, that must be found.
    """
    try:
        entry = read_manifest(best)[path.name]
        os.link(best / path.name, path)
    except (OSError, DamagedError, KeyError):
        _save_tensors(tensors, path)
        return None
    return entry


def save_json(record: dict[str, Any], path: Path) -> None:
    path.write_text(strict_json.dumps(record, indent=1, ensure_ascii=True), encoding="utf-8")
