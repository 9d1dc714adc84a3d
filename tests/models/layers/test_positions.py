"""The position embedding by Fourier transform (models.layers.positions) against transformers' grouped convolution."""

from __future__ import annotations

import pytest
import torch

from models.layers.positions import _fast_length, embed_positions
from tests.helpers.models import FAMILIES, small_model


@pytest.mark.parametrize("kernel", [1, 2, 7, 8, 32])
@pytest.mark.parametrize("num_frames", [1, 2, 5, 31, 64])
def test_positions_and_their_gradients_equal_the_convolutions(num_frames: int, kernel: int) -> None:
    """Reference: the family's own module, in fp64; utterances shorter than the kernel too."""
    model = small_model("unispeech", "layer", num_conv_pos_embeddings=kernel).double()
    module = model.base.encoder.pos_conv_embed
    hidden = torch.randn(3, num_frames, 24, dtype=torch.double, requires_grad=True)
    weights = torch.randn(3, num_frames, 24, dtype=torch.double)
    wanted = [hidden, *module.parameters()]
    ours, theirs = embed_positions(module, hidden), module(hidden)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    for a, b in zip(
        torch.autograd.grad((ours * weights).sum(), wanted),
        torch.autograd.grad((theirs * weights).sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_familys_positions_are_computed_so(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model(family)
    module = model.base.encoder.pos_conv_embed
    hidden = torch.randn(2, 20, 24)
    expected = module(hidden)
    monkeypatch.setattr(type(module), "forward", None)
    torch.testing.assert_close(embed_positions(module, hidden), expected, rtol=1e-4, atol=1e-5)


def test_huberts_batch_norm_before_the_convolution_is_kept() -> None:
    model = small_model("hubert", "layer", conv_pos_batch_norm=True)
    module = model.base.encoder.pos_conv_embed
    hidden = torch.randn(2, 20, 24)
    assert module.batch_norm is not None
    assert torch.equal(embed_positions(module, hidden), module(hidden))


def test_lengths_of_transforms_are_even_without_large_factors_and_not_long() -> None:
    """Reference: every length from 1 to 3000, by trial of all products 2^a 3^b 5^c."""
    smooth = sorted({2**a * 3**b * 5**c for a in range(1, 13) for b in range(8) for c in range(6)})
    for n in range(1, 3000):
        assert _fast_length(n) == next(m for m in smooth if m >= n)
