"""What a rank loads of each batch, and what it knows of the rest.

pytest tests/data/batches/test_shares.py
"""

from __future__ import annotations

import pytest
import torch

from data.batches.collate import Batch, BatchDataset, Frontend, Whole
from data.batches.loading import TrainLoader
from data.batches.plan import BatchPlan
from data.batches.shares import ALL, Shares
from data.config import BatchingConfig
from tests.helpers.steps import NUM_FRAMES, make_example

EXAMPLES = [make_example(i, 2000 + 1777 * i % 7000) for i in range(13)]
LENGTHS = [e.num_samples for e in EXAMPLES]
PLAN = BatchPlan(LENGTHS, [e.utterance.id for e in EXAMPLES], BatchingConfig(batch_size=5), 7, 2, 2)


def steps_of(shares: Shares) -> list[tuple[int, list[Batch], bool]]:
    dataset = BatchDataset(EXAMPLES, Frontend(NUM_FRAMES), PLAN)
    return list(TrainLoader(dataset, PLAN, num_workers=0, pin_memory=False, shares=shares).steps(0, 0))


@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_shares_of_all_ranks_are_the_batches_of_one_process(size: int) -> None:
    """Every utterance once, with the same samples; the last batch of an epoch, of 3, leaves a fourth rank nothing."""
    one, ranks = steps_of(ALL), [steps_of(Shares(rank, size)) for rank in range(size)]
    assert [(e, len(b), ends) for e, b, ends in one] == [(e, len(b), ends) for e, b, ends in ranks[0]]
    empty = 0
    for k, (_, batches, _) in enumerate(one):
        for m, batch in enumerate(batches):
            of_ranks = [rank[k][1][m] for rank in ranks]
            assert sorted(i for b in of_ranks for i in b.positions) == sorted(batch.positions)
            for share in of_ranks:
                rows = [batch.positions.index(i) for i in share.positions]
                width = share.waveforms.shape[1]
                assert torch.equal(share.waveforms, batch.waveforms[rows, :width])
                assert share.num_utterances == len(batch.ids)
                assert share.num_seconds == batch.num_seconds
            assert sum(b.num_samples for b in of_ranks) == batch.num_samples
            assert sum(b.num_padded_samples for b in of_ranks) == of_ranks[0].whole.num_padded_samples  # type: ignore[union-attr]
            empty += sum(not b.ids for b in of_ranks)
    assert (empty > 0) == (size == 4)


def test_an_encoder_that_sees_padding_gets_that_of_the_whole_batch() -> None:
    for rank in range(2):
        for (_, ours, _), (_, whole, _) in zip(
            steps_of(Shares(rank, 2, pads_to_whole=True)), steps_of(ALL), strict=True
        ):
            for share, batch in zip(ours, whole, strict=True):
                assert share.waveforms.shape[1] == batch.waveforms.shape[1]
                assert share.is_padded == (int(share.frame_lengths.min()) < NUM_FRAMES(batch.waveforms.shape[1]))
                assert share.num_padded_seconds == batch.num_padded_seconds


def test_the_share_that_takes_longest_is_found() -> None:
    shares, batch = Shares(1, 3), PLAN.batches(0)[0]
    costs = shares.costs(PLAN, 0, [batch])
    longest = shares.longest(PLAN, 0, batch)
    assert len(longest.positions) * max(LENGTHS[i] for i in longest.positions) == max(costs)


def test_an_empty_share_has_no_rows_but_knows_the_batch() -> None:
    batch = Batch.empty(Whole(3, 16000, 24000))
    assert (len(batch.ids), batch.waveforms.shape[0]) == (0, 0)
    assert (batch.num_utterances, batch.num_seconds, batch.num_padded_seconds) == (3, 1.0, 1.5)
