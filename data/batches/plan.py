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

from data.batches.arrays import Batches, cut_batches, cut_equals
from data.batches.grid import Grid
from data.config import BatchingConfig
from data.randomness import derive_seed, derive_seeds
from data.utterance import SAMPLE_RATE

MIXING = 1.0
"""How far mixing may move an utterance from its place in the order of lengths, in batches. At 1, batches differ from
epoch to epoch and padding stays small."""

EPOCHS_KEPT = 2
"""Epochs whose plan is kept: that being trained, and the one that a loader has gone on to."""

DRAWS_AT_ONCE = 2**20


def by_length(lengths: np.ndarray) -> np.ndarray:
    """Positions from short to long, equal lengths in the order of the corpus."""
    if len(lengths) < 2**31 and int(lengths.max(initial=0)) < 2**31:  # sorting numbers is five times as fast
        key = lengths.astype(np.int64) << 32
        key += np.arange(len(lengths))
        key.sort()
        return key.astype(np.int32)  # keeps the lower half
    return np.argsort(lengths, kind="stable")


def mixed_with_neighbours(width: float, draws: np.ndarray) -> np.ndarray:
    """The places 0, 1, 2, ..., each moved up by at most `width`, by its draw from [0, 1)."""
    place = width * draws
    place += np.arange(len(draws))
    return np.argsort(place, kind="stable")


def mixed_with_equals(ordered: np.ndarray, width: float, draws: np.ndarray) -> np.ndarray:
    """The places of `ordered`, lengths from short to long, those of equal length in any order. Where fewer than
    2 * `width` are equal, they are mixed with their neighbours instead, or the same few would meet in every epoch."""
    first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    equals = np.diff(first, append=len(ordered))
    are_many = equals >= 2 * width
    place = np.repeat(np.where(are_many, equals, width), equals) * draws
    place += np.where(np.repeat(are_many, equals), np.repeat(first, equals), np.arange(len(ordered)))
    return np.argsort(place, kind="stable")


def uniform_draws(rng: random.Random, number: int) -> np.ndarray:
    """float64 (number,) from [0, 1), from 64 bits each. In parts, since `rng` gives at most 2^31 bits at once."""
    draws = np.empty(number)
    for start in range(0, number, DRAWS_AT_ONCE):
        part = draws[start : start + DRAWS_AT_ONCE]
        part[:] = np.frombuffer(rng.randbytes(8 * len(part)), dtype="<u8") / 2.0**64
    return draws


def speed_lengths(lengths: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """data.audio.decode.speed_length of each length at its own factor."""
    faster = np.maximum(1, np.rint(lengths / factors)).astype(lengths.dtype)
    return np.where(factors == 1.0, lengths, faster)


class _Epoch(NamedTuple):
    """What is planned for one epoch."""

    lengths: np.ndarray
    batches: Batches


class _Sorted(NamedTuple):
    """Utterances from short to long."""

    positions: np.ndarray
    padded: np.ndarray
    """Their lengths in samples, rounded up to the grid of shapes if there is one."""


@dataclass(frozen=True, eq=False)
class BatchPlan:
    """The batches of every epoch. Each epoch has every utterance once.

    Lengths and ids may lie on the disk, as a memory-mapped array and a column of a table: the plan copies no ids,
    and lengths only if they are not int64.
    """

    lengths: Sequence[int] | np.ndarray
    """Samples of each utterance at 16 kHz."""
    ids: Sequence[str]
    """They are read for `speeds` alone, once an epoch."""
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

    def epoch_lengths(self, epoch: int) -> np.ndarray:
        """int64: samples of each utterance after speed perturbation. Not to be changed."""
        return self._epoch(epoch).lengths

    def batches(self, epoch: int) -> Batches:
        """Positions in `lengths`, batch by batch, in training order."""
        return self._epoch(epoch).batches

    def _epoch(self, epoch: int) -> _Epoch:
        """What is planned for `epoch`. The last few epochs are kept, since many ask for the one that is trained."""
        planned = self._planned.pop(epoch, None)
        if planned is None:
            rng, lengths = self._rng(epoch), self._draw_lengths(epoch)
            batches = self._cut(lengths, rng)
            order = list(range(len(batches)))
            rng.shuffle(order)
            planned = _Epoch(lengths, batches.taken(np.array(order, dtype=np.int64)))
        self._planned[epoch] = planned  # the last in the order of use
        while len(self._planned) > EPOCHS_KEPT:
            del self._planned[next(iter(self._planned))]
        return planned

    @functools.cached_property
    def _planned(self) -> dict[int, _Epoch]:
        return {}

    def _rng(self, epoch: int) -> random.Random:
        return random.Random(derive_seed(self.seed, "order", epoch))

    @functools.cached_property
    def _lengths(self) -> np.ndarray:
        return np.asarray(self.lengths, dtype=np.int64)  # in narrower numbers the samples of a batch could overflow

    def _draw_lengths(self, epoch: int) -> np.ndarray:
        if not self.speeds:
            return self._lengths
        drawn = derive_seeds(self.seed, "speed", epoch, over=self.ids) % np.uint64(len(self.speeds))
        return speed_lengths(self._lengths, np.array(self.speeds)[drawn])

    @functools.cached_property
    def _sorted_unperturbed(self) -> _Sorted:
        return self._sort(self._lengths)

    def _sort(self, lengths: np.ndarray) -> _Sorted:
        padded = lengths if self.grid is None else self.grid.padded_lengths(lengths)
        positions = by_length(padded)
        return _Sorted(positions, padded[positions])

    def _cut(self, lengths: np.ndarray, rng: random.Random) -> Batches:
        """The batches of an epoch, not yet shuffled."""
        batch_size, seconds = self.batching.batch_size, self.batching.max_batch_seconds
        max_samples = None if seconds is None else seconds * SAMPLE_RATE
        mean = int(lengths.sum(dtype=np.int64)) / len(lengths)
        width = MIXING * min(batch_size or math.inf, math.inf if max_samples is None else max_samples / mean)
        draws = uniform_draws(rng, len(lengths))
        positions, padded = self._sort(lengths) if self.speeds else self._sorted_unperturbed
        if self.grid is None:
            order = mixed_with_neighbours(width, draws)
        else:  # what counts is the padded length, and a batch of few utterances costs least where they are short
            order = mixed_with_equals(padded, width, draws)[::-1]
        of_places = cut_batches(order, padded, batch_size, max_samples)
        return Batches(positions[of_places.positions], of_places.cuts)

    def steps(self, epoch: int) -> list[list[list[int]]]:
        """The batches of each optimizer step. The last step of the epoch may have fewer than the others."""
        return [self.step(epoch, i) for i in range(self.num_steps(epoch))]

    def step(self, epoch: int, i: int) -> list[list[int]]:
        """The batches of the optimizer step `i` of `epoch`, counted from 0."""
        batches, first = self.batches(epoch), i * self.grad_accum_steps
        return [batches[k] for k in range(first, min(first + self.grad_accum_steps, len(batches)))]

    def num_steps(self, epoch: int) -> int:
        """Optimizer steps of `epoch`."""
        return -(-len(self.batches(epoch)) // self.grad_accum_steps)

    def total_steps(self, at_most: int | None = None) -> int:
        """Optimizer steps of the whole run, or `at_most` if there are more."""
        return self.steps_left(0, 0, at_most)

    def steps_left(self, epoch: int, batches_done: int, at_most: int | None = None) -> int:
        """Optimizer steps from `batches_done` of `epoch` on, or `at_most` if there are more.

        With a budget in seconds, epochs may differ by a batch. So they are planned one by one, as far as needed.
        """
        if epoch >= self.epochs:
            return 0
        steps = self.num_steps(epoch) - batches_done // self.grad_accum_steps
        if self.batching.max_batch_seconds is None:
            steps += (self.epochs - epoch - 1) * self.num_steps(epoch)
            return steps if at_most is None else min(steps, at_most)
        for later in range(epoch + 1, self.epochs):
            if at_most is not None and steps >= at_most:
                break
            num_batches = len(self._cut(self._draw_lengths(later), self._rng(later)))
            steps += -(-num_batches // self.grad_accum_steps)
        return steps if at_most is None else min(steps, at_most)

    def remaining(self, epoch: int, batches_done: int) -> Iterator[tuple[int, list[list[int]], bool]]:
        """(epoch, batches of a step, whether they end the epoch), from `batches_done` of `epoch` on."""
        for e in range(epoch, self.epochs):
            skipped = batches_done if e == epoch else 0
            assert skipped % self.grad_accum_steps == 0, "not a step's boundary"
            num_steps = self.num_steps(e)
            for i in range(skipped // self.grad_accum_steps, num_steps):
                yield e, self.step(e, i), i == num_steps - 1


def evaluation_batches(
    lengths: Sequence[int] | np.ndarray, *, batch_size: int, max_batch_seconds: float, equal_lengths: bool
) -> Batches:
    """Batches from long to short. The largest comes first, which shows at once whether memory suffices.

    With `equal_lengths`, only utterances of exactly the same length share a batch, for encoders with group norm.
    """
    lengths = np.asarray(lengths, dtype=None if len(lengths) else np.int64)
    order = np.argsort(-lengths, kind="stable")
    cut = cut_equals if equal_lengths else cut_batches
    return cut(order, lengths, batch_size, max_batch_seconds * SAMPLE_RATE)
