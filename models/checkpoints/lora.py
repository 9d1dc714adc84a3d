"""Low-rank updates (LoRA) as peft makes and reads them: put into a model, written as a small adapter beside its export.

    model-adapter/adapter_config.json          rank, alpha, layers, and the checkpoint that the updates belong to
    model-adapter/adapter_model.safetensors    the matrices A and B of each layer, and the new head

`PeftModel.from_pretrained(model, folder)` puts them onto that checkpoint. peft is imported only where updates are asked
for. The arithmetic is in models.layers.lora.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from models.checkpoints.quiet import quiet_bitsandbytes
from models.config import ModelConfig
from models.layers.lora import DOWN, NAME, UP
from trainer.errors import ModelError

HEAD = "lm_head"
"""Trained as a whole, and part of the adapter: its vocabulary is mostly new."""
PACKAGE = "pip install peft"
DEFAULT_TARGETS = ("q_proj", "v_proj")
"""As in the paper, and as peft chooses for most models."""


@dataclass(frozen=True)
class Lora:
    """The updates of a model, as state.json of a checkpoint has them."""

    rank: int
    alpha: float
    targets: tuple[str, ...]
    dropout: float
    first_layer: int
    """The transformer layers below this one have no update."""
    base: str
    """Hub id or folder of the checkpoint under the updates."""
    revision: str | None

    @property
    def scale(self) -> float:
        """The factor of B A x."""
        return self.alpha / self.rank

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"targets": list(self.targets)}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Lora:
        """KeyError or TypeError when `plain` is not what as_json returned."""
        return cls(**{**plain, "targets": tuple(plain["targets"])})


def lora_of(options: ModelConfig) -> Lora | None:
    """The updates that `options` ask for; None without --model.lora-rank."""
    rank = options.lora_rank
    if rank is None:
        return None
    alpha = 2.0 * rank if options.lora_alpha is None else options.lora_alpha
    targets = DEFAULT_TARGETS if options.lora_targets is None else options.lora_targets
    return Lora(rank, alpha, targets, options.lora_dropout, options.freeze_layers,
                str(options.pretrained), options.revision)  # fmt: skip


def add_updates(model: PreTrainedModel, lora: Lora, seed: int) -> None:
    """Put low-rank updates into `model`, drawn from `seed`; they and the head are trained, and nothing else."""
    peft, num_layers = _import_peft(), model.config.num_hidden_layers
    config = _peft_config(peft, lora, num_layers)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(config, model, adapter_name=NAME)
    model.get_submodule(HEAD).requires_grad_(True)


def save_updates(state: Mapping[str, Tensor], lora: Lora, num_layers: int, folder: Path) -> None:
    """Write the updates and the head among `state`, the tensors of a model under transformers' names, as peft does."""
    peft = _import_peft()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tensors = {
        f"base_model.model.{name.replace(f'.{NAME}.', '.')}": tensor.detach().cpu().contiguous()
        for name, tensor in state.items()
        if name.endswith((DOWN, UP)) or name.startswith(f"{HEAD}.")
    }
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = _peft_config(peft, lora, num_layers)
    config.modules_to_save, config.inference_mode = [HEAD], True
    config.save_pretrained(str(folder))


def adapter_folder(model: Path) -> Path:
    """Where the updates lie that were merged into the exported `model`.

    >>> adapter_folder(Path("runs/a/model"))
    PosixPath('runs/a/model-adapter')
    """
    return model.with_name(f"{model.name}-adapter")


def _peft_config(peft: ModuleType, lora: Lora, num_layers: int) -> Any:
    return peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=list(lora.targets),
        lora_dropout=lora.dropout,
        layers_to_transform=list(range(lora.first_layer, num_layers)) if lora.first_layer else None,
        layers_pattern="layers" if lora.first_layer else None,
        bias="none",
        base_model_name_or_path=lora.base,
        revision=lora.revision,
    )


def _import_peft() -> ModuleType:
    try:
        with quiet_bitsandbytes():
            import peft
    except ImportError as error:
        raise ModelError(f"--model.lora-rank needs the package peft ({error}): {PACKAGE}") from None
    return peft
