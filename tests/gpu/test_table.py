"""The table of features on CUDA: bits that depend on nothing but the utterance, and the way to the disk and back.

Run by scripts/bench/gpu/tests.py, a part of gpu_check.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import trainer.prepare.features.file
import trainer.prepare.features.table
from data.examples.prepare import Example
from models.ctc import CTCModel
from tests.helpers.gpu import CUDA, ON_CUDA
from tests.helpers.models import example, small_model
from trainer.device import autocast_for
from trainer.prepare.features.filling import NUM_SLOTS, compute_rows, plan_calls
from trainer.prepare.features.table import open_table

pytestmark = ON_CUDA


def rows_of(model: CTCModel, examples: list[Example], precision: str) -> list[torch.Tensor]:
    """The rows of each utterance, computed together."""
    lengths = [e.num_samples for e in examples]
    calls = plan_calls(lengths, model.geometry, NUM_SLOTS[CUDA.type])
    rows = compute_rows(model, examples, calls, do_normalize=True, device=CUDA, autocast=autocast_for(precision, CUDA))
    return list(torch.cat(list(rows)).split([model.num_frames(n) for n in lengths]))


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_an_utterances_features_are_the_same_bits_alone_and_among_others(precision: str) -> None:
    """At the width of the large models. Four orders of 40 utterances; the longest takes more than a call."""
    precision = "bf16" if (precision, CUDA.type) == ("fp16", "cpu") else precision
    width, longest = (512, 4500) if CUDA.type == "cuda" else (64, 300)
    model = small_model(conv_dim=(width,) * 7, freeze_feature_encoder=True).to(CUDA)
    rng = random.Random(0)
    lengths = [rng.randrange(400, 320 * longest // 12) for _ in range(40)] + [320 * longest, 400]
    examples = [example(n, seed=i) for i, n in enumerate(lengths)]
    alone = [rows_of(model, [e], precision)[0] for e in examples]
    order = list(range(len(examples)))
    for _ in range(4):
        rng.shuffle(order)
        together = rows_of(model, [examples[i] for i in order], precision)
        differing = [i for i, rows in zip(order, together, strict=True) if not torch.equal(rows, alone[i])]
        assert not differing, [lengths[i] for i in differing]


@pytest.mark.parametrize("place", ["device", "host"])
def test_a_table_is_the_same_computed_and_found_on_the_device_and_on_the_host(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reference: the rows of each call. A thread writes the table while the device works on."""
    monkeypatch.setattr(trainer.prepare.features.file, "BLOCK", 5000)
    if place == "host":
        monkeypatch.setattr(trainer.prepare.features.table, "free_memory", lambda device: 0)
    model = small_model(freeze_feature_encoder=True).to(CUDA)
    examples = [replace(example(9000 + 1000 * i, seed=i), digest=str(i)) for i in range(20)]
    expected = torch.cat([torch.zeros(1, 8, device=CUDA), *rows_of(model, examples, "bf16")])
    threads, said = list[threading.Thread](), list[str]()

    def start(seal: Callable[[], None]) -> None:
        threads.append(threading.Thread(target=seal))
        threads[-1].start()

    for _ in range(2):
        table = open_table(
            model, examples, tmp_path, do_normalize=True, precision="bf16", device=CUDA,
            autocast=autocast_for("bf16", CUDA), log=said.append, progress=lambda calls, total: calls, later=start,
        )  # fmt: skip
        busy = torch.randn(512, 512, device=CUDA) @ torch.randn(512, 512, device=CUDA)
        for thread in threads:
            thread.join()
        assert table.rows.device.type == (CUDA.type if place == "device" else "cpu")
        assert torch.equal(table.rows.to(CUDA), expected)
        assert busy.isfinite().all()
    assert len(threads) == len(said) == 1
