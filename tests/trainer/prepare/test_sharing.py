"""What --parallel auto chooses: the whole model in each process, unless its state does not fit one device."""

from __future__ import annotations

import re

import pytest
import torch

import trainer.prepare.sharing
from tests.helpers.models import small_model
from trainer.errors import ConfigError
from trainer.parallel.launch import Launch
from trainer.parallel.world import World
from trainer.prepare.sharing import choose_sharing, state_bytes

CPU = torch.device("cpu")


def test_state_is_weights_a_gradient_and_two_moments_of_what_is_trained_and_half_copies() -> None:
    model = small_model(freeze_feature_encoder=True)
    every = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained < every
    assert state_bytes(model, "fp32") == 4 * every + 12 * trained
    assert state_bytes(model, "bf16") == 6 * every + 12 * trained


@pytest.mark.parametrize(("asked", "size"), [("auto", 4), ("auto", 1), ("ddp", 4), ("fsdp", 4), ("fsdp", 1)])
def test_auto_shards_where_the_state_takes_more_than_its_share_of_the_memory(
    asked: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, world = small_model(), World(Launch(0, size, 0, size))
    needed = state_bytes(model, "fp32")
    for share, too_large in ((0.71, True), (0.69, False)):
        free = int(needed / share * size)  # the processes of a host share its memory
        monkeypatch.setattr(trainer.prepare.sharing, "free_memory", lambda device: free)  # noqa: B023
        chosen = choose_sharing(asked, model, "fp32", CPU, world)
        assert chosen.is_sharded == (asked == "fsdp" or (asked == "auto" and size > 1 and too_large))
        assert "weights, gradients and moments take" in chosen.reason


def test_unknown_memory_shards_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer.prepare.sharing, "free_memory", lambda device: 0)
    assert not choose_sharing("auto", small_model(), "fp32", CPU, World(Launch(0, 2, 0, 2))).is_sharded


@pytest.mark.parametrize(
    ("name", "why"),
    [("lora_A", "low-rank updates (--model.lora-rank)"), ("more", "this model is not the one of its configuration")],
)
def test_model_with_added_weights_is_refused_and_auto_leaves_it_whole(
    name: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The export is made from the configuration, which knows nothing of them."""
    model, world = small_model(), World(Launch(0, 2, 0, 2))
    model.base.encoder.layers[0].attention.q_proj.register_parameter(name, torch.nn.Parameter(torch.zeros(2, 2)))
    with pytest.raises(ConfigError, match=re.escape(why)):
        choose_sharing("fsdp", model, "fp32", CPU, world)
    monkeypatch.setattr(trainer.prepare.sharing, "free_memory", lambda device: 1000)
    chosen = choose_sharing("auto", model, "fp32", CPU, world)
    assert not chosen.is_sharded
    assert f"but {why}" in chosen.reason
