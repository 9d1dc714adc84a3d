"""Weights rounded once an update. Reference: torch's autocast, which rounds them in every forward pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import models.layers.half_copies
from models.families import FAMILIES
from tests.helpers.models import padded_batch, small_model

BF16 = torch.bfloat16


def logits_and_gradients(family: str, norm: str, *, copies: bool, half: bool = True) -> list[torch.Tensor]:
    """Logits, and the gradient of each parameter, in the order of names; in bf16, or in fp32 without `half`."""
    model = small_model(family, norm).train()
    if copies:
        model.keep_half_copies(BF16)
    batch = padded_batch(model, (5200, 5200) if norm == "group" else (5200, 3333))
    with torch.autocast("cpu", dtype=BF16, enabled=half):
        logits = model(batch.waveforms, batch.frame_lengths)
    logits.square().sum().backward()
    of = model.half_copies.of if model.half_copies is not None else {}
    gradients = [of.get(p, p).grad for _, p in sorted(model.named_parameters())]
    return [logits.detach(), *(g.float() for g in gradients if g is not None)]


@pytest.mark.parametrize("norm", ["layer", "group"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_logits_and_gradients_of_every_family_are_as_exact_as_autocasts(family: str, norm: str) -> None:
    """By the distance of all of them from those in fp32, which is what bf16 rounds."""
    exact = logits_and_gradients(family, norm, copies=False, half=False)
    autocast, ours = (logits_and_gradients(family, norm, copies=copies) for copies in (False, True))
    assert len(ours) == len(autocast) == len(exact)
    distances = [sum(float((a - b).square().sum()) for a, b in zip(found, exact, strict=True)) ** 0.5
                 for found in (ours, autocast)]  # fmt: skip
    assert 0 < distances[0] < 1.3 * distances[1]


def test_with_autocasts_layer_norms_they_are_autocasts_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        models.layers.half_copies, "_is_copied", lambda path, module: isinstance(module, nn.Linear | nn.Conv1d)
    )
    expected, found = (logits_and_gradients("unispeech", "layer", copies=copies) for copies in (False, True))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


def test_checkpoints_and_exports_never_see_a_copy() -> None:
    """Names, types and values of the state are as before; also while a forward pass has failed in between."""
    model = small_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.keep_half_copies(BF16)
    with torch.autocast("cpu", dtype=BF16), pytest.raises(RuntimeError):
        model(torch.zeros(2, 3, 4, 5), torch.tensor([1, 1]))
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) and after[name].dtype is torch.float32 for name in before)


def test_outside_autocast_and_under_another_precision_the_weights_themselves_are_read() -> None:
    """The closing evaluation is in fp32: a copy would round it."""
    model, plain = small_model().eval(), small_model().eval()
    model.keep_half_copies(BF16)
    batch = padded_batch(model)
    with torch.no_grad():
        assert torch.equal(model(batch.waveforms, batch.frame_lengths), plain(batch.waveforms, batch.frame_lengths))
