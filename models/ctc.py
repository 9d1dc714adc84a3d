"""An encoder with a CTC head as one module, from waveforms to logits; and the CTC loss.

B utterances, S samples, T frames, C features, H channels, U units, V units of the vocabulary, the blank included.
Lengths and masks come ready-made with the batch, so the forward pass never waits for the device. The loss does: torch's
CUDA kernel for CTC copies the lengths to the device, and waits for that.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from models.checkpoints.adapter import freeze_all_but_adapter
from models.encoder import freeze_lower_layers, uses_attention_mask
from models.geometry import FrameGeometry
from models.layers.frontend import extract_features
from models.layers.half_copies import HalfCopies
from models.layers.lora import merge
from models.layers.transformer import encode, is_dropped

LOSS_DTYPE = torch.float64
"""The precision of the CTC loss. The sums over paths are logarithms that grow with the number of frames, and the
gradient is e to the power of their differences. So in float32 the gradient of 1,000 frames is off by 0.3 %, and depends
on how a batch is cut. In float64 it is off by 1e-7, as its float32 logits are."""


class CTCModel(nn.Module):
    """transformers' modules with our own forward pass. Logits are the same; masks are given instead of drawn."""

    def __init__(
        self,
        hf_model: PreTrainedModel,
        *,
        freeze_feature_encoder: bool,
        adapter_only: bool = False,
        freeze_layers: int = 0,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.half_copies: HalfCopies | None = None
        self.dropped_layers: frozenset[int] | None = None
        """What LayerDrop skips in training, where it was drawn beforehand; None: each pass draws."""
        self.is_sharded = False
        """Whether its weights are spread over several processes (trainer.parallel.sharding)."""
        self.activation_checkpointing = activation_checkpointing
        self.attention_kernel: str | None = None
        """Of models.layers.attention.KERNELS; None: torch chooses."""
        self.hf = hf_model
        self.freeze_feature_encoder = freeze_feature_encoder
        config = hf_model.config
        self.geometry = FrameGeometry.of_config(config)
        self.num_frames = self.geometry.num_frames
        self.uses_attention_mask = uses_attention_mask(config)
        self.blank_id: int = config.pad_token_id
        if freeze_feature_encoder:
            self.hf.freeze_feature_encoder()
        if adapter_only:
            freeze_all_but_adapter(self.hf)
        if freeze_layers:
            freeze_lower_layers(self.base, freeze_layers)

    @property
    def base(self) -> Any:
        """The encoder without its head."""
        return getattr(self.hf, self.hf.base_model_prefix)

    @property
    def is_batch_invariant(self) -> bool:
        """Whether padding leaves every utterance's logits alone. With group norm over time it does not."""
        return self.hf.config.feat_extract_norm == "layer"

    @property
    def trains_all_layers(self) -> bool:
        """Whether every parameter of the transformer layers is trained."""
        return all(p.requires_grad for p in self.base.encoder.layers.parameters())

    def merge_updates(self) -> None:
        """Put low-rank updates, if there are any, into the weights for good. The model is not trained any more."""
        merge(self.hf)
        if self.half_copies is not None:
            self.half_copies.outdate()

    def keep_half_copies(self, dtype: torch.dtype) -> None:
        """From now on forward passes under an autocast of `dtype` read copies of the weights that are rounded once an
        update (models.layers.half_copies). The model lies on its device already."""
        self.half_copies = HalfCopies(self, dtype)

    def draw_layers(self, generator: torch.Generator | None) -> None:
        """Let LayerDrop skip the same layers in every pass from now on, drawn from `generator` as a pass would draw
        them; with None each pass draws again."""
        if generator is None:
            self.dropped_layers = None
        else:
            encoder = self.base.encoder
            self.dropped_layers = frozenset(i for i in range(len(encoder.layers)) if is_dropped(encoder, i, generator))

    def forward(
        self,
        inputs: Tensor,
        frame_lengths: Tensor,
        *,
        is_padded: bool = True,
        time_mask: Tensor | None = None,
        feature_mask: Tensor | None = None,
        kept_layers: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, T, V) for waveforms (B, S), or for features (B, T, C) that were computed from them before.

        Frames from frame_lengths (B,) on are padding; without is_padded there are none. time_mask bool (B, T) and
        feature_mask bool (B, H) are SpecAugment's, True where masked. kept_layers bool (layers,) says which layers
        count; None: LayerDrop draws it. The logits are float32 or float64, also under autocast.
        """
        copies = self.half_copies
        if copies is None or not is_autocast_to(copies.dtype, inputs.device):
            return self._logits(inputs, frame_lengths, is_padded, time_mask, feature_mask, kept_layers)
        copies.refresh()
        with copies.in_place():
            return self._logits(inputs, frame_lengths, is_padded, time_mask, feature_mask, kept_layers)

    def _logits(
        self,
        inputs: Tensor,
        frame_lengths: Tensor,
        is_padded: bool,
        time_mask: Tensor | None,
        feature_mask: Tensor | None,
        kept_layers: Tensor | None,
    ) -> Tensor:
        base = self.base
        again = self._context_of_recomputing if self.activation_checkpointing and self.training else None
        features = inputs  # (B, T, C)
        if inputs.ndim == 2:
            features = extract_features(base.feature_extractor, inputs, again=again)
        projected = base.feature_projection(features)
        hidden = projected[0] if isinstance(projected, tuple) else projected  # (B, T, H); HuBERT returns no tuple
        if time_mask is not None:
            hidden = torch.where(time_mask[..., None], base.masked_spec_embed.to(hidden.dtype), hidden)
        if feature_mask is not None:
            hidden = hidden.masked_fill(feature_mask[:, None, :], 0.0)
        real = None
        if is_padded and self.uses_attention_mask:
            real = torch.arange(hidden.shape[1], device=hidden.device) < frame_lengths[:, None]
        dropped = self.dropped_layers if self.training else None
        hidden = encode(
            base.encoder, hidden, real, kept_layers=kept_layers, dropped=dropped, again=again,
            kernel=self.attention_kernel,
        )  # fmt: skip
        hidden = self.hf.dropout(hidden)
        if not torch.is_autocast_enabled(hidden.device.type):
            return self.hf.lm_head(hidden)
        # Half precision would round the logits, of which CTC sums over many frames: some frames change their best unit
        with torch.autocast(hidden.device.type, enabled=False):
            return self.hf.lm_head(hidden.float())

    def _context_of_recomputing(self) -> AbstractContextManager[None]:
        """What must hold when the backward pass computes a layer again: it reads the copies that `forward` read."""
        copies = self.half_copies
        if copies is None or not is_autocast_to(copies.dtype, next(iter(copies.of)).device):
            return nullcontext()
        return copies.in_place()

    @torch.inference_mode()
    def read(self, waveforms: Tensor) -> Tensor:
        """Logits float32 (B, T, V) of waveforms (B, S), which have the same length and lie on the model's device."""
        frame_lengths = torch.full((len(waveforms),), self.num_frames(waveforms.shape[1]), device=waveforms.device)
        return self(waveforms, frame_lengths, is_padded=False).float()


def is_autocast_to(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether operations on `device` run under an autocast to `dtype` now."""
    return torch.is_autocast_enabled(device.type) and torch.get_autocast_dtype(device.type) is dtype


def ctc_loss_per_utterance(
    logits: Tensor, frame_lengths: Tensor, targets: Tensor, target_lengths: Tensor, *, blank_id: int
) -> Tensor:
    """-log p(targets | audio) over the target length, in nats per unit, (B,) in float32, of float64 logits in float64.

    Computed in LOSS_DTYPE. logits (B, T, V), V counts the blank; frame_lengths (B,) frames; targets (B, U), only the
    first target_lengths[b] of row b are read. Both lengths may lie on the host, which spares CUDA a copy. The loss is
    infinite where the frames cannot hold the targets. The caller sums it and divides by the number of utterances in the
    whole optimizer step, not in this microbatch.
    """
    log_probs = logits.to(LOSS_DTYPE).log_softmax(-1).transpose(0, 1)  # (T, B, V)
    device = log_probs.device
    if log_probs.is_cuda and torch.are_deterministic_algorithms_enabled():
        # CUDA's own CTC refuses this mode and cuDNN's wants blank 0. The CPU's CTC adds in a fixed order
        log_probs, targets = log_probs.cpu(), targets.cpu()
        frame_lengths, target_lengths = frame_lengths.cpu(), target_lengths.cpu()
    # cuDNN's CTC wants other argument types and blank 0; it is off, as in transformers
    with torch.backends.cudnn.flags(enabled=False):
        nats = F.ctc_loss(log_probs, targets, frame_lengths, target_lengths, blank=blank_id, reduction="none")
    per_unit = nats / target_lengths.to(nats.device, non_blocking=True).clamp(min=1)
    return per_unit.to(device, torch.promote_types(logits.dtype, torch.float32))
