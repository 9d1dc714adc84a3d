"""Floating-point operations of an encoder, counted from its configuration, to measure utilisation.

A multiplication or an addition counts as one. Matrix products, convolutions and attention count; element-wise work does
not, as is usual for model FLOP utilisation. torch's FlopCounterMode is wrong for training: its weight gradient of
grouped convolutions ignores the groups.
"""

from __future__ import annotations

from transformers import PreTrainedConfig

from models.geometry import convolved_length


def forward_flops(config: PreTrainedConfig, num_samples: int) -> tuple[float, float]:
    """(feature encoder's, all the rest's) FLOPs of one utterance's forward pass."""
    frames, channels, convolutions = num_samples, 1, 0.0
    for width, kernel, stride in zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True):
        frames = convolved_length(frames, kernel, stride)
        convolutions += 2.0 * frames * kernel * channels * width
        channels = width
    hidden, inner = config.hidden_size, config.intermediate_size
    projection = 2.0 * frames * channels * hidden
    positions = 2.0 * frames * hidden * config.num_conv_pos_embeddings * hidden / config.num_conv_pos_embedding_groups
    linear = 2.0 * frames * (4 * hidden * hidden + 2 * hidden * inner)
    attention = 2.0 * 2 * frames * frames * hidden
    head = 2.0 * frames * hidden * config.vocab_size
    return convolutions, projection + positions + config.num_hidden_layers * (linear + attention) + head


def training_flops(config: PreTrainedConfig, num_samples: int, *, frozen: bool) -> float:
    """FLOPs of one utterance's forward and backward pass: two backward products for each forward one.

    A frozen feature encoder runs forward only.
    """
    convolutions, rest = forward_flops(config, num_samples)
    return convolutions * (1 if frozen else 3) + 3 * rest


def attention_samples(config: PreTrainedConfig) -> int:
    """Samples of an utterance at which its attention takes as many FLOPs as everything else.

    n samples take a * n + b * n^2, which two values of n tell; the answer is a / b.
    """
    n = 10**8  # so long that rounding to frames is nothing
    once, twice = sum(forward_flops(config, n)), sum(forward_flops(config, 2 * n))
    return round(n * (4 * once - twice) / (twice - 2 * once))
