"""The gradient of a step: where it is summed up, how it is clipped, and its norm in each part of the model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from models.ctc import CTCModel
from trainer.parallel.world import World

PARTS = {
    "feature_encoder": ".feature_extractor.",
    "projection": ".feature_projection.",
    "transformer": ".encoder.",
}
"""Part -> what its parameters' names contain. The embedding of masked frames counts as projection; the rest is the
head."""

NUM_FIGURES = 2
"""Scalars that are summed over the ranks with a gradient: the step's loss, and its share of blanks."""


class Gradients:
    """The sum of the gradients of a step's microbatches, in the precision of the parameters.

    With `in_one_buffer`, for CUDA and for several ranks, they lie in memory that stays where it is: CUDA graphs write
    there, one call takes the norm of all, and one call sums them over the ranks. Otherwise every step has new tensors.
    """

    def __init__(self, model: CTCModel, *, in_one_buffer: bool, scaled_by_update: bool | None = None) -> None:
        """`scaled_by_update`: whether the update's kernel clips (see `clip`); None: if they lie in one buffer."""
        self.model = model
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.scaled_by_update = in_one_buffer if scaled_by_update is None else scaled_by_update
        self.buffer: Tensor | None = None
        self._slices: dict[nn.Parameter, Tensor] = {}
        if in_one_buffer:
            first = self.parameters[0]
            sizes = [p.numel() for p in self.parameters]
            self._summed = torch.zeros(sum(sizes) + NUM_FIGURES, dtype=first.dtype, device=first.device)
            self.buffer = self._summed[:-NUM_FIGURES]
            slices = self.buffer.split(sizes)
            self._slices = {p: s.view_as(p) for p, s in zip(self.parameters, slices, strict=True)}

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the parameters."""
        return self.parameters[0].dtype

    @property
    def num_bytes(self) -> int:
        """Of the gradients of all parameters: what ranks send each other in a step."""
        return sum(p.numel() * p.element_size() for p in self.parameters)

    def are_found(self) -> list[bool]:
        """Whether each parameter has a gradient in this step."""
        return [p.grad is not None for p in self.parameters]

    def sum_over(self, world: World, found: Sequence[bool], figures: Tensor) -> Tensor:
        """Add up the gradients of all ranks, and `figures` (NUM_FIGURES,) with them; returns the figures' sums.

        `found` tells which parameters have a gradient on any rank: those have one on this rank too then.
        """
        if world.is_alone:
            return figures
        self.clear_unused()  # whoever found none adds zeros
        self._summed[-NUM_FIGURES:].copy_(figures)
        world.sum_(self._summed)
        self.adopt(p for p, is_found in zip(self.parameters, found, strict=True) if is_found)
        return self._summed[-NUM_FIGURES:].clone()

    @property
    def are_trained(self) -> tuple[bool, ...]:
        """Whether each parameter is trained now: a loop may freeze some of them for some steps."""
        return tuple(p.requires_grad for p in self.parameters)

    def of(self, logits: Tensor, gradient: Tensor) -> list[Tensor | None]:
        """The gradient of each parameter, from that of `logits`; None for one that is frozen, or that the forward pass
        did not read."""
        copies = self.model.half_copies  # the forward pass reads these in the parameters' place
        trained = [p for p in self.parameters if p.requires_grad]
        leaves = [p if copies is None else copies.of.get(p, p) for p in trained]
        found = dict(zip(trained, torch.autograd.grad(logits, leaves, gradient, allow_unused=True), strict=True))
        return [found.get(p) for p in self.parameters]

    def add(self, found: Sequence[Tensor | None]) -> None:
        """Add a microbatch's gradients to those that the parameters have already."""
        pairs = list(zip(self.parameters, found, strict=True))
        summed = [(p.grad, g.to(p.dtype)) for p, g in pairs if g is not None and p.grad is not None]
        fresh = [(p, g) for p, g in pairs if p.grad is None]
        if self.buffer is None:
            for p, g in fresh:
                # the update's kernel goes through memory, so a gradient must lie there as its parameter does
                if g is not None and (g.stride() != p.stride() or g.dtype is not p.dtype):
                    g = torch.empty_like(p).copy_(g)
                p.grad = g
        else:
            self.write(fresh)
            self.adopt(p for p, g in fresh if g is not None)
        if summed:
            torch._foreach_add_([total for total, _ in summed], [g for _, g in summed])

    @torch.no_grad()
    def write(self, pairs: Iterable[tuple[nn.Parameter, Tensor | None]]) -> None:
        """Put gradients into the buffer, zeros for those that are None."""
        pairs = list(pairs)
        for dtype in {g.dtype for _, g in pairs if g is not None}:  # one call takes one precision, or goes one by one
            there = [(self._slices[p], g) for p, g in pairs if g is not None and g.dtype is dtype]
            torch._foreach_copy_([s for s, _ in there], [g for _, g in there])
        if unread := [self._slices[p] for p, g in pairs if g is None]:
            torch._foreach_zero_(unread)

    @torch.no_grad()
    def add_to_buffer(self, pairs: Iterable[tuple[nn.Parameter, Tensor | None]]) -> None:
        """Add gradients to what the buffer holds."""
        if there := [(self._slices[p], g.to(p.dtype)) for p, g in pairs if g is not None]:
            torch._foreach_add_([s for s, _ in there], [g for _, g in there])

    def clear_unused(self) -> None:
        """Put zeros into the buffer for every parameter that has no gradient yet."""
        self.write((p, None) for p in self.parameters if p.grad is None)

    def adopt(self, parameters: Iterable[nn.Parameter]) -> None:
        """Let these parameters have the buffer's content as their gradients."""
        for p in parameters:
            p.grad = self._slices[p]


@dataclass(frozen=True)
class Clipped:
    """What is known of a step's gradient once it is clipped. All tensors stay on the device."""

    norm: Tensor
    """Scalar: global L2 norm before clipping."""
    finite: Tensor
    """Scalar bool: whether the norm and the loss are finite."""
    part_norms: dict[str, Tensor]
    """Scalars: the norm of each part of the model; empty unless they were asked for."""


def clip(
    gradients: Gradients,
    optimizer: torch.optim.AdamW,
    scaler: GradScaler,
    max_norm: float,
    loss: Tensor,
    *,
    by_part: bool = False,
) -> Clipped:
    """Clip the gradient's global L2 norm at `max_norm`, and let the update happen only if it and `loss` are finite.

    AdamW's fused kernel leaves weights, moments and its step count alone if found_inf is 1, and divides the gradient by
    grad_scale as it reads it. On CUDA it does so both for fp16's scale and for clipping: passes over the gradient for
    these would take 1.1 ms of a large model's step on an H100. On a CPU both are done here, with the same operations as
    in transformers' Trainer.
    """
    named = gradients.model.named_parameters()
    factor: Tensor | None = None
    if not gradients.scaled_by_update:
        scaler.unscale_(optimizer)
        part_norms = norms_by_part(named) if by_part else {}
        norm = torch.nn.utils.clip_grad_norm_((p for g in optimizer.param_groups for p in g["params"]), max_norm)
    else:
        assert gradients.buffer is not None
        scale = scaler.scale(torch.ones_like(loss))
        part_norms = {part: n / scale for part, n in norms_by_part(named).items()} if by_part else {}
        norm = torch.linalg.vector_norm(gradients.buffer) / scale
        factor = (scale / (max_norm / (norm + 1e-6)).clamp(max=1.0)).float()
    finite = torch.isfinite(loss) & torch.isfinite(norm)
    found_inf = (~finite).float()
    if factor is not None and scaler.is_enabled():  # what unscale_ would note for scaler.update
        scaler._per_optimizer_states[id(optimizer)]["found_inf_per_device"] = {found_inf.device: found_inf}
    # scaler.step would hand over the gradients' flag only; ours covers the loss too, at every precision
    optimizer.found_inf = found_inf  # type: ignore[attr-defined]
    optimizer.grad_scale = factor  # type: ignore[attr-defined]
    return Clipped(norm, finite, part_norms)


def part_of(name: str) -> str:
    """The part that a parameter belongs to.

    >>> part_of("hf.unispeech.encoder.layers.0.attention.k_proj.weight")
    'transformer'
    """
    if name.endswith("masked_spec_embed"):
        return "projection"
    return next((part for part, mark in PARTS.items() if mark in name), "head")


def norms_by_part(parameters: Iterable[tuple[str, nn.Parameter]]) -> dict[str, Tensor]:
    """L2 norm of each part's gradient, scalars on the device; parts without a gradient are left out.

    The sum of their squares is the square of the whole gradient's norm.
    """
    gradients: dict[str, list[Tensor]] = {part: [] for part in (*PARTS, "head")}
    for name, parameter in parameters:
        if parameter.grad is not None:
            gradients[part_of(name)].append(parameter.grad)
    return {part: torch.nn.utils.get_total_norm(those) for part, those in gradients.items() if those}
