"""Forty utterances of noise and the batches of them, for the tests of data.batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from data.batches.collate import Batch, BatchDataset, Frontend
from data.batches.plan import BatchPlan
from data.batches.specaugment import SpecAugment
from data.config import BatchingConfig
from data.examples.prepare import Example
from data.utterance import Utterance
from models.geometry import FrameGeometry

NUM_FRAMES = FrameGeometry.of((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)).num_frames
SPEC = SpecAugment(
    hidden_size=64, time_prob=0.2, time_length=5, time_min_masks=2,
    feature_prob=0.2, feature_length=8, feature_min_masks=1,
)  # fmt: skip


def example(i: int, num_samples: int) -> Example:
    noise = np.random.default_rng(i).standard_normal(num_samples).astype(np.float32)
    samples = 0.1 * noise + np.float32(0.02)
    return Example(
        Utterance(f"u{i}", audio=None, text="", origin=f"row {i}"),  # type: ignore[arg-type]
        text="",
        targets=tuple(range(1, 2 + i % 5)),
        num_samples=num_samples,
        load=samples.copy,
    )


EXAMPLES = [example(i, 4000 + 613 * ((7 * i) % 17)) for i in range(40)]


def plan_of(examples: Sequence[Example], **options) -> BatchPlan:
    settings = dict(batching=BatchingConfig(batch_size=4), seed=1, epochs=2, speeds=(0.9, 1.0, 1.1)) | options
    return BatchPlan(lengths=[e.num_samples for e in examples], ids=[e.utterance.id for e in examples], **settings)


def training_set(examples: Sequence[Example] = EXAMPLES, **options) -> BatchDataset:
    return BatchDataset(examples, Frontend(NUM_FRAMES, True, SPEC), plan_of(examples, **options))


def assert_equal(a: Batch, b: Batch) -> None:
    assert vars(a).keys() == vars(b).keys()
    for name, value in vars(a).items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == getattr(b, name).dtype
            assert torch.equal(value, getattr(b, name)), name
        else:
            assert value == getattr(b, name), name
