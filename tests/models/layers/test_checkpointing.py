"""Activation checkpointing under autocast reads in its second pass what it read in the first.

pytest tests/models/layers/test_checkpointing.py
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.ctc import CTCModel
from tests.helpers.models import padded_batch, small_hf_model


@pytest.mark.parametrize("family", ["unispeech", "wavlm"])
@pytest.mark.parametrize("frozen", [True, False])
def test_a_layer_computed_again_in_half_precision_has_the_same_gradient(family: str, frozen: bool) -> None:
    """Reference: the same model without activation checkpointing, in bf16 with half copies; the same bits."""

    def gradients(checkpointed: bool) -> dict[str, Tensor]:
        model = CTCModel(
            small_hf_model(family), freeze_feature_encoder=frozen, activation_checkpointing=checkpointed
        ).train()
        model.keep_half_copies(torch.bfloat16)
        batch = padded_batch(model)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(batch.waveforms, batch.frame_lengths)
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        assert model.half_copies is not None
        leaves = [model.half_copies.of.get(p, p) for p in trained.values()]
        found = torch.autograd.grad(logits.log_softmax(-1)[..., 0].mean(), leaves, allow_unused=True)
        return {n: g for n, g in zip(trained, found, strict=True) if g is not None}

    plain, again = gradients(False), gradients(True)
    assert plain.keys() == again.keys()
    assert len(plain) > 30
    assert all(torch.equal(plain[name], again[name]) for name in plain)
