"""One optimizer step: a gradient over all utterances of its batches, and an update that is applied whole or not at all.

Every name called from here is a plain function that can be opened; there are no hooks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim.lr_scheduler import LambdaLR

from data.batches.collate import Batch
from models.ctc import CTCModel, ctc_loss_per_utterance
from models.feature_table import FeatureTable
from trainer.device import HostCopy
from trainer.errors import TrainingStopped
from trainer.loop.gradients import Gradients, clip
from trainer.loop.graphs import Graphs
from trainer.loop.optim import allocate_moments
from trainer.scoring.forward import batch_logits


@dataclass
class StepResult:
    """One step's outcome. Its tensors stay on the device until somebody reads them."""

    loss: Tensor
    """Scalar: nats per unit, averaged over the step's utterances."""
    grad_norm: Tensor
    """Scalar: global L2 norm before clipping."""
    finite: HostCopy
    """Scalar bool: whether the update was applied."""
    nats: list[Tensor]
    """(B,) of each microbatch: nats per unit of each utterance."""
    ids: list[str]
    blank_share: Tensor | None
    """Scalar: share of frames whose most likely unit is the blank, averaged over the step's utterances; None unless the
    step is logged."""
    lr: float
    part_norms: dict[str, Tensor] = field(default_factory=dict)
    """Scalars: the gradient norm of each part of the model; empty unless the step is logged."""
    is_halved: bool = False
    """Whether the step was redone in smaller microbatches, because the device ran out of memory."""
    step: int = 0
    settled: bool = False

    def culprits(self) -> list[str]:
        """Ids of the utterances whose own loss is not finite; none when only the gradient is not."""
        nats = torch.cat(self.nats).tolist()
        return [i for i, n in zip(self.ids, nats, strict=True) if not math.isfinite(n)]


@dataclass
class TrainingParts:
    """The model and everything that trains it."""

    model: CTCModel
    optimizer: torch.optim.AdamW
    scheduler: LambdaLR
    scaler: GradScaler
    device: torch.device
    autocast: Callable[[], AbstractContextManager]
    features: FeatureTable | None = None
    """The frozen feature encoder's output, if it was computed beforehand; batches then hold row numbers of it."""
    graphs: Graphs | None = None
    """The captured passes of batches, on CUDA."""
    gradients: Gradients = field(init=False)

    def __post_init__(self) -> None:
        self.gradients = Gradients(self.model, in_one_buffer=self.device.type == "cuda")


def train_step(
    parts: TrainingParts,
    batches: Sequence[Batch],
    max_grad_norm: float,
    before_update: Callable[[], None],
    seed: int = 0,
    is_logged: bool = False,
) -> StepResult:
    """One optimizer step over all utterances of `batches`; nothing changes if loss or gradient is not finite.

    Each utterance weighs the same, whatever microbatch it is in. `before_update` is called after the gradient was
    launched on the device and before the weights change; the loop finishes the previous step in it. `seed` decides
    dropout and LayerDrop. A step that is logged also measures the gradient of each part of the model, and blanks.
    """
    optimizer, scaler = parts.optimizer, parts.scaler
    loss, nats, ids, blank_share = accumulate_gradient(parts, batches, seed, is_logged)
    clipped = clip(parts.gradients, optimizer, scaler, max_grad_norm, loss, by_part=is_logged)
    allocate_moments(optimizer)  # from here on nothing large is allocated: an update is not left half done
    before_update()
    lr = optimizer.param_groups[0]["lr"]
    optimizer.step()
    if parts.model.half_copies is not None:
        parts.model.half_copies.outdate()
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return StepResult(
        loss, clipped.norm, HostCopy(clipped.finite), nats, ids, blank_share, lr, clipped.part_norms,
        is_halved=len(nats) > len(batches),
    )  # fmt: skip


def accumulate_gradient(
    parts: TrainingParts, batches: Sequence[Batch], seed: int, counts_blanks: bool = False
) -> tuple[Tensor, list[Tensor], list[str], Tensor | None]:
    """(Step loss, nats per unit of each microbatch's utterances, ids, blank share); the gradient is in the parameters.

    When memory runs out, the whole step is redone from its seed with every microbatch in halves. Without dropout the
    gradient is then the same up to rounding.
    """
    while True:
        torch.manual_seed(seed)
        loss, blank_share = torch.zeros((2,), device=parts.device)
        nats: list[Tensor] = []
        num_utterances = sum(len(batch.ids) for batch in batches)
        try:
            for batch in batches:
                of_batch, blank_shares = backward(parts, batch, num_utterances, counts_blanks)
                nats.append(of_batch)
                loss += of_batch.sum() / num_utterances
                if blank_shares is not None:
                    blank_share += blank_shares.sum() / num_utterances
            ids = [i for batch in batches for i in batch.ids]
            return loss, nats, ids, blank_share if counts_blanks else None
        except torch.OutOfMemoryError:
            pass  # freeing memory must wait until the exception, which holds the step's tensors, is gone
        parts.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        if all(len(batch.ids) == 1 for batch in batches):
            longest = max(batches, key=lambda batch: batch.num_samples)
            raise TrainingStopped(
                f"out of memory on single utterances, the longest {longest.ids[0]} of {longest.num_seconds:.1f} s. "
                "Lower --corpus.max-seconds, freeze the feature encoder, or train a smaller model."
            )
        whole, batches = batches, []
        for batch in whole:
            batches += batch.halves(parts.model.num_frames) if len(batch.ids) > 1 else [batch]


def backward(
    parts: TrainingParts, batch: Batch, num_utterances: int, counts_blanks: bool
) -> tuple[Tensor, Tensor | None]:
    """Add one microbatch's share of the gradient. Returns (nats per unit, share of blank frames), each (B,)."""
    n, blank_id = len(batch.ids), parts.model.blank_id  # rows behind the utterances' only fill the batch's shape
    b, all_logits = batch_logits(parts.model, batch, parts.device, parts.autocast, parts.features, parts.graphs)
    logits = all_logits.detach()[:n].requires_grad_()
    frame_lengths, target_lengths = batch.frame_lengths[:n], batch.target_lengths[:n]  # CTC wants them on the host
    nats = ctc_loss_per_utterance(logits, frame_lengths, b.targets[:n], target_lengths, blank_id=blank_id)
    (gradient,) = torch.autograd.grad(parts.scaler.scale(nats.sum() / num_utterances), logits)
    if parts.graphs is not None:
        parts.graphs.backward(gradient)
    else:
        parts.gradients.add(parts.gradients.of(all_logits[:n], gradient))
    if not counts_blanks:
        return nats.detach(), None
    is_real = torch.arange(logits.shape[1], device=parts.device) < b.frame_lengths[:n, None]
    num_blank = ((logits.argmax(-1) == blank_id) & is_real).sum(1)
    return nats.detach(), num_blank / b.frame_lengths[:n]
