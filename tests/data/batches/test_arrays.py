"""data.batches.arrays: batches as arrays behave as lists of lists, and are cut as a loop over the order cuts them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import pytest

from data.batches.arrays import Batches, cut_batches, cut_equals

LISTS = [[4, 2], [7], [0, 1, 3, 5], [6]]


def cut_by_loop(
    order: Sequence[int], lengths: Sequence[int], batch_size: int | None, max_samples: float
) -> list[list[int]]:
    """The definition: an utterance opens a batch where the last one is full, or would be padded to too many samples."""
    batches: list[list[int]] = []
    for i in order:
        batch = [*batches[-1], i] if batches else [i]
        if not batches or len(batch) - 1 == batch_size or max(lengths[k] for k in batch) * len(batch) > max_samples:
            batches.append([i])
        else:
            batches[-1] = batch
    return batches


def test_batches_behave_as_the_lists_that_they_were_made_of() -> None:
    batches = Batches.of(LISTS)
    assert batches == LISTS
    assert batches == LISTS
    assert batches == Batches.of(LISTS)
    assert batches != LISTS[:-1]
    assert batches != Batches.of([[4, 2], [7, 0], [1, 3, 5], [6]])
    assert list(batches) == LISTS
    assert (len(batches), batches[2], batches[-1], repr(batches)) == (4, LISTS[2], LISTS[-1], repr(LISTS))
    assert batches[1:3] == LISTS[1:3]
    assert batches[::-1] == LISTS[::-1]
    assert batches.taken(np.array([3, 0])) == [LISTS[3], LISTS[0]]
    assert {type(i) for batch in batches for i in batch} == {int}
    with pytest.raises(IndexError):
        batches[4]
    assert Batches.of([]) == []
    assert Batches.of(batches) is batches


def test_sizes_and_longest_are_those_of_the_lists() -> None:
    lengths = [5, 9, 1, 4, 4, 30, 2, 8]
    batches = Batches.of(LISTS)
    assert batches.sizes.tolist() == [len(b) for b in LISTS]
    assert batches.longest(lengths).tolist() == [max(lengths[i] for i in b) for b in LISTS]
    assert Batches.of([]).longest(lengths).tolist() == []


@pytest.mark.parametrize("kind", ["list", np.int32, np.int64])
def test_batches_are_cut_as_one_utterance_after_the_other_cuts_them(kind: str | type) -> None:
    """Reference: cut_by_loop, over random lengths and limits, sorted or not."""
    rng = random.Random(0)
    for _ in range(300):
        lengths = [rng.randint(0, rng.choice([3, 50, 400_000])) for _ in range(rng.randint(0, 80))]
        order = rng.sample(range(len(lengths)), len(lengths))
        if rng.random() < 0.5:
            order.sort(key=lengths.__getitem__)
        size, limit = rng.choice([None, 1, 3, 8]), rng.choice([1, 60.5, 150, 400_000 * 7.3, math.inf])
        given = lengths if kind == "list" else np.array(lengths, dtype=kind)
        assert cut_batches(order, given, size, limit) == cut_by_loop(order, lengths, size, limit)


def test_without_a_limit_of_samples_batches_are_of_one_size() -> None:
    assert cut_batches([3, 1, 2, 0, 4], [1] * 5, 2, None) == [[3, 1], [2, 0], [4]]
    assert cut_batches([1, 0], [1, 1], 2, None) == [[1, 0]]
    assert cut_batches([], [], 2, None) == []


def test_batches_of_equal_lengths_are_cut_as_each_length_alone() -> None:
    """Reference: cut_by_loop over the utterances of each length."""
    rng = random.Random(1)
    for _ in range(200):
        lengths = [rng.choice([0, 7, 8, 400, 401]) for _ in range(rng.randint(0, 60))]
        order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
        size, limit = rng.choice([1, 3, 8]), rng.choice([5, 22.0, 1200.5, math.inf])
        expected = []
        for length in sorted(set(lengths), reverse=True):
            expected += cut_by_loop([i for i in order if lengths[i] == length], lengths, size, limit)
        assert cut_equals(order, lengths, size, limit) == expected
