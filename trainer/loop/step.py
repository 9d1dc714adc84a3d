"""One optimizer step: a gradient over all utterances of its batches, and an update that is applied whole or not at all.

Every name called from here is a plain function that can be opened; there are no hooks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import InitVar, dataclass, field

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim.lr_scheduler import LambdaLR

from data.batches.collate import Batch
from data.batches.loading import never
from data.randomness import derive_seed
from data.utterance import SAMPLE_RATE
from models.ctc import CTCModel, ctc_loss_per_utterance
from models.feature_table import FeatureTable
from trainer.device import HostCopy, out_of_memory_by_name
from trainer.errors import TrainingStopped
from trainer.loop.gradients import Gradients, clip
from trainer.loop.graphs import Graphs
from trainer.loop.optim import allocate_moments
from trainer.parallel.ballot import Ballot, Outcome
from trainer.parallel.world import ALONE, World
from trainer.scoring.forward import batch_logits


@dataclass
class StepResult:
    """One step's outcome. Its tensors stay on the device until somebody reads them."""

    loss: Tensor
    """Scalar: nats per unit, averaged over the step's utterances."""
    grad_norm: Tensor
    """Scalar: global L2 norm before clipping."""
    outcome: HostCopy
    """Scalar bool: whether the update was applied; and behind it `nats`, as they were in this process."""
    nats: list[Tensor]
    """(B,) of each microbatch: nats per unit of each utterance."""
    ids: list[str]
    positions: list[int]
    """Where each utterance of this process stands in the list of training examples."""
    blank_share: Tensor | None
    """Scalar: share of frames whose most likely unit is the blank, averaged over the step's utterances; None unless the
    step is logged."""
    lr: float
    part_norms: dict[str, Tensor] = field(default_factory=dict)
    """Scalars: the gradient norm of each part of the model; empty unless the step is logged."""
    is_halved: bool = False
    """Whether the step was redone in smaller microbatches, because a device ran out of memory."""
    stops: bool = False
    """Whether any rank was asked to stop when the gradient was ready; a process alone asks its own flag later."""
    epoch: int = 0
    step: int = 0
    settled: bool = False

    def gather(self, world: World) -> None:
        """Let this hold the losses and ids of all ranks. Waits for the device; called for skipped steps alone."""
        if not world.is_alone:
            of_ranks = world.gather([self.ids, [n for nats in self.nats for n in nats.tolist()]])
            self.ids = [i for ids, _ in of_ranks for i in ids]
            self.nats = [torch.tensor([n for _, nats in of_ranks for n in nats])]

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
    world: World = ALONE
    """The ranks that train together, each with its share of every batch."""
    sharded: InitVar[Gradients | None] = None
    """The gradients of a model that is spread over processes; a whole model's are made here."""
    gradients: Gradients = field(init=False)
    """Where a step's gradient is summed up."""
    ballot: Ballot = field(init=False)

    def __post_init__(self, sharded: Gradients | None) -> None:
        on_cuda = self.device.type == "cuda"
        in_one_buffer = on_cuda or not self.world.is_alone
        self.gradients = sharded or Gradients(self.model, in_one_buffer=in_one_buffer, scaled_by_update=on_cuda)
        self.ballot = Ballot(self.world, len(self.gradients.parameters))


@out_of_memory_by_name()
def train_step(
    parts: TrainingParts,
    batches: Sequence[Batch],
    max_grad_norm: float,
    before_update: Callable[[], None],
    seed: int = 0,
    is_logged: bool = False,
    must_stop: Callable[[], bool] = never,
) -> StepResult:
    """One optimizer step over all utterances of `batches`; nothing changes if loss or gradient is not finite.

    Each utterance weighs the same, whatever microbatch it is in. `before_update` is called after the gradient was
    launched on the device and before the weights change; the loop finishes the previous step in it. `seed` decides
    dropout and LayerDrop. A step that is logged also measures the gradient of each part of the model, and blanks.

    Each of several ranks has its share of `batches`. All take the same step, and know whether any rank `must_stop`.
    """
    optimizer, scaler, gradients = parts.optimizer, parts.scaler, parts.gradients
    with parts.world.noticing():
        of_rank = accumulate_gradient(parts, batches, seed, is_logged, must_stop)
    loss, blank_share = gradients.sum_over(parts.world, of_rank.vote.found, of_rank.figures)
    clipped = clip(gradients, optimizer, scaler, max_grad_norm, loss, by_part=is_logged)
    allocate_moments(optimizer)  # from here on nothing large is allocated: an update is not left half done
    before_update()
    lr = optimizer.param_groups[0]["lr"]
    optimizer.step()
    if parts.model.half_copies is not None:
        parts.model.half_copies.outdate()
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return StepResult(
        loss, clipped.norm, HostCopy(clipped.finite, *of_rank.nats), of_rank.nats, of_rank.ids, of_rank.positions,
        blank_share if is_logged else None, lr, clipped.part_norms, of_rank.is_halved, of_rank.vote.stops,
    )  # fmt: skip


@dataclass(frozen=True)
class Accumulated:
    """What a rank has of a step; the gradient is in the parameters."""

    figures: Tensor
    """(2,): its part of the step's loss, and of the share of blanks, which is 0 unless it was asked for."""
    nats: list[Tensor]
    """(B,) of each microbatch: nats per unit of each utterance."""
    ids: list[str]
    positions: list[int]
    is_halved: bool
    vote: Outcome


def accumulate_gradient(
    parts: TrainingParts,
    batches: Sequence[Batch],
    seed: int,
    counts_blanks: bool = False,
    must_stop: Callable[[], bool] = never,
) -> Accumulated:
    """The gradient of this rank's utterances, divided by the number of all ranks' utterances.

    When memory runs out on any rank, all redo the whole step from its seed with every microbatch in halves. Without
    dropout the gradient is then the same up to rounding.
    """
    world, gradients = parts.world, parts.gradients
    num_utterances = sum(batch.num_utterances for batch in batches)
    microbatches = [[batch] for batch in batches]
    is_halved = False
    while True:
        torch.manual_seed(seed if world.is_first else derive_seed(seed, "rank", world.rank))
        # LayerDrop skips the same layers on all ranks
        layers = None if world.is_alone else torch.Generator().manual_seed(seed)
        loss, blank_share = figures = torch.zeros(2, dtype=gradients.dtype, device=parts.device)
        nats: list[Tensor] = []
        out_of_memory = False
        try:
            for k, microbatch in enumerate(microbatches, 1):
                parts.model.draw_layers(layers)
                for batch in microbatch:
                    if not gradients.takes_part(has_rows(batch), world, is_last=k == len(microbatches)):
                        continue
                    of_batch, blank_shares = backward(parts, batch, num_utterances, counts_blanks)
                    nats.append(of_batch)
                    loss += of_batch.sum() / num_utterances
                    if blank_shares is not None:
                        blank_share += blank_shares.sum() / num_utterances
        except torch.OutOfMemoryError:
            out_of_memory = True  # memory is freed below, once the exception, which holds the step's tensors, is gone
        own = [batch for microbatch in microbatches for batch in filter(has_rows, microbatch)]
        if out_of_memory:
            gradients.refuse_to_redo(world)
        if out_of_memory and all(len(batch.ids) == 1 for batch in own):
            longest = max(own, key=lambda batch: batch.num_samples)
            parts.ballot.fail(out_of_memory_on(longest))
        vote = parts.ballot.cast(out_of_memory=out_of_memory, must_stop=must_stop, found=gradients.are_found)
        if not vote.out_of_memory:
            ids, positions = [i for b in own for i in b.ids], [i for b in own for i in b.positions]
            return Accumulated(figures, nats, ids, positions, is_halved, vote)
        parts.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        is_halved, num_frames = True, parts.model.num_frames
        microbatches = [[half for batch in those for half in halves(batch, num_frames)] for those in microbatches]


def has_rows(batch: Batch) -> bool:
    """Whether anything of the batch is left for this rank."""
    return len(batch.ids) > 0


def halves(batch: Batch, num_frames: Callable[[int], int]) -> list[Batch]:
    """Two batches of half the utterances, or the batch itself if there is nothing to halve."""
    return batch.halves(num_frames) if len(batch.ids) > 1 else [batch]


def out_of_memory_on(longest: Batch) -> TrainingStopped:
    """The error to raise when the device has no memory for a batch of one utterance."""
    return TrainingStopped(
        f"out of memory on single utterances, the longest {longest.ids[0]} of {longest.num_samples / SAMPLE_RATE:.1f} "
        "s. Lower --corpus.max-seconds, freeze the feature encoder, or train a smaller model."
    )


@out_of_memory_by_name()
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
        parts.gradients.backward(all_logits[:n], gradient)
    if not counts_blanks:
        return nats.detach(), None
    is_real = torch.arange(logits.shape[1], device=parts.device) < b.frame_lengths[:n, None]
    num_blank = ((logits.argmax(-1) == blank_id) & is_real).sum(1)
    return nats.detach(), num_blank / b.frame_lengths[:n]
