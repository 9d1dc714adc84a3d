"""The choice among torch's attention kernels (models.layers.attention). On a CPU only "flash" is there."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend

import models.layers.attention
from models.layers.attention import AttentionShape, attention_shape, preferring, time_kernels
from tests.helpers.models import padded_batch, small_model

CPU = torch.device("cpu")
SHAPE = AttentionShape(3, 2, 17, 12, is_masked=True, has_bias=False, dropout=0.0, dtype=torch.float32)


@pytest.fixture
def three_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for CUDA: "efficient" is the plain arithmetic, "flash" the CPU's kernel, "cudnn" is not there."""
    monkeypatch.setitem(models.layers.attention.KERNELS, "efficient", SDPBackend.MATH)


@pytest.mark.usefixtures("three_kernels")
def test_kernels_are_timed_and_those_that_cannot_are_left_out() -> None:
    """A clock that says which kernel ran: the plain arithmetic takes 1 ms, the fused kernel 3."""

    def clock(work, device: torch.device) -> float:
        with torch.profiler.profile() as profile:
            work()
        names = {event.key for event in profile.key_averages()}
        return 3.0 if any("flash" in name for name in names) else 1.0

    times = time_kernels(SHAPE, CPU, clock)
    assert times == {"efficient": 1.0, "flash": 3.0}
    assert next(iter(times)) == "efficient"


def test_a_bias_gets_its_gradient_while_kernels_are_timed() -> None:
    """The CPU's fused kernel gives a bias no gradient, so none is left of the three."""
    shape = AttentionShape(2, 2, 9, 4, is_masked=True, has_bias=True, dropout=0.0, dtype=torch.float32)
    assert "cudnn" not in time_kernels(shape, CPU)


def test_the_kernel_that_is_preferred_computes() -> None:
    query = torch.randn(2, 2, 9, 4, requires_grad=True)

    def kernel_of(name: str | None) -> str:
        with preferring(name):
            return str(F.scaled_dot_product_attention(query, query, query).grad_fn)

    assert "FlashAttention" in kernel_of("flash")
    assert "FlashAttention" in kernel_of("cudnn")  # it is not there: torch's next one computes
    assert "FlashAttention" in kernel_of(None)


def test_preferring_a_kernel_leaves_torchs_settings_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch._C._get_sdp_priority_order(), torch.backends.cuda.flash_sdp_enabled()
    with preferring("efficient"):
        assert torch._C._get_sdp_priority_order()[0] == int(SDPBackend.EFFICIENT_ATTENTION)
    assert (torch._C._get_sdp_priority_order(), torch.backends.cuda.flash_sdp_enabled()) == before


@pytest.mark.usefixtures("three_kernels")
@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("family", ["unispeech", "wavlm"])
def test_the_models_attention_runs_on_its_kernel_also_when_it_is_computed_again(
    family: str, checkpointed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reference: the same model where torch chooses, to the rounding of fp64; the fused kernel never runs."""
    monkeypatch.delitem(models.layers.attention.KERNELS, "flash")  # a CPU takes it first, whatever the order
    model = small_model(family, "layer").double().train()
    model.activation_checkpointing = checkpointed
    batch = padded_batch(model)
    waveforms, lengths = batch.waveforms.double(), batch.frame_lengths
    wanted = [p for p in model.parameters() if p.requires_grad]

    def gradients() -> tuple[torch.Tensor | None, ...]:
        logits = model(waveforms, lengths)
        return torch.autograd.grad((logits * logits).sum(), wanted, allow_unused=True)

    expected = gradients()
    model.attention_kernel = "efficient"
    with torch.profiler.profile() as profile:
        found = gradients()
    assert not any("flash" in event.key for event in profile.key_averages())
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_the_shape_is_that_of_the_models_attention() -> None:
    model = small_model("wavlm", "layer", attention_dropout=0.25)
    shape = attention_shape(model, 8, 40, torch.bfloat16)
    assert (shape.num_heads, shape.head_dim, shape.has_bias, shape.is_masked) == (2, 12, True, True)
    assert (shape.dropout, shape.dtype, str(shape)) == (0.25, torch.bfloat16, "8 x 40 frames")
    assert not attention_shape(small_model("unispeech", "group"), 8, 40, torch.float32).is_masked


def test_a_clock_measures_milliseconds() -> None:
    milliseconds = models.layers.attention.milliseconds(lambda: torch.randn(300, 300) @ torch.randn(300, 300), CPU)
    assert 0 < milliseconds < 10_000
    assert math.isfinite(milliseconds)
