"""Encoders and their forward pass (models.encoder, models.ctc.CTCModel) against transformers' own classes.

pytest tests/models/test_encoder.py
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import AutoModelForCTC

from models.config import ModelConfig
from models.ctc import CTCModel
from models.encoder import DROPOUTS, MASKING, build_random, configure, random_config, uses_attention_mask
from models.families import SIZES
from models.geometry import FrameGeometry
from tests.helpers.models import (
    EVERY_FAMILY,
    EVERY_VARIANT,
    HIDDEN,
    NORMS,
    RECEPTIVE_FIELD,
    VOCAB,
    make_talkative,
    padded_batch,
    small_config,
    small_hf_model,
    small_model,
)
from trainer.config.presets import timit_hf
from trainer.config.validate import resolve

# fp32, other orders of the same sums, on values of order 1: up to 1.5e-5 apart, by the processor
LOGITS = dict(atol=5e-5, rtol=1e-5)
# fp64: what is left is no rounding of fp32's
EXACT = dict(atol=1e-9, rtol=1e-9)
# Here the shapes differ (one utterance, or a padded batch), so kernels may split their sums elsewhere
OTHER_SHAPE = dict(atol=1e-4, rtol=1e-4)


@EVERY_VARIANT
def test_logits_of_a_padded_batch_equal_transformers(family: str, norm: str) -> None:
    """Reference: the family's *ForCTC(input_values, attention_mask).logits, the mask as its documentation asks
    (layer norm: given; group norm: none). All frames are compared, padding too; in fp32 to LOGITS, in fp64 to EXACT."""
    model = small_model(family, norm)
    batch = padded_batch(model)
    for dtype, tolerance in ((torch.float32, LOGITS), (torch.float64, EXACT)):
        model.to(dtype)
        waveforms = batch.waveforms.to(dtype)
        with torch.no_grad():
            ours = model(waveforms, batch.frame_lengths)
            theirs = model.hf(waveforms, attention_mask=batch.attention_mask if norm == "layer" else None).logits
        torch.testing.assert_close(ours, theirs, **tolerance)


@EVERY_FAMILY
def test_logits_without_padding_need_no_attention_mask(family: str) -> None:
    """Reference: the family's *ForCTC with a mask of ones, on a layer-norm encoder; tolerance LOGITS."""
    model = small_model(family, "layer")
    batch = padded_batch(model, (3000, 3000))
    with torch.no_grad():
        ours = model(batch.waveforms, batch.frame_lengths, is_padded=False)
        theirs = model.hf(batch.waveforms, attention_mask=torch.ones_like(batch.waveforms).long()).logits
    torch.testing.assert_close(ours, theirs, **LOGITS)


@EVERY_VARIANT
def test_masked_training_logits_and_gradients_equal_transformers(
    family: str, norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reference: the family's own forward in training mode without dropout, time mask as `mask_time_indices`,
    feature mask in place of the one it draws; and its gradient of sum(logits^2) for every parameter. In fp64;
    tolerance EXACT, for gradients relative to the largest entry of all, since some (of the keys' bias) are zero."""
    model = small_model(family, norm, mask_feature_prob=0.1, mask_feature_min_masks=0).train().double()
    batch = padded_batch(model)
    batch.waveforms = batch.waveforms.double()
    generator = torch.Generator().manual_seed(1)
    num_frames = int(batch.frame_lengths.max())
    time_mask = torch.rand(4, num_frames, generator=generator) < 0.3
    feature_mask = torch.rand(4, HIDDEN, generator=generator) < 0.3
    attention_mask = batch.attention_mask if norm == "layer" else None

    def gradients(forward: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        model.zero_grad()
        logits = forward()
        logits.square().sum().backward()
        return logits.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    def reference() -> torch.Tensor:
        base = model.base
        with monkeypatch.context() as patch:
            patch.setattr(
                sys.modules[type(base).__module__], "_compute_mask_indices", lambda *a, **k: feature_mask.numpy()
            )
            hidden = base(batch.waveforms, attention_mask=attention_mask, mask_time_indices=time_mask)[0]
        return model.hf.lm_head(hidden)

    theirs, their_gradients = gradients(reference)
    ours, our_gradients = gradients(
        lambda: model(batch.waveforms, batch.frame_lengths, time_mask=time_mask, feature_mask=feature_mask)
    )
    torch.testing.assert_close(ours, theirs, **EXACT)
    assert our_gradients.keys() == their_gradients.keys()
    assert any("masked_spec_embed" in name for name in our_gradients)
    scale = max(float(gradient.abs().max()) for gradient in their_gradients.values())
    for name, gradient in our_gradients.items():
        torch.testing.assert_close(gradient, their_gradients[name], atol=1e-9 * scale, rtol=1e-9, msg=name)


@EVERY_VARIANT
def test_dropout_and_layerdrop_fall_where_transformers_puts_them(
    family: str, norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reference: the family's own forward from the same seed, all dropouts on: a dropout that is left out, added or
    elsewhere would shift every later draw. In fp64, tolerance EXACT. Dropout draws in the order of memory, so the
    positions are transformers' own here, and WavLM, whose attention puts time before the batch, has one utterance."""
    monkeypatch.setattr("models.layers.transformer.embed_positions", lambda module, hidden: module(hidden))
    model = small_model(family, norm, **dict.fromkeys(DROPOUTS, 0.2)).train().double()
    batch = padded_batch(model, (3000,)) if family == "wavlm" else padded_batch(model)
    batch.waveforms = batch.waveforms.double()
    time_mask = torch.zeros(len(batch.waveforms), int(batch.frame_lengths.max()), dtype=torch.bool)
    attention_mask = batch.attention_mask if norm == "layer" else None
    for seed in range(3):
        torch.manual_seed(seed)
        ours = model(batch.waveforms, batch.frame_lengths, time_mask=time_mask)
        torch.manual_seed(seed)
        hidden = model.base(batch.waveforms, attention_mask=attention_mask, mask_time_indices=time_mask)[0]
        torch.testing.assert_close(ours, model.hf.lm_head(model.hf.dropout(hidden)), **EXACT)


@pytest.mark.parametrize("which", ["time", "feature"])
def test_each_mask_changes_logits_of_its_utterance_only(which: str) -> None:
    """Reference: the same forward without masks. Rows without a mask must be bit for bit the same."""
    model = small_model()
    batch = padded_batch(model)
    width = int(batch.frame_lengths.max()) if which == "time" else HIDDEN
    mask = torch.zeros(4, width, dtype=torch.bool)
    mask[1, 2:5] = True
    with torch.no_grad():
        plain = model(batch.waveforms, batch.frame_lengths)
        masked = model(batch.waveforms, batch.frame_lengths, **{f"{which}_mask": mask})
    assert not torch.allclose(masked[1], plain[1], atol=1e-3)
    assert torch.equal(masked[[0, 2, 3]], plain[[0, 2, 3]])


@EVERY_FAMILY
def test_layer_norm_logits_do_not_depend_on_padding(family: str) -> None:
    """Reference: each utterance alone; tolerance OTHER_SHAPE on logits of order 1 (a centred head, scaled down)."""
    model = make_talkative(small_model(family, "layer"))
    with torch.no_grad():
        model.hf.lm_head.weight.mul_(0.05)
        model.hf.lm_head.bias.mul_(0.05)
        batch = padded_batch(model)
        together = model(batch.waveforms, batch.frame_lengths)
        for i, (n, frames) in enumerate(zip(batch.lengths, batch.frame_lengths, strict=True)):
            alone = model(batch.waveforms[i : i + 1, :n], frames[None], is_padded=False)
            assert alone.shape[1] == frames
            torch.testing.assert_close(together[i : i + 1, :frames], alone, **OTHER_SHAPE)


def test_group_norm_logits_do_depend_on_padding() -> None:
    """The reason why such models are evaluated in batches of equal length: if this passes no more, the rule can go."""
    model = small_model("wav2vec2", "group")
    assert not model.is_batch_invariant
    batch = padded_batch(model, (5200, 1200))
    with torch.no_grad():
        together = model(batch.waveforms, batch.frame_lengths)[1, : batch.frame_lengths[1]]
        alone = model(batch.waveforms[1:, :1200], batch.frame_lengths[1:], is_padded=False)[0]
    assert (together - alone).abs().max() > 1e-2


@pytest.mark.parametrize("norm", NORMS)
def test_attention_mask_is_used_by_layer_norm_extractors_only(norm: str) -> None:
    """Reference: transformers' documentation of Wav2Vec2 (`return_attention_mask` when feat_extract_norm is layer)."""
    assert uses_attention_mask(small_config("wav2vec2", norm)) == (norm == "layer")


# Every length around each of the first frames' borders, then odd ones up to half a minute
LENGTHS = [*range(380, 1100), 3999, 4000, 4001, 15999, 16000, 16079, 16080, 16081, 479_999]


def test_num_frames_equals_the_real_output_length() -> None:
    """Reference: the length of the feature extractor's output, on a one-channel copy of the seven convolutions."""
    model = small_model(conv_dim=(1,) * 7, conv_bias=False)
    with torch.no_grad():
        for n in LENGTHS:
            if n >= RECEPTIVE_FIELD:
                assert model.base.feature_extractor(torch.zeros(1, n)).shape[-1] == model.num_frames(n), n


@EVERY_FAMILY
def test_num_frames_equals_transformers_formula(family: str) -> None:
    """Reference: _get_feat_extract_output_lengths, which is exact from the receptive field on."""
    model = small_hf_model(family)
    num_frames = FrameGeometry.of(model.config.conv_kernel, model.config.conv_stride).num_frames
    lengths = [n for n in LENGTHS if n >= RECEPTIVE_FIELD]
    theirs = model._get_feat_extract_output_lengths(torch.tensor(lengths))
    assert [num_frames(n) for n in lengths] == theirs.tolist()


@pytest.mark.parametrize("num_samples", [0, 1, 9, 10, 11, 100, RECEPTIVE_FIELD - 1])
def test_num_frames_is_zero_below_the_receptive_field(num_samples: int) -> None:
    """Reference: the convolutions themselves, which refuse such an input."""
    model = small_model()
    assert model.num_frames(num_samples) == 0
    assert model.num_frames(RECEPTIVE_FIELD) == 1
    with pytest.raises(RuntimeError):
        model.base.feature_extractor(torch.zeros(1, num_samples))


@pytest.mark.parametrize(("kernels", "strides"), [((10, 3, 3), (5, 2, 1)), ((4,), (7,)), ((8, 5), (3, 3))])
def test_num_frames_is_exact_for_other_geometries(kernels: tuple[int, ...], strides: tuple[int, ...]) -> None:
    """Reference: torch's own convolutions on every length up to 200."""
    num_frames = FrameGeometry.of(kernels, strides).num_frames
    convolutions = torch.nn.Sequential(*(torch.nn.Conv1d(1, 1, k, s) for k, s in zip(kernels, strides, strict=True)))
    for n in range(200):
        try:
            real = convolutions(torch.zeros(1, 1, n)).shape[-1]
        except RuntimeError:
            real = 0
        assert num_frames(n) == real, n


def num_parameters(config_of: ModelConfig, vocab_size: int) -> int:
    config = configure(random_config(config_of), config_of, vocab_size=vocab_size, blank_id=vocab_size - 1)
    with torch.device("meta"):
        return sum(p.numel() for p in AutoModelForCTC.from_config(config).parameters())


def test_large_is_unispeech_large_to_the_parameter() -> None:
    """Reference: the published count (315,470,495 with a 31-way head), under the timit-hf preset's masking."""
    preset = timit_hf().model
    large = ModelConfig(**{**vars(preset), "pretrained": None, "size": "large", "family": "unispeech"})
    assert num_parameters(large, 31) == 315_470_495


def test_tiny_has_the_size_that_the_documentation_states() -> None:
    """Reference: docs/run-folder.md (0.94 M)."""
    assert round(num_parameters(ModelConfig(size="tiny"), 31) / 1e6, 2) == 0.94


@pytest.mark.parametrize("size", SIZES)
@EVERY_FAMILY
def test_every_size_exists_for_every_family(family: str, size: str) -> None:
    assert num_parameters(ModelConfig(family=family, size=size), 31) > 100_000  # type: ignore[arg-type]


@EVERY_VARIANT
def test_freezing_spares_the_feature_encoder_alone(family: str, norm: str) -> None:
    model = small_model(family, norm, freeze_feature_encoder=True)
    extractor = {id(p) for p in model.base.feature_extractor.parameters()}
    assert len(extractor) >= 9
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (id(parameter) not in extractor), name


@EVERY_VARIANT
def test_nothing_is_frozen_unless_asked(family: str, norm: str) -> None:
    assert all(p.requires_grad for p in small_model(family, norm).parameters())


@EVERY_VARIANT
def test_training_step_moves_every_trainable_parameter(family: str, norm: str) -> None:
    """A parameter without a gradient would be one that our forward pass forgot."""
    model = small_model(family, norm, freeze_feature_encoder=True).train()
    batch = padded_batch(model)
    time_mask = torch.zeros(4, int(batch.frame_lengths.max()), dtype=torch.bool)
    time_mask[:, :2] = True
    model(batch.waveforms, batch.frame_lengths, time_mask=time_mask).square().sum().backward()
    idle = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == []


@EVERY_FAMILY
def test_options_reach_the_configuration(family: str) -> None:
    values = dict.fromkeys(DROPOUTS, 0.25) | {name: 0.25 if name.endswith("prob") else 3 for name in MASKING}
    model = ModelConfig(family=family, size="tiny", **values)  # type: ignore[arg-type]
    config = configure(random_config(model), model, vocab_size=31, blank_id=28)
    assert {name: getattr(config, name) for name in values} == values
    assert (config.vocab_size, config.pad_token_id) == (31, 28)
    assert (config.ctc_loss_reduction, config.ctc_zero_infinity) == ("mean", False)


@EVERY_FAMILY
def test_zero_is_an_option_like_any_other(family: str) -> None:
    """The reference run sets every dropout of its checkpoint to 0."""
    config = small_config(family, **dict.fromkeys(DROPOUTS, 0.1), mask_feature_prob=0.1)
    zeros = dict.fromkeys((*DROPOUTS, "mask_time_prob", "mask_feature_prob"), 0.0)
    configured = configure(config, ModelConfig(pretrained="x", **zeros), vocab_size=31, blank_id=28)
    assert {name: getattr(configured, name) for name in zeros} == zeros


@EVERY_FAMILY
def test_unset_options_leave_a_checkpoints_configuration_alone(family: str) -> None:
    config = small_config(family, hidden_dropout=0.12, layerdrop=0.07, mask_time_prob=0.3)
    configured = configure(config, ModelConfig(pretrained="x"), vocab_size=31, blank_id=28)
    assert (configured.hidden_dropout, configured.layerdrop, configured.mask_time_prob) == (0.12, 0.07, 0.3)


@EVERY_FAMILY
def test_random_weights_follow_from_their_seed(family: str) -> None:
    first, same, other = (build_random(small_config(family), seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_building_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    build_random(small_config(), 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_resolved_reference_preset_freezes_the_feature_encoder() -> None:
    """Reference: the reference run's --freeze_feature_extractor."""
    assert resolve(timit_hf()).model.freeze_feature_encoder is True


def test_blank_is_the_configurations_pad_token() -> None:
    assert small_model().blank_id == VOCAB.blank_id != 0


def test_forward_is_the_same_in_evaluation_mode_twice() -> None:
    """Dropout and LayerDrop must be off in evaluation whatever the configuration says."""
    options = dict.fromkeys(DROPOUTS, 0.5)
    model = CTCModel(small_hf_model(**options), freeze_feature_encoder=False).eval()  # type: ignore[arg-type]
    batch = padded_batch(model)
    with torch.no_grad():
        first, second = (model(batch.waveforms, batch.frame_lengths) for _ in range(2))
    assert torch.equal(first, second)
    model.train()
    torch.manual_seed(0)
    assert not np.allclose(model(batch.waveforms, batch.frame_lengths).detach().numpy(), first.numpy(), atol=1e-3)


@EVERY_VARIANT
def test_activation_checkpointing_changes_no_bit(family: str, norm: str) -> None:
    """Reference: the same step without it, dropouts and LayerDrop on, from the same seed."""
    model = small_model(family, norm, **dict.fromkeys(DROPOUTS, 0.2)).train()
    batch, results = padded_batch(model), []
    for model.activation_checkpointing in (False, True):
        model.zero_grad()
        torch.manual_seed(0)
        logits = model(batch.waveforms, batch.frame_lengths)
        logits.square().sum().backward()
        results.append([logits.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    assert len(results[0]) > 20
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_activation_checkpointing_keeps_less() -> None:
    """Counted in bytes of what autograd saves."""
    model = small_model("unispeech", "layer").train()
    batch, kept = padded_batch(model), []
    for model.activation_checkpointing in (False, True):
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.data_ptr()] = tensor.untyped_storage().nbytes()  # noqa: B023
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(batch.waveforms, batch.frame_lengths)
        kept.append(sum(sizes.values()))
    assert kept[1] < kept[0] / 2
