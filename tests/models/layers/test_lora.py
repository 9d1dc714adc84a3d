"""Low-rank updates against peft's own forward and backward pass.

pytest tests/models/layers/test_lora.py
"""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

import models.layers.transformer
from models.checkpoints.lora import Lora, add_updates
from models.config import LORA_TARGETS
from models.ctc import CTCModel
from models.layers.half_copies import HalfCopies
from models.layers.linear import one_behind_the_other
from models.layers.lora import add_update, base_of, is_updated, merged, merged_state
from tests.helpers.models import EVERY_FAMILY, padded_batch, small_hf_model
from trainer.config.schema import OptimConfig
from trainer.loop.optim import build_optimizer, parameter_groups


def lora(targets: tuple[str, ...] = ("q_proj", "v_proj"), **changes: object) -> Lora:
    return Lora(
        **dict(rank=3, alpha=6.0, targets=targets, dropout=0.0, first_layer=0, base="x", revision=None) | changes
    )  # type: ignore[arg-type]


def updated(
    family: str = "unispeech", *, seed: int = 0, trained: bool = True, updates: Lora | None = None
) -> PreTrainedModel:
    """A small model with updates; `trained`: those that are no longer zero."""
    hf = small_hf_model(family)
    add_updates(hf, updates or lora(), seed)
    if trained:
        with torch.no_grad():
            for name, parameter in hf.named_parameters():
                if ".lora_B." in name:
                    parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
    return hf


def of_model(hf: PreTrainedModel) -> CTCModel:
    return CTCModel(hf, freeze_feature_encoder=True)


def loss_of(logits: Tensor) -> Tensor:
    return (logits.log_softmax(-1)[..., :3] ** 2).mean()


@EVERY_FAMILY
def test_twenty_steps_of_training_have_pefts_losses(family: str) -> None:
    """Reference: peft's layers inside transformers' forward pass, all six targets, the same AdamW; fp64, 1e-9.

    transformers' WavLM hands the weights of attention to a function and so passes peft's layers there by: they are
    left out.
    """
    targets = LORA_TARGETS[4:] if family == "wavlm" else LORA_TARGETS
    ours = of_model(updated(family, trained=False, updates=lora(targets)).double()).train()
    theirs = of_model(copy.deepcopy(ours.hf)).train()
    batch = padded_batch(ours, (4100, 4100))
    waveforms = batch.waveforms.double()
    losses: dict[str, list[float]] = {"ours": [], "peft": []}
    for name, model in (("ours", ours), ("peft", theirs)):
        optimizer = build_optimizer(model, OptimConfig(lr=1e-2))
        for _ in range(20):
            if name == "ours":
                logits = model(waveforms, batch.frame_lengths, is_padded=False)
            else:
                model.hf.config.apply_spec_augment = False
                logits = model.hf(waveforms).logits
            loss = loss_of(logits)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses[name].append(loss.item())
    assert losses["ours"][-1] < 0.9 * losses["ours"][0]
    assert max(abs(a / b - 1) for a, b in zip(*losses.values(), strict=True)) < 1e-9


def test_training_begins_at_the_checkpoint() -> None:
    plain, hf = small_hf_model(), updated(trained=False)
    batch = padded_batch(of_model(plain))
    inputs = batch.waveforms, batch.frame_lengths
    assert torch.equal(of_model(plain).eval()(*inputs), of_model(hf).eval()(*inputs))


def test_only_updates_and_head_are_trained_and_all_matrices_among_them_decay() -> None:
    model = of_model(updated())
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name.rpartition(".lora_")[2] for name in trained if ".lora_" in name} == {
        "A.default.weight",
        "B.default.weight",
    }
    assert {name for name in trained if ".lora_" not in name} == {"hf.lm_head.weight", "hf.lm_head.bias"}
    decayed, plain = parameter_groups(model, 0.1)
    assert [p.ndim for p in plain["params"]] == [1]
    assert {p.ndim for p in decayed["params"]} == {2}
    assert len(trained) == 2 * 2 * 2 + 2  # layers, targets, matrices; the head


def test_the_same_seed_draws_the_same_updates_whatever_was_drawn_before() -> None:
    def drawn(seed: int) -> Tensor:
        torch.rand(3)
        return next(p for n, p in updated(seed=seed).named_parameters() if ".lora_A." in n)

    before = torch.random.get_rng_state()
    assert torch.equal(drawn(5), drawn(5))
    assert not torch.equal(drawn(5), drawn(6))
    torch.random.set_rng_state(before)
    updated()
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("family", ["unispeech", "wavlm"])
def test_a_merged_model_has_the_same_logits_and_transformers_names(family: str) -> None:
    """Reference: the unmerged model; relative 1e-6 in fp32 of the largest logit."""
    model = of_model(updated(family, updates=lora(LORA_TARGETS))).eval()
    batch = padded_batch(model)
    inputs = batch.waveforms, batch.frame_lengths
    before = model(*inputs).detach()
    state = merged_state(model.hf.state_dict(), 2.0)
    model.merge_updates()
    torch.testing.assert_close(model(*inputs), before, rtol=0, atol=1e-6 * float(before.abs().max()))
    assert not any(is_updated(m) for m in model.modules())
    plain = small_hf_model(family)
    assert list(model.hf.state_dict()) == list(plain.state_dict())
    assert state.keys() == plain.state_dict().keys()
    assert all(torch.equal(tensor, model.hf.state_dict()[name]) for name, tensor in state.items())


def test_a_merged_weight_is_the_sum_in_a_fixed_order() -> None:
    """Reference: the formula in fp64; and the same bits whatever the number of threads."""
    generator = torch.Generator().manual_seed(0)
    weight, down, up = (torch.randn(*shape, generator=generator) for shape in ((70, 50), (16, 50), (70, 16)))
    exact = weight.double() + 0.25 * up.double() @ down.double()
    found = merged(weight, down, up, 0.25)
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-6 * float(exact.abs().max()))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    again = merged(weight, down, up, 0.25)
    torch.set_num_threads(threads)
    assert torch.equal(found, again)


def test_half_copies_keep_query_key_and_value_one_behind_the_other() -> None:
    """Updates must not lie between them: their product would copy all three weights in every layer."""
    model = of_model(updated())
    copies = HalfCopies(model, torch.bfloat16)
    attention = model.base.encoder.layers[0].attention
    weights = [getattr(attention, n) for n in ("k_proj", "v_proj", "q_proj")]
    found = [copies.of[getattr(w, "base_layer", w).weight] for w in weights]
    assert one_behind_the_other(found).data_ptr() == found[0].data_ptr()


@pytest.mark.parametrize("checkpointed", [False, True])
def test_own_linear_layers_and_checkpoints_give_the_same_gradient(
    checkpointed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reference: torch's layers without activation checkpointing; fp64, to rounding."""

    def gradients() -> list[Tensor]:
        model = of_model(updated(updates=lora(LORA_TARGETS)).double()).train()
        model.activation_checkpointing = checkpointed and bool(patched)
        batch = padded_batch(model)
        loss_of(model(batch.waveforms.double(), batch.frame_lengths)).backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    patched: list[int] = []
    expected = gradients()
    patched.append(1)
    monkeypatch.setattr(models.layers.transformer, "own_linear_pays", lambda *_: True)
    found = gradients()
    assert len(found) == len(expected) == 2 * 6 * 2 + 2
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-13)


def test_frozen_layers_keep_nothing_for_a_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted by autograd's hooks: with all but the last layer frozen, less than half as much is kept."""
    monkeypatch.setattr(models.layers.transformer, "own_linear_pays", lambda *_: True)

    def kept(frozen: int) -> int:
        hf = small_hf_model(num_hidden_layers=4)
        model, sizes = CTCModel(hf, freeze_feature_encoder=True, freeze_layers=frozen).train(), dict[int, int]()
        batch = padded_batch(model)

        def pack(t: Tensor) -> Tensor:
            sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            logits = model(batch.waveforms, batch.frame_lengths)
        loss_of(logits).backward()
        frozen_names = {n for n, p in model.named_parameters() if not p.requires_grad}
        assert all(f".layers.{i}." in " ".join(frozen_names) for i in range(frozen))
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad and "masked" not in n}
        assert all(p.grad is not None for p in trained.values())
        return sum(sizes.values())

    assert kept(3) < kept(0) / 2


@EVERY_FAMILY
@pytest.mark.parametrize("norm", ["layer", "group"])
def test_frozen_layers_and_all_before_them_get_no_gradient_and_all_behind_them_the_same(family: str, norm: str) -> None:
    """Reference: the gradient of the model in which only the feature encoder is frozen."""

    def gradients(number: int) -> dict[str, Tensor]:
        hf = small_hf_model(family, norm)
        model = CTCModel(hf, freeze_feature_encoder=True, freeze_layers=number).eval()
        batch = padded_batch(model, (4100, 4100))
        loss_of(model(batch.waveforms, batch.frame_lengths, is_padded=False)).backward()
        return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    whole, upper = gradients(0), gradients(1)
    for name, gradient in upper.items():  # WavLM's attention has another kernel where its bias is frozen
        torch.testing.assert_close(gradient, whole[name], rtol=1e-4, atol=1e-6)
    missing = whole.keys() - upper.keys()
    assert any(".layers.0." in name for name in missing)
    assert not any(".layers.1." in name for name in missing)
    assert any("pos_conv_embed" in name for name in missing)
    if norm == "group":
        assert any(name.endswith("encoder.layer_norm.weight") for name in missing)


def test_updates_of_upper_layers_alone_leave_the_lower_ones_as_they_are() -> None:
    hf = updated(updates=lora(first_layer=1))
    names = [name for name, module in hf.named_modules() if is_updated(module)]
    assert len(names) == 2
    assert all(".layers.1." in name for name in names)


def test_dropout_is_drawn_on_the_updates_input_alone() -> None:
    """With dropout near 1 the updates hardly count: the output is then the base's, up to what is left."""
    layer = updated(updates=lora(dropout=0.999)).train().get_submodule("unispeech.encoder.layers.0.attention.q_proj")
    x = torch.randn(1, 5, 24, generator=torch.Generator().manual_seed(3))
    torch.manual_seed(0)
    y = base_of(layer)(x)
    kept = (add_update(layer, x, y) == y).all(-1).float().mean()
    assert math.isclose(float(kept), 1.0, abs_tol=0.41)
    assert isinstance(base_of(layer), nn.Linear)
