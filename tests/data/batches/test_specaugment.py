"""data.batches.specaugment against the statistics of transformers' _compute_mask_indices."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from data.batches.specaugment import SpecAugment, span_mask

SPEC = SpecAugment(
    hidden_size=144, time_prob=0.065, time_length=10, time_min_masks=2,
    feature_prob=0.1, feature_length=12, feature_min_masks=1,
)  # fmt: skip

CASES = {
    "reference run, 3 s": (150, 0.05, 10, 2),
    "reference run, 1 s": (49, 0.05, 10, 2),
    "fraction rounded at random": (130, 0.065, 10, 0),
    "minimum rules": (100, 0.01, 5, 4),
    "no room for the minimum": (25, 0.05, 10, 6),
    "crowded": (60, 0.9, 10, 0),
    "channels": (144, 0.1, 12, 0),
    "as long as a span": (10, 0.5, 10, 2),
    "a span and one": (11, 0.5, 10, 2),
}


@pytest.mark.parametrize(("length", "prob", "span", "min_spans"), CASES.values(), ids=CASES)
def test_masked_share_at_each_position_is_that_of_transformers(length: int, prob: float, span: int, min_spans: int):
    """Reference: transformers' _compute_mask_indices, 1500 draws each; per position the shares differ by less than 5
    standard deviations of a difference of two binomials (0.092), their means over positions by less than 0.02."""
    from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices

    draws, rng = 1500, random.Random(0)
    np.random.seed(0)  # transformers draws from the global generator
    theirs = sum(_compute_mask_indices((1, length), prob, span, min_masks=min_spans)[0] for _ in range(draws)) / draws
    ours = sum(span_mask(length, prob, span, min_spans, rng) for _ in range(draws)) / draws
    assert np.abs(ours - theirs).max() < 5 * np.sqrt(2 * 0.25 / draws)
    assert abs(ours.mean() - theirs.mean()) < 0.02
    assert theirs.mean() > 0, "a case in which nothing is masked shows nothing"


@pytest.mark.parametrize(("length", "prob", "span", "min_spans"), CASES.values(), ids=CASES)
def test_every_masked_run_is_at_least_a_span_long(length: int, prob: float, span: int, min_spans: int):
    rng = random.Random(1)
    for _ in range(200):
        mask = span_mask(length, prob, span, min_spans, rng)
        assert mask.shape == (length,)
        assert mask.dtype == np.bool_
        runs = [len(list(run)) for masked, run in itertools.groupby(mask) if masked]
        assert all(run >= span for run in runs)


@pytest.mark.parametrize("length", [0, 1, 9])
def test_utterance_shorter_than_a_span_is_not_masked(length: int):
    assert not span_mask(length, 0.5, 10, 2, random.Random(0)).any()


def test_probability_zero_masks_nothing_whatever_the_minimum():
    assert not span_mask(200, 0.0, 10, 5, random.Random(0)).any()


def test_minimum_of_masks_is_kept_where_there_is_room():
    """Two distinct starts mask at least 11 frames of 10-frame spans."""
    for seed in range(100):
        assert span_mask(100, 0.001, 10, 2, random.Random(seed)).sum() >= 11


@pytest.mark.parametrize("key", [(1, 0, "a"), (0, 1, "a"), (0, 0, "b")], ids=["seed", "epoch", "id"])
def test_masks_follow_from_seed_epoch_and_id(key: tuple):
    first = (0, 0, "a")
    np.testing.assert_array_equal(SPEC.time_mask(300, *first), SPEC.time_mask(300, *first))
    np.testing.assert_array_equal(SPEC.feature_mask(*first), SPEC.feature_mask(*first))
    assert (SPEC.time_mask(300, *first) != SPEC.time_mask(300, *key)).any()
    assert (SPEC.feature_mask(*first) != SPEC.feature_mask(*key)).any()


def test_global_random_state_is_neither_read_nor_moved():
    random.seed(5)
    state = random.getstate()
    one = SPEC.time_mask(200, 0, 0, "a")
    assert random.getstate() == state
    random.seed(6)
    np.testing.assert_array_equal(SPEC.time_mask(200, 0, 0, "a"), one)


def test_masks_have_the_shape_of_frames_and_of_channels():
    assert SPEC.time_mask(77, 0, 0, "a").shape == (77,)
    assert SPEC.feature_mask(0, 0, "a").shape == (144,)
