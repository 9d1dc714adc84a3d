"""Which encoder to use, where it comes from, and its regularisation. A plain dataclass, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from models.families import Family, Size

AttentionKernel = Literal["flash", "efficient", "cudnn"]

LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj", "intermediate_dense", "output_dense")
"""The linear layers of a transformer layer, as transformers names them in every family."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The encoder and its CTC head. A dropout or mask option of None takes the checkpoint's value. Random weights of
    the sizes tiny and demo take 0, those of base and large the family's defaults in transformers."""

    pretrained: str | None = None
    """Hub id or folder of a Hugging Face checkpoint, a run (runs/NAME), or runs/NAME/checkpoints/best or step-N;
    none: random weights (--model.size)."""

    revision: str | None = None
    """Branch, tag or commit of the hub checkpoint; the run records the commit it resolved to; none: main."""

    target_lang: str | None = None
    """Language of a multilingual checkpoint (MMS), as tur: its vocabulary and adapter. In training a language that
    it does not have gets a new vocabulary, adapter and head; auto: the language that it is set to."""

    adapter_only: bool = False
    """Train only the language's adapter and the head of a checkpoint that has adapters (MMS)."""

    family: Family = "unispeech"
    """Architecture of random weights; a checkpoint knows its own."""

    size: Size | None = None
    """Train from random weights of this size (large = UniSpeech-large exactly); none: the checkpoint's."""

    freeze_feature_encoder: bool | None = None
    """Keep the strided convolutions as they are; auto: frozen for a checkpoint, trained for random weights."""

    freeze_layers: int = 0
    """Keep the first so many transformer layers as they are, and all that lies before them."""

    lora_rank: int | None = None
    """Train low-rank updates (LoRA) of this rank, and the head, on a checkpoint that stays as it is; none: none."""

    lora_alpha: float | None = None
    """The updates count alpha / rank times; auto: alpha is twice the rank."""

    lora_targets: tuple[str, ...] | None = None
    """Updated layers, of q_proj, k_proj, v_proj, out_proj, intermediate_dense, output_dense; auto: q_proj v_proj."""

    lora_dropout: float = 0.0
    """Dropout on the input of the updates."""

    cache_features: bool | None = None
    """Compute the frozen feature encoder's output once, into --cache-dir; auto: if that is exact and fits."""

    activation_checkpointing: bool = False
    """Keep only each layer's input and compute the layer again for its gradient: less memory, more time, same bits."""

    cuda_graphs: bool | None = None
    """Launch a whole pass of a batch at once, which is captured for its shape; auto: on CUDA where it is possible."""

    attention: AttentionKernel | None = None
    """CUDA's kernel of attention; auto: the fastest on the largest batch, timed at the start. Elsewhere, and with
    --deterministic, torch chooses."""

    hidden_dropout: float | None = None
    """Dropout after the encoder's linear layers, and on its input; auto: the checkpoint's or the size's own."""

    attention_dropout: float | None = None
    """Dropout on attention weights; auto: the checkpoint's or the size's own."""

    activation_dropout: float | None = None
    """Dropout inside the feed-forward blocks; auto: the checkpoint's or the size's own."""

    feat_proj_dropout: float | None = None
    """Dropout after the feature projection; auto: the checkpoint's or the size's own."""

    final_dropout: float | None = None
    """Dropout before the CTC head; auto: the checkpoint's or the size's own."""

    layerdrop: float | None = None
    """Probability of skipping a whole transformer layer; auto: the checkpoint's or the size's own."""

    mask_time_prob: float | None = None
    """Share of frames at which a SpecAugment time mask starts, times mask_time_length; auto: the checkpoint's or the
    size's own."""

    mask_time_length: int | None = None
    """Frames per time mask (20 ms each); auto: the checkpoint's or the size's own."""

    mask_time_min_masks: int | None = None
    """Time masks per utterance at least; auto: the checkpoint's or the size's own."""

    mask_feature_prob: float | None = None
    """Share of channels at which a feature mask starts, times mask_feature_length; auto: the checkpoint's or the
    size's own."""

    mask_feature_length: int | None = None
    """Channels per feature mask; auto: the checkpoint's or the size's own."""

    mask_feature_min_masks: int | None = None
    """Feature masks per utterance at least; auto: the checkpoint's or the size's own."""

    @property
    def keeps_encoder(self) -> bool:
        """Whether the options leave the feature encoder, and more, as they are in the checkpoint."""
        return self.adapter_only or self.freeze_layers > 0 or self.lora_rank is not None
