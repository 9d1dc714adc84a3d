"""How several processes share the work: each with the whole model (DDP), or each with a share of it (FSDP)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from models.ctc import CTCModel
from trainer.device import HALF, free_memory
from trainer.errors import ConfigError
from trainer.parallel.world import World

ROOM = 0.7
"""Share of the free memory that weights, gradients and moments may take. Activations need the rest."""
GB = 1e9


@dataclass(frozen=True)
class Sharing:
    """What was chosen, and why."""

    is_sharded: bool
    reason: str

    @property
    def name(self) -> str:
        return "fsdp" if self.is_sharded else "ddp"


def choose_sharing(asked: str, model: CTCModel, precision: str, device: torch.device, world: World) -> Sharing:
    """What --parallel `asked` means here: all processes choose the same. `model` need not be on `device` yet."""
    needed, free = state_bytes(model, precision), free_memory(device)
    if device.type == "cpu":
        free //= world.launch.local_size  # processes of a host share its memory
    amount = f"weights, gradients and moments take {needed / GB:.2f} GB"
    room = f"the {free / GB:.1f} GB that are free for a process on {device.type}"
    if asked == "fsdp":
        return Sharing(True, f"asked for; {amount}, {needed / GB / world.size:.2f} in each process")
    if asked == "ddp" or world.size == 1:
        return Sharing(False, f"asked for; {amount}")
    too_large = bool(free) and needed > ROOM * free
    if world.agree([too_large])[0]:
        return Sharing(True, f"{amount}, more than {100 * ROOM:.0f} % of {room}")
    return Sharing(False, f"{amount} and fit {room}")


def state_bytes(model: CTCModel, precision: str) -> int:
    """Bytes that one process with the whole model holds through a step, beside activations: weights and their copies in
    half precision; a gradient and AdamW's two moments for each weight that is trained."""
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    copies = size // 2 if precision in HALF else 0
    return size + copies + 3 * trained


def refuse_with_sharding(*, cuda_graphs: bool | None, backend: str) -> None:
    """ConfigError for what cannot be combined with --parallel fsdp."""
    if cuda_graphs:
        raise ConfigError(
            "--model.cuda-graphs: with --parallel fsdp weights are gathered and freed in every pass, which a graph "
            "cannot do. Leave the option out."
        )
    if not backend:
        raise ConfigError("--parallel fsdp needs torchrun: torchrun --nproc-per-node N -m trainer.run ...")
