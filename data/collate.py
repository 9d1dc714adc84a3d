"""Examples to a batch of padded tensors, made on the CPU: lengths, targets and masks included.

So the step on the device computes no length, asks for no maximum and waits for nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.audio import change_speed, normalize
from data.batching import BatchPlan
from data.prepare import Example
from data.specaugment import SpecAugment
from data.utterance import SAMPLE_RATE, AudioError


@dataclass
class Batch:
    """B utterances. S samples and T frames are those of the longest one, U its units."""

    waveforms: Tensor
    """float32 (B, S), zero after each utterance's end."""
    waveform_lengths: Tensor
    """int64 (B,) samples."""
    frame_lengths: Tensor
    """int64 (B,) encoder frames."""
    targets: Tensor
    """int64 (B, U) unit ids; only the first target_lengths[b] of row b count."""
    target_lengths: Tensor
    """int64 (B,) units."""
    time_mask: Tensor | None
    """bool (B, T): SpecAugment's frames; None without."""
    feature_mask: Tensor | None
    """bool (B, H): SpecAugment's channels; None without."""
    positions: tuple[int, ...]
    """Of the utterances, in the list of examples."""
    ids: tuple[str, ...]
    num_samples: int
    """Real, unpadded samples."""
    is_padded: bool
    """Whether any utterance is shorter than S."""
    failures: dict[str, str] = field(default_factory=dict)
    """Ids of utterances whose audio could not be decoded (silence stands in for it), and what happened."""

    def to(self, device: torch.device) -> Batch:
        """The batch on `device`; copies do not wait when the batch is pinned."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Called by the DataLoader."""
        return self._map(Tensor.pin_memory)

    def _map(self, move: Callable[[Tensor], Tensor]) -> Batch:
        moved: dict[str, Any] = {k: move(v) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return dataclasses.replace(self, **moved)

    @property
    def num_seconds(self) -> float:
        """Real audio in seconds."""
        return self.num_samples / SAMPLE_RATE

    @property
    def num_padded_seconds(self) -> float:
        """Audio in seconds, padding included."""
        return self.waveforms.numel() / SAMPLE_RATE


@dataclass(frozen=True)
class Frontend:
    """What collating must know of the encoder."""

    num_frames: Callable[[int], int]
    """Frames for a number of samples."""
    do_normalize: bool = True
    """Zero mean, unit variance per utterance."""
    specaugment: SpecAugment | None = None


class BatchDataset(Dataset):
    """Batches by (epoch, positions). In training, masks and speeds follow from (seed, epoch, id)."""

    def __init__(self, examples: Sequence[Example], frontend: Frontend, plan: BatchPlan | None = None) -> None:
        self.examples, self.frontend, self.plan = examples, frontend, plan

    def __getitem__(self, key: tuple[int, Sequence[int]]) -> Batch:
        epoch, positions = key
        examples = [self.examples[i] for i in positions]
        failures: dict[str, str] = {}
        waveforms = [self._waveform(epoch, i, failures) for i in positions]
        frames = [self.frontend.num_frames(len(w)) for w in waveforms]
        time_mask = feature_mask = None
        spec = self.frontend.specaugment
        if spec is not None and self.plan is not None:
            keys = [(self.plan.seed, epoch, e.utterance.id) for e in examples]
            if spec.time_prob > 0:
                time_mask = _pad([spec.time_mask(n, *k) for n, k in zip(frames, keys, strict=True)], np.bool_)
            if spec.feature_prob > 0:
                feature_mask = _pad([spec.feature_mask(*k) for k in keys], np.bool_)
        lengths = [len(w) for w in waveforms]
        return Batch(
            waveforms=_pad(waveforms, np.float32),
            waveform_lengths=torch.tensor(lengths),
            frame_lengths=torch.tensor(frames),
            targets=_pad([np.array(e.targets, np.int64) for e in examples], np.int64),
            target_lengths=torch.tensor([len(e.targets) for e in examples]),
            time_mask=time_mask,
            feature_mask=feature_mask,
            positions=tuple(positions),
            ids=tuple(e.utterance.id for e in examples),
            num_samples=sum(lengths),
            is_padded=min(lengths) < max(lengths),
            failures=failures,
        )

    def _waveform(self, epoch: int, i: int, failures: dict[str, str]) -> np.ndarray:
        try:
            waveform = self.examples[i].load()
        except AudioError as error:  # for the process that trains or scores to judge, not for a worker
            failures[self.examples[i].utterance.id] = str(error)
            return np.zeros(self.examples[i].num_samples, np.float32)
        if self.plan is not None:
            waveform = change_speed(waveform, self.plan.speed(epoch, i))
        return normalize(waveform) if self.frontend.do_normalize else waveform


def _pad(rows: Sequence[np.ndarray], dtype: type) -> Tensor:
    """(B, longest) with each row's start filled, zeros behind."""
    padded: np.ndarray = np.zeros((len(rows), max(map(len, rows))), dtype)
    for padded_row, row in zip(padded, rows, strict=True):
        padded_row[: len(row)] = row
    return torch.from_numpy(padded)


class _Requests:
    """What the loader asks the data set for, in order: one (epoch, positions) a batch."""

    def __init__(self, requests: Callable[[], Iterator[tuple[int, Sequence[int]]]]) -> None:
        self.requests = requests

    def __iter__(self) -> Iterator[tuple[int, Sequence[int]]]:
        return self.requests()


def load_batches(
    dataset: BatchDataset,
    requests: Callable[[], Iterator[tuple[int, Sequence[int]]]],
    *,
    num_workers: int,
    pin_memory: bool,
) -> DataLoader:
    """A DataLoader over the requested batches, each made whole by one worker (so no further collating)."""
    return DataLoader(
        dataset,
        sampler=_Requests(requests),
        batch_size=None,
        num_workers=num_workers,
        pin_memory=pin_memory,
        multiprocessing_context="fork" if num_workers else None,
    )


class TrainLoader:
    """Optimizer steps as lists of batches, from any point of the plan to its end; workers outlive epochs."""

    def __init__(self, dataset: BatchDataset, plan: BatchPlan, *, num_workers: int, pin_memory: bool) -> None:
        self.dataset, self.plan = dataset, plan
        self.num_workers, self.pin_memory = num_workers, pin_memory

    def steps(self, epoch: int, batches_done: int) -> Iterator[tuple[int, list[Batch], bool]]:
        """(epoch, batches of a step, whether they end the epoch), going on after `batches_done` of `epoch`."""

        def requests() -> Iterator[tuple[int, Sequence[int]]]:
            for e, step, _ in self.plan.remaining(epoch, batches_done):
                yield from ((e, batch) for batch in step)

        loader = load_batches(self.dataset, requests, num_workers=self.num_workers, pin_memory=self.pin_memory)
        batches = iter(loader)
        for e, step, ends_epoch in self.plan.remaining(epoch, batches_done):
            loaded = [next(batches) for _ in step]
            if failures := {k: v for batch in loaded for k, v in batch.failures.items()}:
                what = "; ".join(f"utterance {k}: {v}" for k, v in failures.items())
                # Only decoding on the fly comes here: a store knows before the first step
                raise AudioError(
                    f"{what} Mend the corpus; without --corpus.no-store, --corpus.on-bad drop leaves them out."
                )
            yield e, loaded, ends_epoch
