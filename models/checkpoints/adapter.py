"""The adapters of a multilingual checkpoint (MMS): a few layers and a CTC head for each language, a file for each.

    adapter.tur.safetensors or adapter.tur.bin -> {"lm_head.weight": ..., "...layers.0.adapter_layer.norm.weight": ...}

Files are read as safetensors, or as .bin through torch.load(weights_only=True). Written as transformers'
`load_adapter` reads them (Pratap et al. 2023).
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from models.checkpoints.tokenizer import is_safe_name
from models.checkpoints.trust import find_file
from trainer.errors import ModelError


@dataclass(frozen=True)
class Adapter:
    """One language's weights."""

    language: str
    file: str
    """Its name."""
    state: dict[str, Tensor]

    @property
    def num_outputs(self) -> int:
        return len(self.state["lm_head.weight"])


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name is of the language and not of the encoder.

    >>> is_adapter("wav2vec2.encoder.layers.0.adapter_layer.norm.weight"), is_adapter("lm_head.bias")
    (True, True)
    """
    return ".adapter_layer." in name or name.rpartition(".")[0].endswith("lm_head")


def read_adapter(source: str, revision: str | None, language: str) -> Adapter | None:
    """The file of `language`, None where the checkpoint has none; ModelError when it is damaged or no adapter."""
    if not is_safe_name(language):
        raise ModelError(f"{source}: {language!r} is no language: letters, digits, - and _ make a name.")
    for name in (f"adapter.{language}.safetensors", f"adapter.{language}.bin"):
        try:
            path = find_file(source, name, revision)
        except OSError:
            continue
        if path:
            return Adapter(language, name, _read(source, path))
    return None


def _read(source: str, path: Path) -> dict[str, Tensor]:
    try:
        if path.name.endswith(".safetensors"):
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{source}: {path.name} does not load as tensors alone ({type(error).__name__}). It is not read."
        ) from None
    tensors = isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values())
    if not tensors or not {"lm_head.weight", "lm_head.bias"} <= state.keys():
        raise ModelError(f"{source}: {path.name} is no adapter: it has no lm_head.weight and lm_head.bias.")
    return state


def load_adapter(source: str, model: PreTrainedModel, adapter: Adapter, *, keep_head: bool) -> set[str]:
    """Copy `adapter` into `model`, the head only with `keep_head`; names of what was loaded, ModelError over others."""
    ours = {name: tensor for name, tensor in model.state_dict().items() if is_adapter(name)}
    state = {n: t for n, t in adapter.state.items() if keep_head or not n.startswith("lm_head.")}
    expected = {n for n in ours if keep_head or not n.startswith("lm_head.")}
    if wrong := sorted(expected ^ state.keys()):
        raise ModelError(f"{source}: {adapter.file} is not of this model: {wrong[0]} is in only one of them.")
    for name, tensor in state.items():
        if tensor.shape != ours[name].shape:
            raise ModelError(
                f"{source}: {adapter.file} is not of this model: {name} is {tuple(tensor.shape)} for "
                f"{tuple(ours[name].shape)}."
            )
        ours[name].copy_(tensor)
    return set(state)


def draw_adapter(model: PreTrainedModel) -> set[str]:
    """New adapter layers with transformers' distribution; their parameters' names. The head is left as it is."""
    for name, module in model.named_modules():
        if ".adapter_layer." not in name:
            continue
        if isinstance(module, nn.Linear):  # not model._init_weights, which leaves alone what was loaded from a file
            nn.init.normal_(module.weight, std=model.config.initializer_range)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            module.reset_parameters()
    return {name for name in model.state_dict() if ".adapter_layer." in name}


def save_adapter(model: PreTrainedModel, language: str, folder: Path) -> None:
    """Write adapter.LANGUAGE.safetensors for `from_pretrained(..., target_lang=LANGUAGE)`."""
    state = {n: t.detach().cpu().contiguous() for n, t in model.state_dict().items() if is_adapter(n)}
    save_file(state, folder / f"adapter.{language}.safetensors", metadata={"format": "pt"})


def freeze_all_but_adapter(model: nn.Module) -> None:
    """Only the adapter and the head are trained."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_adapter(name))
