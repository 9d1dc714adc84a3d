"""Refuse a checkpoint that brings code, whose folder holds something other than files, or whose weights are NaN.

models.checkpoints.pretrained reads the weights themselves: safetensors, or .bin through torch.load(weights_only=True).
"""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils.hub import cached_file

from models.checkpoints.elsewhere import format_of_file, models_below, other_format
from models.checkpoints.reach import within_reach
from models.checkpoints.training_checkpoint import is_training_checkpoint
from trainer.errors import ModelError

CONFIGURATIONS = ("config.json", "preprocessor_config.json", "processor_config.json", "tokenizer_config.json")


def refuse_what_is_no_checkpoint(source: str) -> None:
    """ModelError when `source` is a path, but not a folder with a config.json and regular files."""
    path = Path(source)
    if is_training_checkpoint(path):
        return
    if path.is_dir():
        if not (path / "config.json").exists():
            raise ModelError(f"{source}: no config.json here; this is not a Hugging Face model folder{_instead(path)}.")
        for file in sorted(path.iterdir()):
            if file.exists() and not stat.S_ISREG(file.stat().st_mode) and not file.is_dir():
                raise ModelError(f"{file} is a device or a FIFO, not a file. Remove it from the model folder.")
    elif path.exists():
        what = format_of_file(path)
        raise ModelError(
            f"{source} is a file{f': {what}' if what else ''}. Give a folder with config.json and weights."
        )
    elif source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise ModelError(f"{source}: no such folder.")


def _instead(folder: Path) -> str:
    """What `folder` holds, where that is known, as the end of a sentence without its full stop."""
    if below := models_below(folder):
        return f". Give a folder in it that has one: {', '.join(below[:4])}" + (", ..." if len(below) > 4 else "")
    other = other_format(folder)
    return f". It holds {other}" if other else ""


def read_json(source: str, name: str, revision: str | None) -> Any:
    """The content of one of a checkpoint's files; None without it, False when it is damaged."""
    try:
        path = find_file(source, name, revision)
        return json.loads(path.read_text(encoding="utf-8")) if path else None
    except OSError:
        return None
    except (ValueError, RecursionError):
        return False


def find_file(source: str, name: str, revision: str | None) -> Path | None:
    """One of a checkpoint's files, fetched if it is on the hub; None without it. OSError when it cannot be had."""
    with within_reach(source, revision):
        path = cached_file(
            source,
            name,
            revision=revision,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    return Path(path) if path else None


def refuse_remote_code(source: str, revision: str | None) -> None:
    """ModelError when a configuration names code to be run ("auto_map"). This reads JSON and runs nothing."""
    for name in CONFIGURATIONS:
        try:
            path = find_file(source, name, revision)
            content = json.loads(path.read_text(encoding="utf-8")) if path else {}
        except (OSError, ValueError, RecursionError):
            continue  # the code that needs this file will say what is wrong with it
        if isinstance(content, dict) and content.get("auto_map"):
            raise ModelError(
                f"{source}: its {name} wants code of its own to be run (auto_map), which is refused. Give a checkpoint "
                "of a family that transformers has; if this is one, remove auto_map from a local copy."
            )


def refuse_non_finite(source: str, model: PreTrainedModel) -> None:
    """ModelError when a weight is NaN or infinite, since such an encoder can only give NaN."""
    state = {name: tensor for name, tensor in model.state_dict().items() if tensor.numel()}
    # The extremes take one pass over the weights and no memory; NaN is the extreme of whatever holds one
    extremes = torch.stack([torch.stack(torch.aminmax(tensor)).double() for tensor in state.values()])
    bad = [name for name, is_finite in zip(state, extremes.isfinite().all(1).tolist(), strict=True) if not is_finite]
    if bad:
        raise ModelError(
            f"{source}: {len(bad)} of its {len(model.state_dict())} tensors hold NaN or infinity, the first is "
            f"{bad[0]}. Give a checkpoint that is whole."
        )
