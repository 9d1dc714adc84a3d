"""Build a speech encoder with a CTC head: families, sizes, options.

The modules are transformers' own, so that checkpoints load key by key (see models.checkpoints.pretrained). The forward
pass is in models.ctc.
"""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCTC, PreTrainedConfig, PreTrainedModel

from models.checkpoints.shards import is_spread
from models.config import ModelConfig
from models.families import SIZES

DROPOUTS = (
    "hidden_dropout",
    "attention_dropout",
    "activation_dropout",
    "feat_proj_dropout",
    "final_dropout",
    "layerdrop",
)
MASKING = ("mask_time_prob", "mask_time_length", "mask_time_min_masks",
           "mask_feature_prob", "mask_feature_length", "mask_feature_min_masks")  # fmt: skip
DIGEST = "sha256:"
"""Before every `weights_digest`. Older versions hashed in another way, and put nothing there."""


def random_config(model: ModelConfig) -> PreTrainedConfig:
    """The configuration for random weights of a family and size, without a vocabulary."""
    assert model.size is not None
    size = dict(SIZES[model.size])
    if model.family == "hubert" and size["feat_extract_norm"] == "group":
        size["feat_proj_layer_norm"] = True
    # transformers' fixed standard deviation, 0.02, suits a width of about 1024. With it the output of narrow layers
    # starts near 0, and they learn late. 1/sqrt(width) keeps the signal's size at any width.
    return AutoConfig.for_model(model.family, **size, initializer_range=size["hidden_size"] ** -0.5)


def configure(config: PreTrainedConfig, model: ModelConfig, *, vocab_size: int, blank_id: int) -> PreTrainedConfig:
    """`config` with the options of `model` that are set, and the vocabulary."""
    for name in DROPOUTS + MASKING:
        if (value := getattr(model, name)) is not None:
            setattr(config, name, value)
    config.vocab_size, config.pad_token_id = vocab_size, blank_id
    # CTC does not use these ids. transformers wants them inside the vocabulary, UniSpeech-SAT wants them set
    config.bos_token_id = config.eos_token_id = blank_id if config.model_type == "unispeech-sat" else None
    config.ctc_loss_reduction, config.ctc_zero_infinity = "mean", False
    config.return_dict = True  # without it transformers' own forward pass fails, and so would a pipeline on the export
    return config


def build_random(config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    """A model with weights drawn from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCTC.from_config(config)


def freeze_lower_layers(base: Any, number: int) -> None:
    """Train neither the first `number` transformer layers of an encoder without its head, nor what lies before them."""
    layers = base.encoder.layers
    frozen = [base.feature_extractor, base.feature_projection, base.encoder.pos_conv_embed, *layers[:number]]
    if not base.config.do_stable_layer_norm:
        frozen.append(base.encoder.layer_norm)  # stands before the layers in these encoders
    for module in frozen:
        module.requires_grad_(False)
    if getattr(base, "masked_spec_embed", None) is not None:
        base.masked_spec_embed.requires_grad_(False)


def uses_attention_mask(config: PreTrainedConfig) -> bool:
    """Whether the encoder takes an attention mask. Layer-norm ones were pre-trained with it (transformers' docs)."""
    return config.feat_extract_norm == "layer"


def weights_digest(model: nn.Module) -> str:
    """A hash of the names and bytes of all parameters and buffers: that of each one's own, computed on all cores."""

    def digest(tensor: Tensor) -> str:
        content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        return hashlib.sha256(content.numpy().data).hexdigest()

    state = model.state_dict()
    if any(map(is_spread, state.values())):  # each is brought together by all processes
        digests = {name: digest(t.full_tensor() if is_spread(t) else t) for name, t in state.items()}
    else:
        with ThreadPoolExecutor() as pool:  # hashing many bytes lets other threads run
            digests = dict(zip(state, pool.map(digest, state.values()), strict=True))
    return f"{DIGEST}{hashlib.sha256(json.dumps(digests).encode()).hexdigest()[:32]}"


os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # our loader workers fork
