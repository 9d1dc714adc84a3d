"""The encoders that can be trained: transformers' model types, and the sizes of those with random weights.

A family can be added here if it has wav2vec 2.0's parts under the same names: strided convolutions (feature_extractor),
a feature_projection, and an encoder with a convolutional position embedding. No torch here.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

Family = Literal["unispeech", "unispeech-sat", "wav2vec2", "hubert", "wavlm"]
FAMILIES: tuple[str, ...] = get_args(Family)
Size = Literal["tiny", "demo", "base", "large"]

# Shared by the public large checkpoints of all five families: layer norm after every convolution, pre-norm layers
_LARGE = dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
              feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True)  # fmt: skip
# Small models train for minutes; regularisation for long fine-tuning would only slow them down
_UNREGULARISED = dict(hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, feat_proj_dropout=0.0,
                      final_dropout=0.0, layerdrop=0.0, mask_time_prob=0.0, mask_feature_prob=0.0)  # fmt: skip
_TINY = dict(hidden_size=144, num_hidden_layers=3, num_attention_heads=4, intermediate_size=576,
             conv_dim=(32, 32, 64, 64, 64, 128, 128), num_conv_pos_embeddings=32, num_conv_pos_embedding_groups=8,
             feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True, **_UNREGULARISED)  # fmt: skip
SIZES: dict[str, dict[str, Any]] = {
    "tiny": _TINY,
    # The layers with many frames are narrower: a training step on a CPU takes 0.62 times as long as tiny's
    "demo": {**_TINY, "conv_dim": (16, 16, 32, 64, 64, 128, 128)},
    # Like the public base checkpoints: group norm on the first convolution, post-norm layers
    "base": dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072,
                 feat_extract_norm="group", do_stable_layer_norm=False, conv_bias=False),
    "large": _LARGE,
}  # fmt: skip
