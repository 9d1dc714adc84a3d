"""A checkpoint of training as a model: its weights, and what else is needed to use them.

    FOLDER/model.safetensors   the weights, under the names of models.ctc; or shares of them in several files
                               (models.checkpoints.shards)
    FOLDER/state.json          "tokens": the units in the order of the head's columns; "model": `describe_model`

Any model that a command takes may be such a folder. trainer.rundir.checkpoints.saving writes it, and
trainer.rundir.model_source checks its seal before it is read here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from models.checkpoints.lora import Lora
from models.checkpoints.shards import is_sharded_folder, is_weight, read_whole
from models.families import FAMILIES
from models.layers.lora import merged_state
from trainer.errors import ModelError

PREFIX = "hf."
"""What models.ctc puts before the names of transformers."""


@dataclass(frozen=True)
class TrainedModel:
    """What a checkpoint of training says of its model."""

    config: PreTrainedConfig
    tokens: tuple[str, ...]
    special: dict[str, str | None]
    """The units that stand for blank, unknown and word_delimiter."""
    do_normalize: bool
    reading: dict[str, Any]
    """How the units are read where that is not as in a new vocabulary: see models.checkpoints.tokenizer."""
    language: str | None
    """Whose vocabulary and adapter these are, in a multilingual checkpoint."""
    lora: Lora | None
    """The low-rank updates that its weights are told in, if they are."""


def describe_model(
    hf_model: PreTrainedModel,
    special: Mapping[str, str | None],
    do_normalize: bool,
    reading: Mapping[str, Any] | None = None,
    language: str | None = None,
    lora: Lora | None = None,
) -> dict[str, Any]:
    """What is needed besides weights and units to use a model later, as JSON has it."""
    updates = {} if lora is None else {"lora": lora.as_json()}
    return updates | {
        "config": json.loads(hf_model.config.to_json_string(use_diff=False)),
        "special": dict(special),
        "do_normalize": do_normalize,
        "reading": dict(reading or {}),
        "language": language,
    }


def is_training_checkpoint(folder: Path) -> bool:
    """Whether `folder` is a checkpoint that training wrote, and not a Hugging Face folder."""
    if (folder / "config.json").exists() or not (folder / "state.json").is_file():
        return False
    return (folder / "model.safetensors").is_file() or is_sharded_folder(folder)


def read_trained_model(folder: Path) -> TrainedModel:
    """What state.json says of the model; ModelError when it does not say enough."""
    path = folder / "state.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        plain, tokens = dict(record["model"]), tuple(map(str, record["tokens"]))
        special = {name: plain["special"][name] for name in ("blank", "unknown", "word_delimiter")}
        reading = dict(plain["reading"])
        settings = dict(plain["config"])
        family = settings.pop("model_type")
        lora = Lora.from_json(plain["lora"]) if "lora" in plain else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(
            f"{path}: does not say which model it is ({type(error).__name__}: {error}). An older version of this "
            "program wrote no model into its checkpoints; use the run's model folder."
        ) from None
    if family not in FAMILIES:
        raise ModelError(f"{path}: a model of the family {family!r}; known are {', '.join(FAMILIES)}.")
    try:
        config = AutoConfig.for_model(family, **settings)
    except (ValueError, TypeError) as error:
        raise ModelError(f"{path}: no usable model configuration ({error}).") from None
    return TrainedModel(config, tokens, special, bool(plain.get("do_normalize")), reading, plain.get("language"), lora)


def read_state(folder: Path) -> dict[str, Tensor]:
    """The weights under transformers' names, or under peft's where they have low-rank updates."""
    weights = read_whole(folder, is_weight) if is_sharded_folder(folder) else load_file(folder / "model.safetensors")
    return {name.removeprefix(PREFIX): tensor for name, tensor in weights.items()}


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The weights under transformers' names, low-rank updates merged."""
    state, lora = read_state(folder), read_trained_model(folder).lora
    return state if lora is None else merged_state(state, lora.scale)
