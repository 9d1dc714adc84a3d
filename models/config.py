"""Which encoder to use, where it comes from, and its regularisation. A plain dataclass, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from models.families import Family, Size


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The encoder and its CTC head. A dropout or mask option of None takes the checkpoint's value. Random weights of
    the sizes tiny and demo take 0, those of base and large the family's defaults in transformers."""

    pretrained: str | None = None
    """Hub id or folder of a Hugging Face checkpoint, a run (runs/NAME), or runs/NAME/checkpoints/best or step-N."""

    revision: str | None = None
    """Branch, tag or commit of the hub checkpoint; the run records the commit it resolved to."""

    target_lang: str | None = None
    """Language of a multilingual checkpoint (MMS), as tur: its vocabulary and adapter; None: what it is set to. In
    training a language that it does not have gets a new vocabulary, adapter and head."""

    adapter_only: bool = False
    """Train only the language's adapter and the head of a checkpoint that has adapters (MMS)."""

    family: Family = "unispeech"
    """Architecture of random weights; a checkpoint knows its own."""

    size: Size | None = None
    """Train from random weights of this size instead of a checkpoint (large = UniSpeech-large exactly)."""

    freeze_feature_encoder: Annotated[bool | None, tyro.conf.DisallowNone] = None
    """Keep the strided convolutions as they are; None: frozen for a checkpoint, trained for random weights."""

    cache_features: Annotated[bool | None, tyro.conf.DisallowNone] = None
    """Compute the frozen feature encoder's output once, into --cache-dir; None: if that is exact and fits."""

    activation_checkpointing: bool = False
    """Keep only each layer's input and compute the layer again for its gradient: less memory, more time, same bits."""

    compile_layers: bool = False
    """torch.compile the transformer layer for training: a tenth faster on CUDA, after half a minute to compile."""

    cuda_graphs: Annotated[bool | None, tyro.conf.DisallowNone] = None
    """Launch a whole pass of a batch at once, which is captured for its shape; None: on CUDA where it is possible."""

    hidden_dropout: float | None = None
    """Dropout after the encoder's linear layers, and on its input."""

    attention_dropout: float | None = None
    """Dropout on attention weights."""

    activation_dropout: float | None = None
    """Dropout inside the feed-forward blocks."""

    feat_proj_dropout: float | None = None
    """Dropout after the feature projection."""

    final_dropout: float | None = None
    """Dropout before the CTC head."""

    layerdrop: float | None = None
    """Probability of skipping a whole transformer layer."""

    mask_time_prob: float | None = None
    """Share of frames at which a SpecAugment time mask starts, times mask_time_length."""

    mask_time_length: int | None = None
    """Frames per time mask (20 ms each)."""

    mask_time_min_masks: int | None = None
    """Time masks per utterance at least."""

    mask_feature_prob: float | None = None
    """Share of channels at which a feature mask starts, times mask_feature_length."""

    mask_feature_length: int | None = None
    """Channels per feature mask."""

    mask_feature_min_masks: int | None = None
    """Feature masks per utterance at least."""
