"""Length buckets: which utterances make a batch. The answer is a pure function of lengths, seed and epoch.

Utterances are sorted by length and mixed with their neighbours. Then they are cut into batches, which are shuffled. So
there is nearly no padding, batches differ from epoch to epoch, and no epoch goes from long to short.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from data.audio.decode import speed_length
from data.batches.grid import Grid
from data.config import BatchingConfig
from data.randomness import derive_seed
from data.utterance import SAMPLE_RATE

MIXING = 1.0
"""How far mixing may move an utterance from its place in the order of lengths, in batches. At 1, batches differ from
epoch to epoch and padding stays small."""

EPOCHS_KEPT = 2
"""Epochs whose plan is kept: that being trained, and the one that a loader has gone on to."""


def cut_batches(
    order: Sequence[int], lengths: Sequence[int], batch_size: int | None, max_samples: float | None
) -> list[list[int]]:
    """`order` cut into batches of at most `batch_size` utterances and `max_samples` padded samples.

    An utterance that is longer than `max_samples` becomes a batch alone.
    """
    if max_samples is None:
        size = batch_size or max(1, len(order))
        return [list(order[i : i + size]) for i in range(0, len(order), size)]
    batches: list[list[int]] = []
    longest = 0
    for i in order:
        length = lengths[i]
        longest_with = max(longest, length)
        if not batches or len(batches[-1]) == batch_size or longest_with * (len(batches[-1]) + 1) > max_samples:
            batches.append([])
            longest_with = length
        batches[-1].append(i)
        longest = longest_with
    return batches


def mixed_with_neighbours(lengths: Sequence[int], width: float, draws: np.ndarray) -> list[int]:
    """Positions from short to long, each moved up by at most `width` places, by its draw from [0, 1)."""
    by_length = np.argsort(np.asarray(lengths, dtype=np.int64), kind="stable")
    place = np.arange(len(lengths)) + width * draws
    return by_length[np.argsort(place, kind="stable")].tolist()


def mixed_with_equals(lengths: Sequence[int], width: float, draws: np.ndarray) -> list[int]:
    """Positions from short to long, those of equal length in any order. Where fewer than 2 * `width` are equal, they
    are mixed with their neighbours instead, or the same few would meet in every epoch."""
    by_length = np.argsort(np.asarray(lengths, dtype=np.int64), kind="stable")
    ordered = np.asarray(lengths, dtype=np.int64)[by_length]
    first, last = np.searchsorted(ordered, ordered, "left"), np.searchsorted(ordered, ordered, "right")
    among_equals = first + (last - first) * draws
    place = np.where(last - first >= 2 * width, among_equals, np.arange(len(lengths)) + width * draws)
    return by_length[np.argsort(place, kind="stable")].tolist()


class _Epoch(NamedTuple):
    """What is planned for one epoch."""

    lengths: Sequence[int]
    batches: list[list[int]]


@dataclass(frozen=True)
class BatchPlan:
    """The batches of every epoch. Each epoch has every utterance once."""

    lengths: Sequence[int]
    """Samples of each utterance at 16 kHz."""
    ids: Sequence[str]
    batching: BatchingConfig
    seed: int
    epochs: int
    grad_accum_steps: int = 1
    speeds: tuple[float, ...] = ()
    grid: Grid | None = None
    """The shapes that batches are padded to."""

    def speed(self, epoch: int, i: int) -> float:
        """The speed factor of utterance `i` in `epoch`."""
        if not self.speeds:
            return 1.0
        return self.speeds[derive_seed(self.seed, "speed", epoch, self.ids[i]) % len(self.speeds)]

    def epoch_lengths(self, epoch: int) -> Sequence[int]:
        """Samples of each utterance after speed perturbation."""
        return self._epoch(epoch).lengths

    def batches(self, epoch: int) -> list[list[int]]:
        """Positions in `lengths`, batch by batch, in training order. They are the plan's own: not to be changed."""
        return self._epoch(epoch).batches

    def _epoch(self, epoch: int) -> _Epoch:
        """What is planned for `epoch`. The last few epochs are kept, since many ask for the one that is trained."""
        planned = self._planned.pop(epoch, None)
        if planned is None:
            lengths = self._draw_lengths(epoch)
            planned = _Epoch(lengths, self._draw_batches(epoch, lengths))
        self._planned[epoch] = planned  # the last in the order of use
        while len(self._planned) > EPOCHS_KEPT:
            del self._planned[next(iter(self._planned))]
        return planned

    @functools.cached_property
    def _planned(self) -> dict[int, _Epoch]:
        return {}

    def _draw_lengths(self, epoch: int) -> Sequence[int]:
        if not self.speeds:
            return self.lengths
        return [speed_length(n, self.speed(epoch, i)) for i, n in enumerate(self.lengths)]

    def _draw_batches(self, epoch: int, lengths: Sequence[int]) -> list[list[int]]:
        rng = random.Random(derive_seed(self.seed, "order", epoch))
        batch_size, seconds = self.batching.batch_size, self.batching.max_batch_seconds
        max_samples = None if seconds is None else seconds * SAMPLE_RATE
        mean = sum(lengths) / len(lengths)
        width = min(batch_size or math.inf, math.inf if max_samples is None else max_samples / mean)
        draws = np.frombuffer(rng.randbytes(8 * len(lengths)), dtype="<u8") / 2.0**64
        if self.grid is None:
            order = mixed_with_neighbours(lengths, MIXING * width, draws)
        else:  # what counts is the padded length, and a batch of few utterances costs least where they are short
            lengths = [self.grid.num_samples(self.grid.shape([n])[1]) for n in lengths]
            order = mixed_with_equals(lengths, MIXING * width, draws)[::-1]
        batches = cut_batches(order, lengths, batch_size, max_samples)
        rng.shuffle(batches)
        return batches

    def steps(self, epoch: int) -> list[list[list[int]]]:
        """The batches of each optimizer step. The last step of the epoch may have fewer than the others."""
        batches, n = self.batches(epoch), self.grad_accum_steps
        return [batches[i : i + n] for i in range(0, len(batches), n)]

    def num_steps(self, epoch: int) -> int:
        return -(-len(self.batches(epoch)) // self.grad_accum_steps)

    def total_steps(self, at_most: int | None = None) -> int:
        """Optimizer steps of the whole run, or `at_most` if there are more.

        With a budget in seconds, epochs may differ by a batch. So they are planned one by one, as far as needed.
        """
        if self.batching.max_batch_seconds is None:
            steps = self.epochs * self.num_steps(0)
            return steps if at_most is None else min(steps, at_most)
        steps = 0
        for epoch in range(self.epochs):
            steps += self.num_steps(epoch)
            if at_most is not None and steps >= at_most:
                return at_most
        return steps

    def remaining(self, epoch: int, batches_done: int) -> Iterator[tuple[int, list[list[int]], bool]]:
        """(epoch, batches of a step, whether they end the epoch), from `batches_done` of `epoch` on."""
        for e in range(epoch, self.epochs):
            skipped = batches_done if e == epoch else 0
            assert skipped % self.grad_accum_steps == 0, "not a step's boundary"
            steps = self.steps(e)
            for i in range(skipped // self.grad_accum_steps, len(steps)):
                yield e, steps[i], i == len(steps) - 1


def padded_seconds(batches: Sequence[Sequence[int]], lengths: Sequence[int], grid: Grid | None = None) -> list[float]:
    """Seconds of audio in each batch, padding included; `lengths` are in samples."""
    of_batches = ([lengths[i] for i in batch] for batch in batches)
    return [(len(b) * max(b) if grid is None else grid.padded_samples(b)) / SAMPLE_RATE for b in of_batches]


def padding_share(batches: Sequence[Sequence[int]], lengths: Sequence[int], grid: Grid | None = None) -> float:
    """Share of the audio in `batches` that is padding."""
    padded = sum(padded_seconds(batches, lengths, grid))
    return 1 - sum(lengths[i] for batch in batches for i in batch) / SAMPLE_RATE / padded if padded else 0.0


def evaluation_batches(
    lengths: Sequence[int], *, batch_size: int, max_batch_seconds: float, equal_lengths: bool
) -> list[list[int]]:
    """Batches from long to short. The largest comes first, which shows at once whether memory suffices.

    With `equal_lengths`, only utterances of exactly the same length share a batch, for encoders with group norm.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    groups: list[list[int]] = []
    for i in order:
        if not groups or (equal_lengths and lengths[i] != lengths[groups[-1][-1]]):
            groups.append([])
        groups[-1].append(i)
    return [b for g in groups for b in cut_batches(g, lengths, batch_size, max_batch_seconds * SAMPLE_RATE)]
