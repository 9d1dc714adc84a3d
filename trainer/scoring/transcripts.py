"""Batches through the model: what it writes for each utterance, read by the host while the device computes the next.

Nothing is scored here, see trainer.scoring.evaluate.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from data.batches.collate import Batch
from models.ctc import CTCModel, ctc_loss_per_utterance
from models.feature_table import FeatureTable
from trainer.device import HostCopy, out_of_memory_by_name
from trainer.scoring.confidence import frame_evidence
from trainer.scoring.decode import collapse, written_units
from trainer.scoring.forward import Replays, batch_logits


class Transcript(NamedTuple):
    """What the model wrote for an utterance, not yet scored."""

    units: tuple[int, ...]
    loss: float
    num_frames: int
    num_blank_frames: int
    frames: tuple[np.ndarray, np.ndarray] | None = None
    """Each frame's best unit (T,) and evidence (T, 3), where confidences are asked for."""


@dataclass(frozen=True)
class Launched:
    """What comes back of a batch that was launched."""

    tensors: HostCopy
    """The unit of each frame (B, T), nats per unit (B,), blank frames (B,), posteriors (T, V) of those followed, and
    where confidences are asked for, each frame's best unit (B, T) and evidence (B, T, 3)."""
    followed: list[int]
    """Their positions."""
    has_evidence: bool


def transcribe_batches(
    model: CTCModel, batches: Iterable[Batch], device: torch.device,
    autocast: Callable[[], AbstractContextManager], *, features: FeatureTable | None, replays: Replays | None,
    followed: Collection[int], confidence: bool, may_halve: bool,
) -> Iterator[tuple[Batch, list[Transcript], dict[int, np.ndarray]]]:  # fmt: skip
    """(Batch, its transcripts, by position the posteriors (T, V) of those `followed`) for each of `batches`.

    `features` and `replays`: see trainer.scoring.forward. `confidence` keeps what confidences are computed from. A
    batch for which the device has no memory goes in halves if it `may_halve`; else OutOfMemoryError.
    """
    launch = functools.partial(
        _launch, model, features, device=device, autocast=autocast, replays=replays, followed=followed,
        confidence=confidence,
    )  # fmt: skip
    return _read_behind(_launch_all(batches, launch, model.num_frames if may_halve else None))


def _launch_all(
    batches: Iterable[Batch],
    launch: Callable[[Batch], tuple[Batch, Launched]],
    num_frames: Callable[[int], int] | None,
) -> Iterator[tuple[Batch, Launched]]:
    """Every batch launched. One for which the device has no memory goes in halves, which changes no transcript.

    OutOfMemoryError when one utterance alone is too long, or without `num_frames`.
    """
    for batch in batches:
        try:
            launched = launch(batch)
        except torch.OutOfMemoryError:
            if len(batch.ids) == 1 or num_frames is None:
                raise
            launched = None  # freeing memory must wait until the exception, which holds the batch's tensors, is gone
        if launched is None:
            assert num_frames is not None
            torch.cuda.empty_cache()
            yield from _launch_all(batch.halves(num_frames), launch, num_frames)
        else:
            yield launched


@out_of_memory_by_name()
def _launch(
    model: CTCModel, features: FeatureTable | None, batch: Batch, device: torch.device,
    autocast: Callable[[], AbstractContextManager], replays: Replays | None, followed: Collection[int],
    confidence: bool,
) -> tuple[Batch, Launched]:  # fmt: skip
    """Launch a batch; nothing is waited for but the lengths that CTC reads."""
    n, blank_id = len(batch.ids), model.blank_id  # rows behind the utterances' only fill the batch's shape
    b, logits = batch_logits(model, batch, device, autocast, features, replays)
    logits, frame_lengths = logits[:n], b.frame_lengths[:n]
    on_host = batch.frame_lengths[:n], batch.target_lengths[:n]
    nats = ctc_loss_per_utterance(logits, on_host[0], b.targets[:n], on_host[1], blank_id=blank_id)
    best = logits.argmax(-1)
    is_real = torch.arange(best.shape[1], device=device) < frame_lengths[:, None]
    num_blank = ((best == blank_id) & is_real).sum(1)
    shown = [k for k, i in enumerate(batch.positions) if i in followed]
    posteriors = [logits[k, : int(batch.frame_lengths[k])].float().softmax(-1) for k in shown]
    evidence = [best, frame_evidence(logits)] if confidence else []
    transcripts = HostCopy(collapse(best, frame_lengths, blank_id), nats, num_blank, *posteriors, *evidence)
    return batch, Launched(transcripts, [batch.positions[k] for k in shown], confidence)


def _read_behind(
    launched: Iterator[tuple[Batch, Launched]],
) -> Iterator[tuple[Batch, list[Transcript], dict[int, np.ndarray]]]:
    """(Batch, its transcripts, posteriors of those followed, by position), one batch late: the host reads them while
    the device computes the next batch."""
    before: tuple[Batch, Launched] | None = None
    for now in itertools.chain(launched, [None]):
        if before is not None:
            batch, (units, nats, num_blank, *posteriors) = before[0], before[1].tensors.wait()
            written = map(written_units, units)
            frames = batch.frame_lengths[: len(batch.ids)].tolist()
            seen: list[tuple[np.ndarray, np.ndarray] | None] = [None] * len(frames)
            if before[1].has_evidence:
                *posteriors, best, evidence = posteriors
                seen = [(best[k, :n].numpy(), evidence[k, :n].numpy()) for k, n in enumerate(frames)]
            rows = zip(written, nats.tolist(), frames, num_blank.tolist(), seen, strict=True)
            arrays = [p.numpy() for p in posteriors]
            yield batch, [Transcript(*row) for row in rows], dict(zip(before[1].followed, arrays, strict=True))
        before = now
