"""What --parallel auto chooses: the whole model in each process, unless its state does not fit one device."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch

import trainer.prepare.sharing
from tests.helpers.models import small_model
from trainer.config.presets import PRESETS
from trainer.config.schema import Config
from trainer.errors import ConfigError
from trainer.parallel.launch import Launch
from trainer.parallel.world import World
from trainer.prepare.sharing import choose_sharing, state_bytes

CPU = torch.device("cpu")


def asking(parallel: Any, moments: Any = "fp32") -> Config:
    config = PRESETS["demo"]()
    return replace(config, parallel=parallel, optim=replace(config.optim, moments=moments))


def test_state_is_weights_a_gradient_and_two_moments_of_what_is_trained_and_half_copies() -> None:
    model = small_model(freeze_feature_encoder=True)
    every = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained < every
    steps = 4 * sum(p.requires_grad for p in model.parameters())  # AdamW counts them for each parameter
    assert state_bytes(model, "fp32", "fp32") == 4 * every + 12 * trained + steps
    assert state_bytes(model, "bf16", "fp32") == 6 * every + 12 * trained + steps
    model.more = torch.nn.Parameter(torch.zeros(64, 64))  # smaller ones keep their moments in fp32
    added = [state_bytes(model, "fp32", moments) - 4 * every - 12 * trained - steps for moments in ("fp32", "8bit")]
    assert added == [16 * 4096 + 4, (4 + 4 + 2) * 4096 + 2 * 16 * 4 + 4]  # 16 blocks of 256, a scale each


@pytest.mark.parametrize(("asked", "size"), [("auto", 4), ("auto", 1), ("ddp", 4), ("fsdp", 4), ("fsdp", 1)])
def test_auto_shards_where_the_state_takes_more_than_its_share_of_the_memory(
    asked: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, world = small_model(), World(Launch(0, size, 0, size))
    needed = state_bytes(model, "fp32", "fp32")
    for share, too_large in ((0.71, True), (0.69, False)):
        free = int(needed / share * size)  # the processes of a host share its memory
        monkeypatch.setattr(trainer.prepare.sharing, "free_memory", lambda device: free)  # noqa: B023
        chosen = choose_sharing(asking(asked), model, "fp32", CPU, world)
        assert chosen.is_sharded == (asked == "fsdp" or (asked == "auto" and size > 1 and too_large))
        assert "weights, gradients and moments take" in chosen.reason


def test_unknown_memory_shards_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer.prepare.sharing, "free_memory", lambda device: 0)
    assert not choose_sharing(asking("auto"), small_model(), "fp32", CPU, World(Launch(0, 2, 0, 2))).is_sharded


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
        choose_sharing(asking("fsdp"), model, "fp32", CPU, world)
    monkeypatch.setattr(trainer.prepare.sharing, "free_memory", lambda device: 1000)
    chosen = choose_sharing(asking("auto"), model, "fp32", CPU, world)
    assert not chosen.is_sharded
    assert f"but {why}" in chosen.reason


def test_moments_of_8_bits_are_refused_with_fsdp_and_auto_leaves_them_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model, world = small_model(), World(Launch(0, 2, 0, 2))
    with pytest.raises(ConfigError, match=re.escape("8bit (--optim.moments)")):
        choose_sharing(asking("fsdp", "8bit"), model, "fp32", CPU, world)
    monkeypatch.setattr(trainer.prepare.sharing, "free_memory", lambda device: 1000)
    chosen = choose_sharing(asking("auto", "8bit"), model, "fp32", CPU, world)
    assert not chosen.is_sharded
    assert "but moments in 8bit" in chosen.reason
