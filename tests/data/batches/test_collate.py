"""data.batches.collate: what a batch holds, and that neighbours, workers and resumption change none of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from data.batches.collate import Batch, BatchDataset, Frontend
from data.batches.loading import TrainLoader, load_batches
from data.examples.prepare import Example
from tests.helpers.batches import EXAMPLES, NUM_FRAMES, SPEC, assert_equal, example, plan_of, training_set
from trainer.errors import AudioError

# One batch


def test_batch_holds_each_utterance_and_zeros_behind_it():
    """Reference: load() of each example, bit for bit."""
    positions = (3, 11, 5)
    batch = BatchDataset(EXAMPLES, Frontend(NUM_FRAMES, do_normalize=False))[0, positions]
    lengths = [EXAMPLES[i].num_samples for i in positions]
    assert batch.waveforms.shape == (3, max(lengths))
    assert batch.waveform_lengths.tolist() == lengths
    assert batch.frame_lengths.tolist() == [NUM_FRAMES(n) for n in lengths]
    for row, i in enumerate(positions):
        waveform, targets = EXAMPLES[i].load(), EXAMPLES[i].targets
        np.testing.assert_array_equal(batch.waveforms[row, : lengths[row]], waveform)
        assert not batch.waveforms[row, lengths[row] :].any()
        assert batch.target_lengths[row] == len(targets)
        assert batch.targets[row, : len(targets)].tolist() == list(targets)
    assert (batch.positions, batch.ids) == (positions, ("u3", "u11", "u5"))
    assert batch.num_samples == sum(lengths)
    assert batch.num_seconds == sum(lengths) / 16_000
    assert batch.num_padded_seconds == 3 * max(lengths) / 16_000
    assert batch.time_mask is batch.feature_mask is None


def test_tensors_have_the_types_that_the_loss_wants():
    batch = training_set()[0, (0, 1)]
    assert batch.waveforms.dtype == torch.float32
    for lengths in (batch.waveform_lengths, batch.frame_lengths, batch.targets, batch.target_lengths):
        assert lengths.dtype == torch.int64
    assert batch.time_mask.dtype == batch.feature_mask.dtype == torch.bool


def test_normalised_batch_equals_the_feature_extractors():
    """Reference: transformers' Wav2Vec2FeatureExtractor with padding; float32, so 1e-5 of unit variance."""
    from transformers import Wav2Vec2FeatureExtractor

    extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    positions = (0, 1, 2, 3)
    raw = [EXAMPLES[i].load() for i in positions]
    expected = extractor(raw, sampling_rate=16_000, padding=True, return_tensors="np")
    batch = BatchDataset(EXAMPLES, Frontend(NUM_FRAMES))[0, positions]
    np.testing.assert_allclose(batch.waveforms, expected.input_values, atol=1e-5)
    assert batch.waveform_lengths.tolist() == expected.attention_mask.sum(1).tolist()


@pytest.mark.parametrize(
    ("lengths", "is_padded"),
    # 5000 and 5001 samples have the same number of frames
    [((5000, 5000), False), ((5000, 5001), False), ((5000, 5400), True), ((5000,), False)],
)
def test_batch_knows_whether_any_frame_is_padding(lengths: tuple[int, ...], is_padded: bool):
    examples = [example(i, n) for i, n in enumerate(lengths)]
    assert BatchDataset(examples, Frontend(NUM_FRAMES))[0, range(len(lengths))].is_padded is is_padded


def test_moving_a_batch_moves_its_tensors_and_keeps_the_rest():
    batch = training_set()[0, (0, 1)]
    moved = batch.to(torch.device("meta"))
    assert all(v.device.type == "meta" for v in vars(moved).values() if isinstance(v, torch.Tensor))
    assert (moved.ids, moved.num_samples, moved.is_padded) == (batch.ids, batch.num_samples, batch.is_padded)
    assert_equal(batch.to(torch.device("cpu")), batch)


# Augmentation


@pytest.mark.parametrize("companions", [(), (12,), (39, 20, 8)])
def test_neighbours_change_nothing_of_an_utterance(companions: tuple[int, ...]):
    """Reference: the utterance in a batch of its own; waveform, frames, masks and targets, bit for bit."""
    data = training_set()
    for i in (0, 7, 31):
        alone, together = data[1, (i,)], data[1, (*companions, i)]
        n, frames = int(alone.waveform_lengths), int(alone.frame_lengths)
        assert (together.waveform_lengths[-1], together.frame_lengths[-1]) == (n, frames)
        assert torch.equal(together.waveforms[-1, :n], alone.waveforms[0])
        assert torch.equal(together.time_mask[-1, :frames], alone.time_mask[0])
        assert torch.equal(together.feature_mask[-1], alone.feature_mask[0])
        assert not together.time_mask[-1, frames:].any(), "padding is not masked"
        assert alone.time_mask.any()
        assert alone.feature_mask.any()


def test_masks_are_as_wide_as_frames_and_channels():
    batch = training_set()[0, (0, 5, 9)]
    assert batch.time_mask.shape == (3, NUM_FRAMES(batch.waveforms.shape[1]))
    assert batch.feature_mask.shape == (3, SPEC.hidden_size)


def test_halves_of_a_batch_are_the_batches_of_their_utterances():
    """As if the plan had made them: masks, widths and lengths included. Reference: collating them by themselves."""
    dataset = training_set()
    positions = sorted(range(40), key=lambda i: -EXAMPLES[i].num_samples)[::8]  # the later half is the shorter
    halves = dataset[1, positions].halves(NUM_FRAMES)
    for half, of in zip(halves, (positions[:3], positions[3:]), strict=True):
        assert_equal(half, dataset[1, of])
    assert halves[1].time_mask.shape[1] < dataset[1, positions].time_mask.shape[1]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_gather_the_features_of_a_table_on_the_host(num_workers: int):
    """Reference: the rows of each utterance one by one. Halves hold their own, and zeros stand behind an end."""
    frames = [NUM_FRAMES(e.num_samples) for e in EXAMPLES]
    first_rows = [1 + sum(frames[:i]) for i in range(len(frames))]
    rows = torch.randn(1 + sum(frames), 6, generator=torch.Generator().manual_seed(0))
    rows[0] = 0
    plan = plan_of(EXAMPLES, speeds=(), epochs=1)
    data = BatchDataset(EXAMPLES, Frontend(NUM_FRAMES, first_rows=first_rows, host_rows=rows), plan)
    loader = TrainLoader(data, plan, num_workers=num_workers, pin_memory=False)
    for _, (batch,), _ in batches_of(loader):
        assert batch.waveforms.numel() == 0
        for part in (batch, *batch.halves(NUM_FRAMES)):
            assert part.features.shape == (len(part.ids), int(part.frame_lengths.max()), 6)
            for i, features in zip(part.positions, part.features, strict=True):
                assert torch.equal(features[: frames[i]], rows[first_rows[i] : first_rows[i] + frames[i]])
                assert not features[frames[i] :].any()


@pytest.mark.parametrize("off", ["time", "feature"])
def test_mask_with_probability_zero_is_absent(off: str):
    frontend = Frontend(NUM_FRAMES, True, replace(SPEC, **{f"{off}_prob": 0.0}))
    batch = BatchDataset(EXAMPLES, frontend, plan_of(EXAMPLES))[0, (0, 1)]
    assert getattr(batch, f"{off}_mask") is None
    assert (batch.time_mask is None) + (batch.feature_mask is None) == 1


def test_epochs_change_masks_and_speeds():
    data = training_set()
    positions = tuple(range(12))
    one, two = data[0, positions], data[1, positions]
    assert one.waveform_lengths.tolist() != two.waveform_lengths.tolist()
    assert (one.feature_mask != two.feature_mask).any()


def test_evaluation_has_neither_masks_nor_speeds():
    batch = BatchDataset(EXAMPLES, Frontend(NUM_FRAMES, True, SPEC))[0, (0, 1)]
    assert batch.time_mask is batch.feature_mask is None
    assert batch.waveform_lengths.tolist() == [EXAMPLES[0].num_samples, EXAMPLES[1].num_samples]


def test_lengths_of_speed_perturbed_batches_are_those_that_were_planned():
    data = training_set()
    for epoch in range(2):
        planned = data.plan.epoch_lengths(epoch)
        assert planned.tolist() != data.plan.lengths
        for positions in data.plan.batches(epoch):
            assert data[epoch, positions].waveform_lengths.tolist() == [planned[i] for i in positions]


# The loader


def batches_of(loader: TrainLoader, epoch: int = 0, done: int = 0) -> list[tuple[int, list[Batch], bool]]:
    return list(loader.steps(epoch, done))


def assert_same_steps(a: list, b: list) -> None:
    assert [(epoch, len(step), ends) for epoch, step, ends in a] == [(e, len(step), ends) for e, step, ends in b]
    for (_, one, _), (_, two, _) in zip(a, b, strict=True):
        for x, y in zip(one, two, strict=True):
            assert_equal(x, y)


@pytest.mark.parametrize("grad_accum_steps", [1, 3])
def test_loader_yields_the_plans_batches_step_by_step(grad_accum_steps: int):
    """Reference: the plan, and the data set asked directly."""
    data = training_set(grad_accum_steps=grad_accum_steps)
    loader = TrainLoader(data, data.plan, num_workers=0, pin_memory=False)
    expected = [(e, [data[e, p] for p in step], ends) for e, step, ends in data.plan.remaining(0, 0)]
    assert_same_steps(batches_of(loader), expected)


def test_workers_change_nothing():
    """Reference: the same loader without workers; masks and speeds on, two epochs, every tensor bit for bit."""
    data = training_set(grad_accum_steps=2)
    alone = TrainLoader(data, data.plan, num_workers=0, pin_memory=False)
    helped = TrainLoader(data, data.plan, num_workers=2, pin_memory=False)
    assert_same_steps(batches_of(helped), batches_of(alone))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resumed_loader_yields_the_tail(num_workers: int):
    """Reference: the whole plan from its start."""
    data = training_set(grad_accum_steps=2)
    loader = TrainLoader(data, data.plan, num_workers=num_workers, pin_memory=False)
    whole = batches_of(loader)
    assert_same_steps(batches_of(loader, 0, 4), whole[2:])
    assert_same_steps(batches_of(loader, 1, 0), [step for step in whole if step[0] == 1])


def failing(examples: Sequence[Example], *bad: int) -> list[Example]:
    def fail() -> np.ndarray:
        raise AudioError("x.flac: decoding failed (cut).")

    return [replace(e, load=fail) if i in bad else e for i, e in enumerate(examples)]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_audio_that_fails_in_training_is_an_error_that_names_the_utterance(num_workers: int):
    data = training_set(failing(EXAMPLES, 5))
    loader = TrainLoader(data, data.plan, num_workers=num_workers, pin_memory=False)
    with pytest.raises(AudioError, match=r"^utterance u5: x\.flac: decoding failed \(cut\)\..*--corpus\.on-bad drop"):
        batches_of(loader)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_audio_that_fails_in_evaluation_is_silence_and_reported(num_workers: int):
    data = BatchDataset(failing(EXAMPLES, 1), Frontend(NUM_FRAMES))
    requests: Callable = lambda: iter([(0, (0, 1)), (0, (2,))])  # noqa: E731
    first, second = load_batches(data, requests, num_workers=num_workers, pin_memory=False)
    assert first.failures == {"u1": "x.flac: decoding failed (cut)."}
    assert not first.waveforms[1].any()
    assert first.waveform_lengths[1] == EXAMPLES[1].num_samples
    assert first.waveforms[0].any()
    assert second.failures == {}
