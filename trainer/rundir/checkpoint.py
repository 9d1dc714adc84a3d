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
import re
import threading
import typing
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from data import strict_json
from trainer.device import HostCopy
from trainer.errors import CheckpointError, DamagedError
from trainer.loop.state import TrainState
from trainer.loop.step import TrainingParts
from trainer.rundir.disk import read_manifest, recover, remove, verify, write_sealed

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Saver:
    """Writes the checkpoints of one run in the background, one after the other."""

    def __init__(self, run_dir: Path, keep: int, identity: Mapping[str, Any], warn: Callable[[str], None]) -> None:
        """`identity` goes into every state.json; a resumed run is compared with it. Its "tokens" and "model" say how to
        use the weights; they go into that of the best ones too."""
        self.folder, self.keep, self.identity, self.warn = run_dir / "checkpoints", keep, identity, warn
        self._threads: list[threading.Thread] = []
        self._failures: list[str] = []
        self._copied: tuple[int, weakref.ref[HostTensors]] | None = None
        """The step whose weights were copied last, and the copy, which lives until it is written."""
        self._best_step: int | None = None
        """The step of checkpoints/best, if this process wrote it."""

    def save(self, parts: TrainingParts, state: TrainState) -> None:
        """Copy everything to the host and start writing checkpoints/step-N. Reports which earlier saves failed."""

        def copy() -> dict[str, HostTensors]:
            weights = self._weights(parts.model, state.step)
            return {"model.safetensors": weights, "optimizer.safetensors": _optimizer_tensors(parts)}

        record = {
            "state": dataclasses.asdict(state),
            "scheduler": {"last_epoch": parts.scheduler.last_epoch},
            "scaler": parts.scaler.state_dict(),
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
        weights = _on_host(model.state_dict()) if kept is None else kept
        self._copied = (step, weakref.ref(weights))
        return weights

    def _write_later(
        self, name: str, step: int, copy: Callable[[], dict[str, HostTensors]], record: dict[str, Any]
    ) -> None:
        self._wait(at_most=1)
        try:
            tensors = copy()
        except (MemoryError, RuntimeError) as error:  # no memory for the copy; torch raises RuntimeError for it
            self._failures.append(f"{self.folder / name} could not be written ({_reason(error)})")
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
        files: dict[str, Callable[[Path], Any]] = {n: partial(_save_tensors, content) for n, content in tensors.items()}
        files["state.json"] = partial(_save_json, record)
        if name != "best" and step == self._best_step:
            files["model.safetensors"] = partial(_link_or_save, self.folder / "best", tensors["model.safetensors"])
        try:
            self.folder.mkdir(exist_ok=True)  # no parents: a run's folder that vanished is not made again
            write_sealed(self.folder / name, files)
        except Exception as error:  # an error in a thread would go unnoticed
            self._failures.append(f"{self.folder / name} could not be written ({_reason(error)})")
            return
        if name == "best":
            self._best_step = step
        try:
            for _, old in checkpoints(self.folder.parent)[: -self.keep]:
                remove(old)
        except OSError as error:
            self._failures.append(f"{self.folder}: an old checkpoint could not be removed ({_reason(error)})")


class HostTensors(dict[str, Tensor]):
    """Tensors in host memory, which the loop does not change. A class of its own can be referred to weakly."""


def checkpoints(run_dir: Path) -> list[tuple[int, Path]]:
    """(step, folder) of every checkpoint, oldest first. Their order is that of steps, never of the clock."""
    found = []
    for folder in (run_dir / "checkpoints").glob("step-*"):
        if match := re.fullmatch(r"step-(\d{8,})", folder.name):
            found.append((int(match[1]), folder))
    return sorted(found)


def newest_valid(run_dir: Path, warn: Callable[[str], None]) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that is as it was written, and its state.json; None when there is no checkpoint at all.

    Damaged ones are named, passed over and renamed to step-N.damaged, so that rotation does not count them.
    CheckpointError when all checkpoints are damaged.
    """
    if (run_dir / "checkpoints").is_dir():
        recover(run_dir / "checkpoints")
    found, damaged = checkpoints(run_dir), []
    for _, folder in reversed(found):
        try:
            verify(folder)
            record = _read_record(folder / "state.json")
        except (DamagedError, CheckpointError) as error:
            warn(f"{error}. Falling back to the checkpoint before it.")
            damaged.append(folder)
            continue
        for bad in damaged:
            aside = bad.with_name(f"{bad.name}.damaged")
            if aside.exists():
                remove(aside)
            bad.rename(aside)
        return folder, record
    if found:
        raise CheckpointError(
            f"{run_dir}: none of its {len(found)} checkpoints is intact. --overwrite starts the run anew."
        )
    return None


def restore(folder: Path, record: Mapping[str, Any], parts: TrainingParts) -> TrainState:
    """Put everything back as it was when `folder` was saved. CheckpointError when it belongs to another model."""
    weights, own = _read_tensors(folder / "model.safetensors"), parts.model.state_dict()
    if odd := [name for name, tensor in weights.items() if name in own and tensor.dtype != own[name].dtype]:
        raise CheckpointError(f"{folder}: its {odd[0]} is {weights[odd[0]].dtype}, not {own[odd[0]].dtype}.")
    try:
        parts.model.load_state_dict(weights)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise CheckpointError(f"{folder}: its weights are of another model: {lines[-1].strip()}") from None
    _restore_optimizer(folder, parts, _read_tensors(folder / "optimizer.safetensors"))
    parts.scheduler.last_epoch = record["scheduler"]["last_epoch"]
    for group, base, factor in zip(
        parts.optimizer.param_groups, parts.scheduler.base_lrs, parts.scheduler.lr_lambdas, strict=True
    ):
        group["lr"] = base * factor(parts.scheduler.last_epoch)
    if record["scaler"]:  # empty when it was saved without fp16: a scaler of today then begins with its own scale
        parts.scaler.load_state_dict(record["scaler"])
    return TrainState(**record["state"])


def valid_best(run_dir: Path, warn: Callable[[str], None]) -> bool:
    """Whether the best weights are as they were written; warns if they are not."""
    try:
        verify(run_dir / "checkpoints" / "best")
    except DamagedError as error:
        warn(f"{error}. The best weights so far are lost; those of the newest checkpoint take their place.")
        return False
    return True


def load_best(run_dir: Path, model: nn.Module) -> tuple[int, float]:
    """Put the best weights into `model`; returns their step and their WER. CheckpointError when they are damaged."""
    folder = run_dir / "checkpoints" / "best"
    try:
        verify(folder)
    except DamagedError as error:
        raise CheckpointError(f"{error}: the best weights are lost") from None
    model.load_state_dict(_read_tensors(folder / "model.safetensors"))
    record = _read_json(folder / "state.json")
    return record["step"], record["wer"]


def _optimizer_tensors(parts: TrainingParts) -> HostTensors:
    names: dict[Tensor, str] = {parameter: name for name, parameter in parts.model.named_parameters()}
    return _on_host(
        {f"{key}/{names[p]}": moments[key] for p, moments in parts.optimizer.state.items() for key in MOMENTS}
    )


def _restore_optimizer(folder: Path, parts: TrainingParts, tensors: dict[str, Tensor]) -> None:
    names = {parameter: name for name, parameter in parts.model.named_parameters()}
    trained = [p for group in parts.optimizer.param_groups for p in group["params"]]
    state = {}
    for i, p in enumerate(trained):
        moments = {key: tensors.pop(f"{key}/{names[p]}", None) for key in MOMENTS}
        shapes = {key: torch.Size() if key == "step" else p.shape for key in MOMENTS}
        if all(m is not None and m.shape == shapes[key] and m.dtype is torch.float32 for key, m in moments.items()):
            state[i] = moments
        elif any(m is not None for m in moments.values()):  # a parameter that never had a gradient has no moments
            raise CheckpointError(f"{folder}: the moments of {names[p]} are not all there, or of another shape.")
    if tensors:
        raise CheckpointError(f"{folder}: moments of parameters that are not trained here: {sorted(tensors)[0]}, ...")
    saved = parts.optimizer.state_dict()
    parts.optimizer.load_state_dict({"state": state, "param_groups": saved["param_groups"]})


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


def _save_json(record: dict[str, Any], path: Path) -> None:
    path.write_text(strict_json.dumps(record, indent=1, ensure_ascii=True), encoding="utf-8")


def _reason(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"{type(error).__name__}: {reason}" if not isinstance(error, OSError | SafetensorError) else reason


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except Exception as error:  # safetensors and torch raise many kinds of errors on a malformed file
        raise CheckpointError(f"{path}: not readable ({_reason(error)}).") from None


def _read_record(path: Path) -> dict[str, Any]:
    """The state.json of a checkpoint; CheckpointError when one of its parts is missing or of another type."""
    record = _read_json(path)
    parts = {"state": dict, "scheduler": dict, "scaler": dict, "options": dict, "content": dict, "tokens": list}
    if not isinstance(record, dict) or not all(isinstance(record.get(key), kind) for key, kind in parts.items()):
        raise CheckpointError(f"{path}: not all of {', '.join(parts)} are there")
    kinds = typing.get_type_hints(TrainState)
    if record["state"].keys() != kinds.keys() or not strict_json.fits(record["scheduler"].get("last_epoch"), int):
        raise CheckpointError(f"{path}: written by another version of this program")
    if wrong := [name for name, value in record["state"].items() if not strict_json.fits(value, kinds[name])]:
        kind = getattr(kinds[wrong[0]], "__name__", kinds[wrong[0]])
        raise CheckpointError(f"{path}: {wrong[0]} is {record['state'][wrong[0]]!r}, not {kind}")
    return record


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return strict_json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not readable ({_reason(error)}).") from None
