"""AdamW and its schedule: parameter groups, moments of 32 or 8 bits, and the learning rate's factor as a pure function
of the step."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from models.checkpoints.quiet import quiet_bitsandbytes
from trainer.config.schema import OptimConfig
from trainer.errors import ConfigError

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm1d)
BETAS, EPSILON = (0.9, 0.999), 1e-8
BLOCK = 256
"""Values that share a scale in moments of 8 bits; it is that of bitsandbytes' kernels."""
FEWEST_IN_8_BITS = 4096
"""The moments of smaller parameters, biases and norms mostly, stay in fp32: there is little to save."""


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
    """AdamW that leaves everything as it was when `found_inf` is 1: torch's fused one, or with moments of 8 bits."""
    assert config.lr is not None
    groups = parameter_groups(model, config.weight_decay)
    if config.moments == "8bit":
        return AdamW8bit(groups, lr=config.lr)
    return torch.optim.AdamW(groups, lr=config.lr, betas=BETAS, eps=EPSILON, fused=True)


class AdamW8bit(torch.optim.AdamW):
    """AdamW whose moments take 8 bits a value, with bitsandbytes' kernels (Dettmers et al. 2022).

    Each block of 256 values has a scale in fp32, and each value is the nearest of 256 steps that lie closer to each
    other near zero. State of a parameter: "step", "exp_avg" and "exp_avg_sq", and of those in 8 bits their scales.

    `found_inf` and `grad_scale` mean what they mean to torch's fused AdamW: nothing changes if the first is 1, and the
    gradient is divided by the second as it is read. The host has to know both, so it waits for the gradient here.
    """

    found_inf: Tensor | None = None
    grad_scale: Tensor | None = None

    def __init__(self, groups: list[dict], lr: float) -> None:
        self._kernels = _import_bitsandbytes()
        steps = {True: "exp_avg", False: "exp_avg_sq"}
        self._steps = {key: self._kernels.create_dynamic_map(signed=signed).float() for signed, key in steps.items()}
        super().__init__(groups, lr=lr, betas=BETAS, eps=EPSILON)

    def new_moments(self, p: nn.Parameter) -> dict[str, Tensor]:
        """The state of a parameter before its first update: zeros."""
        step = torch.zeros(())  # on the host, which hands it to the kernel as a number
        if p.numel() < FEWEST_IN_8_BITS:
            return {"step": step, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        state = {"step": step}
        for key in ("exp_avg", "exp_avg_sq"):
            state[key] = torch.zeros_like(p, dtype=torch.uint8)
            state[f"{key}_scale"] = torch.zeros(-(-p.numel() // BLOCK), device=p.device)
        return state

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient, or none."""
        scale = 1.0
        if self.found_inf is not None:
            known = self.found_inf if self.grad_scale is None else torch.stack([self.found_inf, self.grad_scale])
            found_inf, *scales = known.reshape(-1).tolist()
            if found_inf:
                return
            scale = 1.0 / scales[0] if scales else 1.0
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, group, scale)

    def _update(self, p: nn.Parameter, group: dict, scale: float) -> None:
        assert p.grad is not None
        if not self.state[p]:
            self.state[p].update(self.new_moments(p))
        state, lr, decay, (beta1, beta2) = self.state[p], group["lr"], group["weight_decay"], group["betas"]
        state["step"] += 1
        step, m, v = int(state["step"]), state["exp_avg"], state["exp_avg_sq"]
        if m.dtype is torch.uint8:
            steps = [self._steps_on(p.device, key) for key in ("exp_avg", "exp_avg_sq")]
            scales = state["exp_avg_scale"], state["exp_avg_sq_scale"]
            self._kernels.optimizer_update_8bit_blockwise(
                "adam", p.grad, p, m, v, beta1, beta2, 0.0, 0.0, group["eps"], step, lr, *steps, *scales, decay, scale
            )
        else:
            self._kernels.optimizer_update_32bit(
                "adam", p.grad, p, m, beta1, group["eps"], step, lr, v, beta2, 0.0, 0.0, decay, scale
            )

    def _steps_on(self, device: torch.device, key: str) -> Tensor:
        if self._steps[key].device != device:
            self._steps[key] = self._steps[key].to(device)
        return self._steps[key]


def _import_bitsandbytes() -> ModuleType:
    try:
        with quiet_bitsandbytes():
            import bitsandbytes.functional
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"--optim.moments 8bit needs the package bitsandbytes ({reason}): pip install bitsandbytes"
        ) from None
    return bitsandbytes.functional


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


def new_moments(optimizer: torch.optim.AdamW, p: nn.Parameter) -> dict[str, Tensor]:
    """The tensors that `optimizer` keeps for `p`, as they are before its first update."""
    if isinstance(optimizer, AdamW8bit):
        return optimizer.new_moments(p)
    step = torch.zeros((), device=p.device)  # the tensors that torch's fused AdamW makes itself
    return {"step": step, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}


def moment_bytes(p: nn.Parameter, moments: str) -> int:
    """The size of `new_moments` with --optim.moments `moments`."""
    if moments == "8bit" and p.numel() >= FEWEST_IN_8_BITS:
        return 2 * p.numel() + 2 * 4 * -(-p.numel() // BLOCK) + 4
    return 2 * p.numel() * p.element_size() + 4


def allocate_moments(optimizer: torch.optim.AdamW) -> None:
    """Make AdamW's moments for every parameter that has a gradient but none yet: for all, or without memory for none.

    AdamW would make them group by group while it updates. If memory ran out there, some weights would be of the new
    step and some of the old one.
    """
    fresh = {
        p: new_moments(optimizer, p)
        for group in optimizer.param_groups
        for p in group["params"]
        if p.grad is not None and not optimizer.state.get(p)
    }
    optimizer.state.update(fresh)
