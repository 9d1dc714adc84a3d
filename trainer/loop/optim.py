"""AdamW and its schedule: parameter groups, and the learning rate's factor as a pure function of the step."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from trainer.config.schema import OptimConfig

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm1d)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Trainable parameters in two groups: decayed, and not decayed (biases and norms)."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                (plain if isinstance(module, NORMS) or name.endswith("bias") else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """Fused AdamW: one kernel per group, and it leaves everything as it was when `found_inf` is 1."""
    assert config.lr is not None
    groups = parameter_groups(model, config.weight_decay)
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.999), eps=1e-8, fused=True)


def lr_factor(step: int, warmup_steps: int, total_steps: int) -> float:
    """Share of the peak rate for update number `step` (from 0): linear up over the warm-up, linear down to 0.

    Equals transformers' get_linear_schedule_with_warmup.
    """
    if step < warmup_steps:
        return step / warmup_steps
    return max(0.0, (total_steps - step) / max(1, total_steps - warmup_steps))


def build_schedule(optimizer: torch.optim.Optimizer, warmup_steps: int, total_steps: int) -> LambdaLR:
    """`lr_factor` as a LambdaLR, stepped once per applied update."""
    return LambdaLR(optimizer, lambda step: lr_factor(step, warmup_steps, total_steps))


def allocate_moments(optimizer: torch.optim.AdamW) -> None:
    """Make AdamW's moments for every parameter that has a gradient but none yet: for all, or without memory for none.

    AdamW would make them group by group while it updates. If memory ran out there, some weights would be of the new
    step and some of the old one. The tensors are those that it makes itself.
    """
    fresh = {
        p: {"step": torch.zeros((), device=p.device), "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        for group in optimizer.param_groups
        for p in group["params"]
        if p.grad is not None and not optimizer.state.get(p)
    }
    optimizer.state.update(fresh)
