"""Find a run's checkpoints, verify them, and put their content back. trainer.rundir.checkpoints.saving writes them."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from data import strict_json
from models.checkpoints.shards import fits, is_sharded_folder, is_spread, is_weight, read_into, stored_tensors
from trainer.errors import CheckpointError, DamagedError
from trainer.loop.optim import new_moments
from trainer.loop.state import TrainState
from trainer.loop.step import TrainingParts
from trainer.rundir.disk import recover, remove, verify
from trainer.rundir.reading import checkpoints

WEIGHTS, OPTIMIZER = "model.safetensors", "optimizer.safetensors"
"""The files of a checkpoint that one process writes."""


class NewerError(CheckpointError):
    """A checkpoint of a newer version of this program."""


def newest_valid(run_dir: Path, warn: Callable[[str], None]) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that is as it was written, and its state.json; None when there is no checkpoint at all.

    Damaged ones are named, passed over and renamed to step-N.damaged, so that rotation does not count them.
    CheckpointError when all checkpoints are damaged, and when a newer version of this program wrote the newest sound
    one: that is not damaged, and nothing is changed.
    """
    if (run_dir / "checkpoints").is_dir():
        recover(run_dir / "checkpoints")
    found, damaged = checkpoints(run_dir), []
    for _, folder in reversed(found):
        try:
            verify(folder)
            record = _read_record(folder / "state.json")
        except NewerError:
            raise
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
    own = parts.model.state_dict()
    weights = _read_tensors(folder, WEIGHTS, own)
    if odd := [name for name, tensor in weights.items() if name in own and tensor.dtype != own[name].dtype]:
        raise CheckpointError(f"{folder}: its {odd[0]} is {weights[odd[0]].dtype}, not {own[odd[0]].dtype}.")
    try:
        parts.model.load_state_dict(weights)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise CheckpointError(f"{folder}: its weights are of another model: {lines[-1].strip()}") from None
    _restore_optimizer(folder, parts)
    parts.scheduler.last_epoch = record["scheduler"]["last_epoch"]
    for group, base, factor in zip(
        parts.optimizer.param_groups, parts.scheduler.base_lrs, parts.scheduler.lr_lambdas, strict=True
    ):
        group["lr"] = base * factor(parts.scheduler.last_epoch)
    if record["scaler"]:  # empty when it was saved without fp16: a scaler of today then begins with its own scale
        parts.scaler.load_state_dict(record["scaler"])
    return TrainState(**record["state"])


def seals_of(folder: Path) -> dict[str, Any]:
    """The seals of the files in dynamics/ that a checkpoint holds; none in one of an older version."""
    seals = _read_json(folder / "state.json").get("dynamics")
    return seals if isinstance(seals, dict) else {}


def valid_best(run_dir: Path, warn: Callable[[str], None]) -> bool:
    """Whether the best weights are as they were written; warns if they are not."""
    try:
        verify(run_dir / "checkpoints" / "best")
    except DamagedError as error:
        warn(f"{error}. The best weights so far are lost; those of the newest checkpoint take their place.")
        return False
    return True


def verify_best(run_dir: Path) -> tuple[int, float]:
    """The step of the best weights and their WER; CheckpointError when they are damaged."""
    folder = run_dir / "checkpoints" / "best"
    try:
        verify(folder)
    except DamagedError as error:
        raise CheckpointError(f"{error}: the best weights are lost") from None
    record = _read_json(folder / "state.json")
    return record["step"], record["wer"]


def load_best(run_dir: Path, model: nn.Module) -> None:
    """Put the best weights, which were verified, into `model`."""
    folder = run_dir / "checkpoints" / "best"
    model.load_state_dict(_read_tensors(folder, WEIGHTS, model.state_dict()))


def _restore_optimizer(folder: Path, parts: TrainingParts) -> None:
    names: dict[Tensor, str] = {parameter: name for name, parameter in parts.model.named_parameters()}
    trained = [p for group in parts.optimizer.param_groups for p in group["params"]]
    shares = {f"{key}/{names[p]}": p.detach() for p in trained if is_spread(p) for key in ("exp_avg", "exp_avg_sq")}
    tensors = _read_tensors(folder, OPTIMIZER, shares)
    state = {}
    for p in trained:
        own = new_moments(parts.optimizer, p)
        moments = {key: tensors.pop(f"{key}/{names[p]}", None) for key in own}
        if all(m is not None and (m.shape, m.dtype) == (own[key].shape, own[key].dtype) for key, m in moments.items()):
            state[p] = {key: m.to(own[key].device) for key, m in moments.items() if m is not None}
        elif any(m is not None for m in moments.values()):  # a parameter that never had a gradient has no moments
            raise CheckpointError(
                f"{folder}: the moments of {names[p]} are not all there, or of another shape or kind."
            )
    if tensors:
        raise CheckpointError(f"{folder}: moments of parameters that are not trained here: {sorted(tensors)[0]}, ...")
    parts.optimizer.state.clear()
    parts.optimizer.state.update(state)


def _read_tensors(folder: Path, file: str, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of one of a checkpoint's two files, or the same tensors of one that several processes wrote.

    Those that are spread over processes in `own` are read as this process's shares of them.
    """
    try:
        if not is_sharded_folder(folder) and not any(is_spread(tensor) for tensor in own.values()):
            return load_file(folder / file)
        stored = {name: e for name, e in stored_tensors(folder).items() if is_weight(name) == (file == WEIGHTS)}
        tensors = {
            name: torch.empty_like(own[name])
            if name in own and is_spread(own[name]) and fits(own[name], entry)
            else torch.empty(entry.size, dtype=entry.properties.dtype)
            for name, entry in stored.items()
        }
        read_into(folder, tensors)
        return tensors
    except Exception as error:  # safetensors and torch raise many kinds of errors on a malformed file
        raise CheckpointError(f"{folder / file}: not readable ({reason_of(error)}).") from None


def _read_record(path: Path) -> dict[str, Any]:
    """The state.json of a checkpoint; CheckpointError when one of its parts is missing or of another type.

    A figure of the state that an older version did not keep yet has its default. NewerError over one that is unknown.
    """
    record = _read_json(path)
    parts = {"state": dict, "scheduler": dict, "scaler": dict, "options": dict, "content": dict, "tokens": list}
    if not isinstance(record, dict) or not all(isinstance(record.get(key), kind) for key, kind in parts.items()):
        raise CheckpointError(f"{path}: not all of {', '.join(parts)} are there")
    kinds = typing.get_type_hints(TrainState)
    if missing := sorted({"step", "epoch", "batches_done"} - record["state"].keys()):
        raise CheckpointError(f"{path}: {missing[0]} is missing")
    if not strict_json.fits(record["scheduler"].get("last_epoch"), int):
        raise CheckpointError(f"{path}: scheduler.last_epoch is missing, or no number")
    if unknown := sorted(record["state"].keys() - kinds.keys()):
        raise NewerError(
            f"{path}: holds {unknown[0]!r}, which this version of the program does not know: a newer one wrote it. Go "
            "on with that version, or start another run with --name."
        )
    if wrong := [name for name, value in record["state"].items() if not strict_json.fits(value, kinds[name])]:
        kind = getattr(kinds[wrong[0]], "__name__", kinds[wrong[0]])
        raise CheckpointError(f"{path}: {wrong[0]} is {record['state'][wrong[0]]!r}, not {kind}")
    return record


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return strict_json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not readable ({reason_of(error)}).") from None


def reason_of(error: Exception) -> str:
    """Why a file could not be read or written, in a few words."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"{type(error).__name__}: {reason}" if not isinstance(error, OSError | SafetensorError) else reason
