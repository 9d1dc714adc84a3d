"""The analytic FLOP count against a published budget and against torch's counter."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from models.config import ModelConfig
from models.ctc import CTCModel
from models.encoder import build_random, configure, random_config
from models.flops import forward_flops, training_flops
from scripts.hf.modules import hf_modules


def test_unispeech_large_needs_100_gflop_per_second_of_audio() -> None:
    """36.65 forward and 100.1 in training with the extractor frozen, worked out by hand from the layer shapes."""
    config = configure(random_config(ModelConfig(size="large")), ModelConfig(), vocab_size=31, blank_id=28)
    seconds = 3.07
    num_samples = round(seconds * 16_000)
    assert sum(forward_flops(config, num_samples)) / seconds / 1e9 == pytest.approx(36.65, abs=0.05)
    assert training_flops(config, num_samples, frozen=True) / seconds / 1e9 == pytest.approx(100.1, abs=0.1)


@pytest.mark.parametrize("size", ["tiny", "demo"])
def test_forward_count_equals_torchs_counter(size: str) -> None:
    """FlopCounterMode counts the same products in transformers' forward pass; exactly, but for its one extra position.

    The positional convolution of even width computes one frame more than it keeps.
    """
    config = configure(random_config(ModelConfig(size=size)), ModelConfig(), vocab_size=31, blank_id=28)  # type: ignore[arg-type]
    model = CTCModel(build_random(config, 0), freeze_feature_encoder=False).eval()
    model.hf.set_attn_implementation("eager")  # the counter does not know the CPU's fused attention
    num_samples = 24_000
    frames = model.num_frames(num_samples)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), hf_modules():
        model(torch.zeros(1, num_samples), torch.tensor([frames]), is_padded=False)
    extra_frame = 2 * config.hidden_size**2 * config.num_conv_pos_embeddings / config.num_conv_pos_embedding_groups
    assert sum(forward_flops(config, num_samples)) + extra_frame == pytest.approx(counter.get_total_flops(), rel=1e-6)
