"""Examples to a batch of padded tensors. Lengths, targets and masks are made here too, on the CPU.

So our step asks the device for no length and no maximum. The host still waits once for each batch: torch's CUDA kernel
for CTC copies the lengths to the device, and waits for that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data.audio.decode import change_speed, normalize
from data.batches.grid import Grid
from data.batches.plan import BatchPlan
from data.batches.specaugment import SpecAugment
from data.examples.example import Example
from data.examples.table import waits_for_network
from data.utterance import SAMPLE_RATE
from trainer.errors import AudioError

FETCHED_AT_ONCE = 16
"""Utterances that one process asks an object store for at once."""


class Whole(NamedTuple):
    """What all ranks together have of a batch."""

    num_utterances: int
    num_samples: int
    """Real, unpadded samples."""
    num_padded_samples: int


@dataclass
class Batch:
    """A batch of B rows. S, T and U are the largest numbers of samples, frames and units among them.

    The first rows are utterances. With a grid there may be more rows and more padding than they need: see
    data.batches.grid.
    """

    waveforms: Tensor
    """float32 (B, S), zero after each utterance's end; (B, 0) if feature_rows stand in for them."""
    waveform_lengths: Tensor
    """int64 (B,) samples."""
    frame_lengths: Tensor
    """int64 (B,) encoder frames; 1 in a row without an utterance."""
    targets: Tensor
    """int64 (B, U) unit ids; only the first target_lengths[b] of row b count."""
    target_lengths: Tensor
    """int64 (B,) units."""
    time_mask: Tensor | None
    """bool (B, T): the frames that SpecAugment masks; None without SpecAugment."""
    feature_mask: Tensor | None
    """bool (B, H): the channels that SpecAugment masks; None without SpecAugment."""
    positions: tuple[int, ...]
    """Positions of the utterances in the list of examples."""
    ids: tuple[str, ...]
    num_samples: int
    """Real, unpadded samples."""
    num_padded_samples: int
    """Samples of all rows, padding included."""
    is_padded: bool
    """Whether any row has fewer than T frames, or may have in another batch of the same shape."""
    feature_rows: Tensor | None = None
    """int64 (B, T): row numbers in a table of features that was computed beforehand; 0 after an utterance's end."""
    features: Tensor | None = None
    """float32 (B, T, C): those rows, if the table lies on the host and a GPU trains."""
    failures: dict[str, str] = field(default_factory=dict)
    """Id -> what happened, for utterances whose audio could not be decoded. Silence stands in for it."""
    whole: Whole | None = None
    """The batch that this is a rank's share of; None if it is nobody's share."""

    @staticmethod
    def empty(whole: Whole) -> Batch:
        """The share of a rank for which nothing of `whole` is left: no rows."""
        none = torch.zeros(0, dtype=torch.int64)
        return Batch(
            waveforms=torch.zeros(0, 0), waveform_lengths=none, frame_lengths=none, targets=none.view(0, 0),
            target_lengths=none, time_mask=None, feature_mask=None, positions=(), ids=(), num_samples=0,
            num_padded_samples=0, is_padded=False, whole=whole,
        )  # fmt: skip

    def to(self, device: torch.device) -> Batch:
        """The batch on `device`. If the batch is pinned, the host does not wait for the copies."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The batch in pinned memory. The DataLoader calls this."""
        return self._map(Tensor.pin_memory)

    def _map(self, move: Callable[[Tensor], Tensor]) -> Batch:
        moved: dict[str, Any] = {k: move(v) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return dataclasses.replace(self, **moved)

    def halves(self, num_frames: Callable[[int], int]) -> list[Batch]:
        """Two batches of half the utterances each, each padded to its own longest utterance only."""
        middle = (len(self.ids) + 1) // 2
        return [self._rows(slice(0, middle), num_frames), self._rows(slice(middle, len(self.ids)), num_frames)]

    def _rows(self, rows: slice, num_frames: Callable[[int], int]) -> Batch:
        lengths, frames, units = self.waveform_lengths[rows], self.frame_lengths[rows], self.target_lengths[rows]
        longest = int(lengths.max())
        return dataclasses.replace(
            self,
            waveforms=self.waveforms[rows, :longest],
            waveform_lengths=lengths,
            frame_lengths=frames,
            targets=self.targets[rows, : int(units.max())],
            target_lengths=units,
            time_mask=None if self.time_mask is None else self.time_mask[rows, : num_frames(longest)],
            feature_mask=None if self.feature_mask is None else self.feature_mask[rows],
            positions=self.positions[rows],
            ids=self.ids[rows],
            num_samples=int(lengths.sum()),
            num_padded_samples=longest * len(lengths),
            is_padded=bool((frames < frames.max()).any()),
            feature_rows=None if self.feature_rows is None else self.feature_rows[rows, : num_frames(longest)],
            features=None if self.features is None else self.features[rows, : num_frames(longest)],
        )

    @property
    def num_utterances(self) -> int:
        """Of the whole batch, if this is a rank's share."""
        return len(self.ids) if self.whole is None else self.whole.num_utterances

    @property
    def num_seconds(self) -> float:
        """Real audio in seconds, of the whole batch."""
        return (self.num_samples if self.whole is None else self.whole.num_samples) / SAMPLE_RATE

    @property
    def num_padded_seconds(self) -> float:
        """Audio in seconds, padding included, of the whole batch."""
        return (self.num_padded_samples if self.whole is None else self.whole.num_padded_samples) / SAMPLE_RATE


Request = tuple[int, Sequence[int]] | tuple[int, Sequence[int], int]
"""(Epoch, positions of a batch's utterances), and the samples that it has at least."""


@dataclass(frozen=True)
class Frontend:
    """What collating needs to know about the encoder."""

    num_frames: Callable[[int], int]
    """Number of frames for a number of samples."""
    do_normalize: bool = True
    """Whether each utterance gets zero mean and unit variance."""
    specaugment: SpecAugment | None = None
    first_rows: Sequence[int] | None = None
    """Row of each utterance's first frame in a table of features, if there is one; then no audio is loaded."""
    host_rows: Tensor | None = None
    """The rows of that table, if whoever makes a batch has to gather them."""
    grid: Grid | None = None
    """The shapes that batches are padded to; None: each is as large as its utterances."""


class BatchDataset(Dataset):
    """A data set of batches, by (epoch, positions). In training, masks and speeds follow from (seed, epoch, id).

    With a third number, waveforms are padded to so many samples at least.
    """

    def __init__(self, examples: Sequence[Example], frontend: Frontend, plan: BatchPlan | None = None) -> None:
        self.examples, self.frontend, self.plan = examples, frontend, plan

    def __getitem__(self, key: Request) -> Batch:
        epoch, positions, *at_least = key
        examples = [self.examples[i] for i in positions]
        failures: dict[str, str] = {}
        first_rows, feature_rows = self.frontend.first_rows, None
        if first_rows is None:
            waveforms = self._load(positions, lambda i: self._waveform(epoch, i, failures))
            lengths = [len(w) for w in waveforms]
        else:
            waveforms = [np.zeros(0, np.float32)] * len(examples)
            lengths = [e.num_samples for e in examples]
        frames = [self.frontend.num_frames(n) for n in lengths]
        grid = self.frontend.grid
        rows, num_samples = len(examples), max([*lengths, *at_least])
        width = self.frontend.num_frames(num_samples)
        if grid is not None:
            rows, width = grid.shape(lengths)
            num_samples = grid.num_samples(width)
        if first_rows is not None:
            feature_rows = _pad(
                [first_rows[i] + np.arange(n) for i, n in zip(positions, frames, strict=True)], np.int64, rows, width
            )
        time_mask = feature_mask = None
        spec = self.frontend.specaugment
        if spec is not None and self.plan is not None:
            keys = [(self.plan.seed, epoch, e.utterance.id) for e in examples]
            if spec.time_prob > 0:
                masks = [spec.time_mask(n, *k) for n, k in zip(frames, keys, strict=True)]
                time_mask = _pad(masks, np.bool_, rows, width)
            if spec.feature_prob > 0:
                feature_mask = _pad([spec.feature_mask(*k) for k in keys], np.bool_, rows, spec.hidden_size)
        added = rows - len(examples)
        num_units = [len(e.targets) for e in examples]
        return Batch(
            waveforms=_pad(waveforms, np.float32, rows, num_samples if first_rows is None else 0),
            waveform_lengths=torch.tensor([*lengths, *[0] * added]),
            frame_lengths=torch.tensor([*frames, *[1] * added]),
            targets=_pad([np.array(e.targets, np.int64) for e in examples], np.int64, rows, max(num_units)),
            target_lengths=torch.tensor([*num_units, *[0] * added]),
            time_mask=time_mask,
            feature_mask=feature_mask,
            positions=tuple(positions),
            ids=tuple(e.utterance.id for e in examples),
            num_samples=sum(lengths),
            num_padded_samples=rows * num_samples,
            is_padded=grid is not None or min(frames) < width,
            feature_rows=feature_rows,
            features=None if self.frontend.host_rows is None else self.frontend.host_rows[feature_rows],
            failures=failures,
        )

    def _load(self, positions: Sequence[int], load: Callable[[int], np.ndarray]) -> list[np.ndarray]:
        """The waveform of each position; from a store behind a network several are asked for at once."""
        if not waits_for_network(self.examples):
            return [load(i) for i in positions]
        with ThreadPoolExecutor(min(len(positions), FETCHED_AT_ONCE)) as pool:
            return list(pool.map(load, positions))

    def _waveform(self, epoch: int, i: int, failures: dict[str, str]) -> np.ndarray:
        try:
            waveform = self.examples[i].load()
        except AudioError as error:  # the process that trains or scores decides what happens, not a worker
            failures[self.examples[i].utterance.id] = str(error)
            return np.zeros(self.examples[i].num_samples, np.float32)
        if self.plan is not None:
            waveform = change_speed(waveform, self.plan.speed(epoch, i))
        return normalize(waveform) if self.frontend.do_normalize else waveform


def _pad(rows: Sequence[np.ndarray], dtype: type, num_rows: int, width: int) -> Tensor:
    """(num_rows, width): each row, with zeros behind its end; rows of zeros behind the last one."""
    padded: np.ndarray = np.zeros((num_rows, width), dtype)
    for padded_row, row in zip(padded, rows, strict=False):
        padded_row[: len(row)] = row
    return torch.from_numpy(padded)
