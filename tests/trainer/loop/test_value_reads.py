"""A training step reads no value of a tensor on the host: the ops that would are counted on a CPU.

On CUDA the host waits for each of them. It waits elsewhere too, and nothing of that shows here: copies to the host,
copies from memory that is not pinned, and what a kernel does inside (torch's CTC copies its lengths). Those are
seen on a GPU, by test_a_step_waits_for_the_device_in_ctc_alone in tests/gpu/test_training.py.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from data.batches.collate import BatchDataset, Frontend
from models.feature_table import FeatureTable
from tests.helpers.models import FAMILIES, example, small_model
from tests.helpers.steps import make_parts
from trainer.loop.step import train_step

READS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique", "_unique2", "item")
"""ATen's ops whose result the host must have: values of tensors, and shapes that depend on values."""


class CountOps(TorchDispatchMode):
    """Counts every ATen op that is dispatched while it is active, backward passes included."""

    def __init__(self) -> None:
        super().__init__()
        self.ops: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        self.ops[name] += 1
        if name in ("index", "index_put", "index_put_") and any(
            i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        ):
            self.ops["nonzero"] += 1  # what indexing by a mask comes to
        return func(*args, **(kwargs or {}))

    @property
    def num_reads(self) -> dict[str, int]:
        return {name: self.ops[name] for name in READS if self.ops[name]}


@pytest.mark.parametrize("kind", ["waveforms", "features"])
@pytest.mark.parametrize("norm", ["layer", "group"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_reads_no_value_on_the_host(family: str, norm: str, kind: str) -> None:
    parts = make_parts(small_model(family, norm, hidden_dropout=0.1))
    parts.model.train()
    examples = [example(n, "abc", seed=n) for n in (8000, 5000, 6000)]
    batch = BatchDataset(examples, Frontend(parts.model.num_frames))[0, (0, 1, 2)]
    frames = int(batch.frame_lengths.max())
    batch = replace(batch, time_mask=torch.rand(3, frames) < 0.2, feature_mask=torch.rand(3, 24) < 0.2)
    if kind == "features":
        parts.features = FeatureTable(torch.randn(100, parts.model.hf.config.conv_dim[-1]), (1, 30, 60))
        batch = replace(batch, feature_rows=torch.randint(0, 100, (3, frames)))
    with CountOps() as counter:
        train_step(parts, [batch], 1.0, lambda: None)
    assert counter.ops["_ctc_loss"] == 1, "the counter sees no step"
    assert counter.num_reads == {}


@pytest.mark.parametrize(
    "mistake",
    [
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: float(x.sum()),
        lambda x: bool((x > 0).any()),
        lambda x: x.nonzero(),
        lambda x: x.masked_select(x > 0),
        lambda x: x.index_put_((x > 0,), torch.zeros(())),
    ],
)
def test_the_counter_sees_each_way_to_read_a_value(mistake: Any) -> None:
    with CountOps() as counter:
        mistake(torch.randn(4))
    assert counter.num_reads
