"""Checkpoints: everything to go on from, as safetensors and JSON.

    checkpoints/step-00000400/   model.safetensors, optimizer.safetensors, state.json
    checkpoints/best/            model.safetensors, state.json: weights only

Written beside their place and renamed last, so that a folder with its final name is whole.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from trainer.loop import Parts
from trainer.state import TrainState

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names it and the remedy."""


def save_checkpoint(run_dir: Path, parts: Parts, state: TrainState, tokens: tuple[str, ...], keep: int) -> None:
    """Write checkpoints/step-N and remove all but the newest `keep`."""
    folder = run_dir / "checkpoints" / f"step-{state.step:08d}"
    _write(
        folder,
        {
            "model.safetensors": _on_host(parts.model.state_dict()),
            "optimizer.safetensors": _optimizer_tensors(parts),
        },
        {
            "state": dataclasses.asdict(state),
            "scheduler": {"last_epoch": parts.scheduler.last_epoch},
            "scaler": parts.scaler.state_dict(),
            "tokens": tokens,
            "torch": torch.__version__,
        },
    )
    for _, old in checkpoints(run_dir)[:-keep]:
        shutil.rmtree(old)


def save_best(run_dir: Path, model: nn.Module, state: TrainState) -> None:
    """Write checkpoints/best: the weights of the best evaluation so far."""
    folder = run_dir / "checkpoints" / "best"
    _write(folder, {"model.safetensors": _on_host(model.state_dict())}, {"step": state.step, "wer": state.best_wer})


def load_best(run_dir: Path, model: nn.Module) -> int:
    """Put the best weights into `model`; the step they come from."""
    folder = run_dir / "checkpoints" / "best"
    model.load_state_dict(_read_tensors(folder / "model.safetensors"))
    return _read_json(folder / "state.json")["step"]


def checkpoints(run_dir: Path) -> list[tuple[int, Path]]:
    """(step, folder) of every checkpoint, oldest first, by step number and never by clock."""
    found = []
    for folder in (run_dir / "checkpoints").glob("step-*"):
        if match := re.fullmatch(r"step-(\d{8,})", folder.name):
            found.append((int(match[1]), folder))
    return sorted(found)


def load_checkpoint(folder: Path, parts: Parts, tokens: tuple[str, ...]) -> TrainState:
    """Put everything back as it was after that step; CheckpointError when it belongs to another model."""
    record = _read_json(folder / "state.json")
    _compare_vocabularies(folder, tuple(record["tokens"]), tokens)
    weights = _read_tensors(folder / "model.safetensors")
    try:
        parts.model.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise CheckpointError(f"{folder}: its weights are of another model: {first}") from None
    _restore_optimizer(folder, parts, _read_tensors(folder / "optimizer.safetensors"))
    parts.scheduler.last_epoch = record["scheduler"]["last_epoch"]
    for group, base, factor in zip(
        parts.optimizer.param_groups, parts.scheduler.base_lrs, parts.scheduler.lr_lambdas, strict=True
    ):
        group["lr"] = base * factor(parts.scheduler.last_epoch)
    parts.scaler.load_state_dict(record["scaler"])
    return TrainState(**record["state"])


def _optimizer_tensors(parts: Parts) -> dict[str, Tensor]:
    names: dict[Tensor, str] = {parameter: name for name, parameter in parts.model.named_parameters()}
    return _on_host(
        {f"{key}/{names[p]}": moments[key] for p, moments in parts.optimizer.state.items() for key in MOMENTS}
    )


def _restore_optimizer(folder: Path, parts: Parts, tensors: dict[str, Tensor]) -> None:
    names: dict[Tensor, str] = {parameter: name for name, parameter in parts.model.named_parameters()}
    trained = [p for group in parts.optimizer.param_groups for p in group["params"]]
    # A parameter that never had a gradient has no moments
    state = {
        i: {key: tensors.pop(f"{key}/{names[p]}") for key in MOMENTS}
        for i, p in enumerate(trained)
        if f"step/{names[p]}" in tensors
    }
    if tensors:
        raise CheckpointError(f"{folder}: moments of parameters that are not trained here: {sorted(tensors)[0]}, ...")
    saved = parts.optimizer.state_dict()
    parts.optimizer.load_state_dict({"state": state, "param_groups": saved["param_groups"]})


def _compare_vocabularies(folder: Path, theirs: tuple[str, ...], ours: tuple[str, ...]) -> None:
    if theirs != ours:
        i = next((i for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b), min(len(theirs), len(ours)))
        a, b = (repr(t[i]) if i < len(t) else "none" for t in (theirs, ours))
        raise CheckpointError(
            f"{folder}: its vocabulary has {len(theirs)} units, this run's has {len(ours)}; first difference at id {i} "
            f"({a} / {b}). Start another run with --name."
        )


def _on_host(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def _write(folder: Path, tensors: dict[str, dict[str, Tensor]], record: dict[str, Any]) -> None:
    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name, content in tensors.items():
        save_file(content, temporary / name)
    (temporary / "state.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    temporary.replace(folder)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not readable ({error}).") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable ({error}).") from None
