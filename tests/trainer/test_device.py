"""Where a model computes (trainer.device), as far as a machine without CUDA can show it.

pytest tests/trainer/test_device.py
"""

from __future__ import annotations

import pytest
import torch

from trainer.device import choose_device
from trainer.errors import ConfigError


@pytest.mark.parametrize(("name", "chosen"), [("cuda:1", [1]), ("cuda", []), ("cpu", []), ("cpu:0", [])])
def test_a_numbered_gpu_becomes_the_processs_own(name: str, chosen: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams, events and handles of libraries belong to torch's current device, which is GPU 0 unless it is told."""
    told: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: told.append(device.index))
    monkeypatch.setattr(torch, "empty", lambda *size, device: None)  # is it usable? here: yes
    assert choose_device(name) == torch.device(name)
    assert told == chosen


def test_a_device_of_another_kind_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="--device meta: give cpu, cuda"):
        choose_device("meta")
