"""The transformer from projected features to hidden states: transformers' modules and weights, our own forward pass.

A batch has one mask, or none if nothing is padded. Every family uses scaled dot-product attention; WavLM's gated
relative position bias is an additive mask. The host never waits for the device. Dropout and LayerDrop draw in
transformers' order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.attention import preferring
from models.layers.checkpointing import Recomputing, run_twice
from models.layers.linear import linear
from models.layers.lora import add_update, base_of
from models.layers.positions import embed_positions

SHARDED = "run_sharded"
"""An attribute of a layer whose weights are spread over processes: `run_layer` for it, which brings them together
first (trainer.parallel.sharding)."""


def encode(
    encoder: Any,
    hidden: Tensor,
    real: Tensor | None,
    *,
    kept_layers: Tensor | None = None,
    dropped: Collection[int] | None = None,
    again: Recomputing | None = None,
    kernel: str | None = None,
) -> Tensor:
    """Hidden states (B, T, H) after all layers of `encoder`, a family's *Encoder or *EncoderStableLayerNorm.

    real bool (B, T) is False on padding; None if nothing is padded. LayerDrop skips layers as it draws them here, or
    those that are `dropped`, or those for which kept_layers bool (layers,), on the device, is False: these are computed
    and count for nothing. With `again`, only each layer's input is kept, and the backward pass computes the layer again
    in that context. `kernel` is the one that attention runs on (models.layers.attention).
    """
    config = encoder.config
    bias: Tensor | None = None
    mask: Tensor | None = None  # (B, 1, 1, T) bool or, with a bias, float
    if real is not None:
        hidden = hidden.masked_fill(~real[..., None], 0.0)
        mask = real[:, None, None, :]
    hidden = hidden + embed_positions(encoder.pos_conv_embed, hidden)
    if not config.do_stable_layer_norm:
        hidden = encoder.layer_norm(hidden)
    hidden = encoder.dropout(hidden)
    has_bias = config.model_type == "wavlm"
    if has_bias:
        bias = position_bias(encoder.layers[0].attention, hidden.shape[1])
        if mask is not None:
            mask = torch.zeros_like(mask, dtype=bias.dtype).masked_fill(~mask, -math.inf)
    for i, layer in enumerate(encoder.layers):
        if kept_layers is None and (is_dropped(encoder, i) if dropped is None else i in dropped):
            continue
        run = getattr(layer, SHARDED, None) or partial(run_layer, layer)
        after = run(hidden, mask, bias, kernel, pre_norm=config.do_stable_layer_norm, again=again)
        hidden = after if kept_layers is None else torch.where(kept_layers[i], after, hidden)
    return encoder.layer_norm(hidden) if config.do_stable_layer_norm else hidden


def is_dropped(encoder: Any, i: int, generator: torch.Generator | None = None) -> bool:
    """Draw whether LayerDrop skips layer `i`. It is drawn on the host, so it needs no wait. `generator`: torch's own.

    Nothing is drawn for a layer that is never skipped: in evaluation, without LayerDrop, and for WavLM's first layer,
    which makes the position bias.
    """
    config = encoder.config
    may_drop = encoder.training and config.layerdrop > 0 and not (config.model_type == "wavlm" and i == 0)
    return bool(may_drop and torch.rand([], generator=generator) < config.layerdrop)


def run_layer(
    layer: Any, hidden: Tensor, mask: Tensor | None, bias: Tensor | None, kernel: str | None, *, pre_norm: bool,
    again: Recomputing | None,
) -> Tensor:  # fmt: skip
    """Hidden states (B, T, H) after one layer; mask and bias as in `attend`, `kernel` and `again` as in `encode`."""
    run = _pre_norm_layer if pre_norm else _post_norm_layer
    if again is not None and torch.is_grad_enabled():
        return run_twice(again, run, layer, hidden, mask, bias, kernel)
    return run(layer, hidden, mask, bias, kernel)


def _pre_norm_layer(layer: Any, hidden: Tensor, mask: Tensor | None, bias: Tensor | None, kernel: str | None) -> Tensor:
    normed = normalize(layer.layer_norm, hidden)
    hidden = hidden + layer.dropout(attend(layer.attention, normed, mask, bias, kernel))
    hidden = hidden + feed_forward(layer.feed_forward, normalize(layer.final_layer_norm, hidden))
    adapter: Callable | None = getattr(layer, "adapter_layer", None)
    return hidden if adapter is None else hidden + adapter(hidden)


def _post_norm_layer(
    layer: Any, hidden: Tensor, mask: Tensor | None, bias: Tensor | None, kernel: str | None
) -> Tensor:
    hidden = normalize(layer.layer_norm, hidden + layer.dropout(attend(layer.attention, hidden, mask, bias, kernel)))
    return normalize(layer.final_layer_norm, hidden + feed_forward(layer.feed_forward, hidden))


def normalize(norm: nn.LayerNorm, hidden: Tensor) -> Tensor:
    """Layer norm of `hidden`, in half precision where both it and the norm's weights are (models.layers.half_copies).

    The kernel takes its statistics in fp32. Autocast would cast the input to fp32 first, and the output back.
    """
    if hidden.dtype == norm.weight.dtype and hidden.dtype in (torch.float16, torch.bfloat16):
        with torch.autocast(hidden.device.type, enabled=False):
            return F.layer_norm(hidden, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    return norm(hidden)


def attend(
    attention: Any, hidden: Tensor, mask: Tensor | None, bias: Tensor | None, kernel: str | None = None
) -> Tensor:
    """Self-attention (B, T, H) over hidden (B, T, H); mask (B, 1, 1, T), bias (heads, T, T) of WavLM's positions."""
    heads = (*hidden.shape[:2], attention.num_heads, attention.head_dim)
    layers = attention.k_proj, attention.v_proj, attention.q_proj  # the order in which copies of them lie in memory
    key, value, query = (projected.view(heads).transpose(1, 2) for projected in project(hidden, *layers))
    if bias is not None:
        gated = _gate(attention, hidden.view(heads).transpose(1, 2)) * bias
        mask = (gated if mask is None else gated + mask).to(query.dtype)
    dropout = attention.dropout if attention.training else 0.0
    with preferring(kernel):
        context = F.scaled_dot_product_attention(query, key, value, mask, dropout, scale=attention.scaling)
    return project(context.transpose(1, 2).flatten(2), attention.out_proj)[0]


def feed_forward(block: Any, hidden: Tensor) -> Tensor:
    """A family's *FeedForward on hidden (B, T, H)."""
    (inner,) = project(hidden, block.intermediate_dense)
    (outer,) = project(block.intermediate_dropout(block.intermediate_act_fn(inner)), block.output_dense)
    return block.output_dropout(outer)


def project(hidden: Tensor, *layers: nn.Linear) -> tuple[Tensor, ...]:
    """What each of `layers`, which have the same size, makes of hidden (..., I)."""
    bases = [base_of(layer) for layer in layers]
    own = own_linear_pays(hidden, bases[0])
    outputs = linear(hidden, *bases) if own else tuple(base(hidden) for base in bases)
    return tuple(add_update(layer, hidden, output) for layer, output in zip(layers, outputs, strict=True))


def own_linear_pays(hidden: Tensor, layer: nn.Linear) -> bool:
    """Whether models.layers.linear is faster than torch for `layer`: on CUDA, where autocast has nothing to cast."""
    is_cast = hidden.dtype == torch.float32 and torch.is_autocast_enabled(hidden.device.type)
    return hidden.is_cuda and hidden.dtype == layer.weight.dtype and not is_cast


def _gate(attention: Any, hidden: Tensor) -> Tensor:
    """The factor of the position bias for each query, (B, heads, T, 1), from hidden (B, heads, T, head_dim).

    Chen et al. 2022 (WavLM), section 3.2.
    """
    sums = attention.gru_rel_pos_linear(hidden).unflatten(-1, (2, 4)).sum(-1, keepdim=True)
    update, reset = sums.sigmoid().unbind(-2)
    return update * (reset * attention.gru_rel_pos_const - 1.0) + 2.0


def position_bias(attention: Any, num_frames: int) -> Tensor:
    """WavLM's bias (heads, T, T) from the distance of query and key: exact if near, in logarithmic buckets if far."""
    frames = torch.arange(num_frames, device=attention.rel_attn_embed.weight.device)
    offsets = frames - frames[:, None]
    half = attention.num_buckets // 2
    exact = half // 2
    distance = offsets.abs()
    # in transformers' order of operations, since another order rounds to other buckets
    far = torch.log(distance.float() / exact) / math.log(attention.max_distance / exact) * (half - exact)
    far = (exact + far).clamp(max=half - 1).long()
    buckets = torch.where(distance < exact, distance, far) + (offsets > 0) * half
    return attention.rel_attn_embed(buckets).permute(2, 0, 1)
