"""The gradient of a step where the model is spread over processes (trainer.parallel.sharding): each has its share.

FSDP sums the gradient over the processes during the backward pass, unit by unit. What is left to do here is to give
every process the norm of the whole, and to keep the processes' passes in step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from models.ctc import CTCModel
from trainer.loop.gradients import PARTS, Gradients, part_of
from trainer.parallel.lockstep import idle_pass, out_of_memory_alone
from trainer.parallel.sharding import local
from trainer.parallel.world import World

ALL_PARTS = (*PARTS, "head")


class ShardedGradients(Gradients):
    """`Gradients` of a model that is spread. Their shares lie in the parameters, which are DTensors."""

    is_sharded = True

    def __init__(
        self,
        model: CTCModel,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager],
        *,
        masks_time: bool,
        reduces_once: bool = False,
    ) -> None:
        """`masks_time`: whether training batches have time masks (see idle_pass). `reduces_once`: sum over the ranks
        after a step's last microbatch only, for which every rank holds the whole gradient until then."""
        super().__init__(model, in_one_buffer=False, scaled_by_update=device.type == "cuda")
        self.device, self.autocast = device, autocast
        self.masks_time, self.reduces_once = masks_time, reduces_once
        self._squares = torch.zeros(len(ALL_PARTS), dtype=torch.float64, device=device)
        """Of the norm of each part, over all processes."""

    def takes_part(self, has_rows: bool, world: World, *, is_last: bool) -> bool:
        assert isinstance(self.model, FSDPModule)
        self.model.set_requires_gradient_sync(is_last or not self.reduces_once)
        if not has_rows:  # the others wait for this rank's weights and for its part of the sum
            with self.autocast():
                logits = idle_pass(self.model, self.device, masks_time=self.masks_time)
            self.backward(logits, torch.zeros_like(logits))
        return has_rows

    def refuse_to_redo(self, world: World) -> None:
        raise out_of_memory_alone(world, "in a step")

    def backward(self, logits: Tensor, gradient: Tensor) -> None:
        # FSDP's hooks are on the leaves: torch.autograd.grad would pass them by
        logits.backward(gradient)

    def sum_over(self, world: World, found: Sequence[bool], figures: Tensor) -> Tensor:
        """The sums of `figures`, and of the squares that norms are made of; the gradients are sums already."""
        squares = torch.zeros_like(self._squares)
        shares: dict[str, list[Tensor]] = {part: [] for part in ALL_PARTS}
        for name, parameter in self.model.named_parameters():
            if parameter.grad is not None:
                shares[part_of(name)].append(local(parameter.grad))
        for i, those in enumerate(shares.values()):
            if those:
                squares[i] = torch.stack(torch._foreach_norm(those)).double().square().sum()
        summed = torch.cat([squares, figures.double()])
        world.sum_(summed)
        self._squares, sums = summed[: len(squares)], summed[len(squares) :]
        self._parts_found = [part for part, those in shares.items() if those]
        return sums.to(figures.dtype)

    def norm(self) -> Tensor:
        return self._squares.sum().sqrt().to(self.dtype)

    def norms_by_part(self) -> dict[str, Tensor]:
        norms = zip(ALL_PARTS, self._squares.sqrt().to(self.dtype), strict=True)
        return {part: norm for part, norm in norms if part in self._parts_found}

    def clip_(self, parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
        norm = self.norm()
        factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)  # as torch.nn.utils.clip_grad_norm_ has it
        torch._foreach_mul_([local(p.grad) for p in parameters if p.grad is not None], factor)
        return norm
