"""scripts.bench.memory counts what a step takes."""

from __future__ import annotations

import torch

from scripts.bench.memory import allocated_peak, step_bytes

CPU = torch.device("cpu")


def test_the_peak_of_allocations_is_that_of_the_tensors_that_live_together() -> None:
    """Reference: by hand: 4 MB and 8 MB together, then 8 MB and 2 MB."""

    def work() -> None:
        a = torch.zeros(1_000_000)
        b = torch.zeros(2_000_000)
        del a
        c = torch.zeros(500_000)
        del b, c

    assert abs(allocated_peak(work, CPU) - 12_000_000) < 1000


def test_checkpoints_and_microbatches_take_less_than_half() -> None:
    """A size where activations outweigh the gradients; reference: the plain step."""
    plain = step_bytes("tiny", 8, 1.0, False, False, 1)
    assert step_bytes("tiny", 8, 1.0, False, True, 1) < plain / 2
    assert step_bytes("tiny", 8, 1.0, False, False, 4) < plain / 2
