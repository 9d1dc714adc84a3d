"""Linear layers as they run on CUDA, here on a CPU. Reference: torch's own, one by one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import models.layers.transformer
from models.layers.linear import linear, one_behind_the_other
from tests.helpers.models import padded_batch, small_model


def test_output_and_gradients_equal_torchs() -> None:
    layer, x = nn.Linear(5, 7).double(), torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    leaves = (x, layer.weight, layer.bias)
    expected, (found,) = layer(x), linear(x, layer)
    weights = torch.randn_like(expected)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, leaves, weights), torch.autograd.grad(expected, leaves, weights)
    )


def test_several_layers_at_once_equal_each_alone() -> None:
    layers, x = [nn.Linear(5, 6).double() for _ in range(3)], torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    leaves = [x, *(p for layer in layers for p in layer.parameters())]
    expected, found = [layer(x) for layer in layers], linear(x, *layers)
    torch.testing.assert_close(list(found), expected)
    sums = [sum((y * y).sum() for y in ys) for ys in (found, expected)]
    torch.testing.assert_close(*(torch.autograd.grad(total, leaves) for total in sums))


def test_a_frozen_weight_or_bias_gets_no_gradient() -> None:
    layer, x = nn.Linear(5, 7), torch.randn(2, 5, requires_grad=True)
    layer.weight.requires_grad_(False)
    linear(x, layer)[0].sum().backward()
    assert layer.weight.grad is None
    assert layer.bias.grad is not None


@pytest.mark.parametrize("family", ["unispeech", "wavlm", "wav2vec2"])
def test_a_model_with_them_has_the_same_logits_and_gradients(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for own in (False, True):
        monkeypatch.setattr(models.layers.transformer, "own_linear_pays", lambda hidden, layer: own)  # noqa: B023
        model = small_model(family=family).double()
        batch = padded_batch(model)
        logits = model(batch.waveforms.double(), batch.frame_lengths)
        logits.square().sum().backward()
        found.append([logits, *(p.grad for p in model.parameters() if p.grad is not None)])
    torch.testing.assert_close(found[1], found[0])


def test_tensors_that_lie_one_behind_the_other_are_a_view_and_others_a_copy() -> None:
    memory = torch.arange(24.0)
    first, second, third = (piece.view(2, 4) for piece in memory.split(8))
    for tensors, is_view in [([first, second, third], True), ([second, third], True), ([second, first], False),
                             ([first, third], False), ([first, torch.zeros(2, 4)], False)]:  # fmt: skip
        joined = one_behind_the_other(tensors)
        torch.testing.assert_close(joined, torch.cat(tensors))
        assert (joined.untyped_storage().data_ptr() == memory.untyped_storage().data_ptr()) is is_view


@pytest.mark.parametrize("family", ["unispeech", "wavlm", "hubert"])
def test_copies_of_query_key_and_value_are_one_matrix(family: str) -> None:
    model = small_model(family=family)
    model.keep_half_copies(torch.bfloat16)
    copies = model.half_copies
    assert copies is not None
    for layer in model.base.encoder.layers:
        layers = [layer.attention.k_proj, layer.attention.v_proj, layer.attention.q_proj]
        for name in ("weight", "bias"):
            parts = [copies.of[getattr(projection, name)] for projection in layers]
            assert one_behind_the_other(parts).data_ptr() == parts[0].data_ptr()
