"""Optimizer and schedule against transformers' Trainer, and what the loop relies on of torch's AdamW.

pytest tests/trainer/loop/test_optim.py
"""

from __future__ import annotations

import copy
import inspect
import math

import pytest
import torch
from torch import nn
from transformers import Trainer, get_linear_schedule_with_warmup

from tests.helpers.models import EVERY_FAMILY, EVERY_VARIANT, small_model
from trainer.config.schema import OptimConfig
from trainer.loop.optim import build_optimizer, build_schedule, lr_factor, parameter_groups

LINEAR = [(0, 10), (1, 10), (3, 10), (9, 10), (1000, 2900), (290, 2900), (0, 1)]


@pytest.mark.parametrize(("warmup_steps", "total_steps"), LINEAR)
def test_factor_equals_transformers_at_every_step(warmup_steps: int, total_steps: int) -> None:
    """Reference: get_linear_schedule_with_warmup's lambda; float64 and the same two divisions: 1e-12 relative."""
    theirs = get_linear_schedule_with_warmup(torch.optim.SGD([torch.zeros(1)], lr=1.0), warmup_steps, total_steps)
    for step in range(total_steps + 3):
        expected = theirs.lr_lambdas[0](step)
        assert lr_factor(step, warmup_steps, total_steps) == pytest.approx(expected, rel=1e-12, abs=0), step


def test_learning_rate_of_every_update_equals_transformers() -> None:
    """Reference: the same scheduler stepped beside ours: 0 at first, the peak after the warm-up, 0 at the end."""
    ours = torch.optim.SGD([torch.zeros(1)], lr=1e-4)
    theirs = torch.optim.SGD([torch.zeros(1)], lr=1e-4)
    schedules = [build_schedule(ours, 3, 10), get_linear_schedule_with_warmup(theirs, 3, 10)]
    rates = []
    for _ in range(11):
        rates.append(ours.param_groups[0]["lr"])
        assert rates[-1] == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12, abs=0)
        ours.step(), theirs.step()
        for schedule in schedules:
            schedule.step()
    assert (rates[0], rates[3], rates[10]) == (0.0, 1e-4, 0.0)
    assert rates.index(max(rates)) == 3


@EVERY_VARIANT
def test_decayed_parameters_are_those_of_transformers_trainer(family: str, norm: str) -> None:
    """Reference: Trainer.get_decay_parameter_names, by name."""
    model = small_model(family, norm)
    names = {id(p): name for name, p in model.hf.named_parameters()}
    decayed, plain = parameter_groups(model, 0.005)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.005, 0.0)
    theirs = set(Trainer.get_decay_parameter_names(None, model.hf))
    assert {names[id(p)] for p in decayed["params"]} == theirs
    assert {names[id(p)] for p in plain["params"]} == set(names.values()) - theirs
    assert theirs
    assert len(decayed["params"]) + len(plain["params"]) == len(names)


def test_batch_norm_is_not_decayed() -> None:
    """Some HuBERTs normalise their positional convolution by batch norm."""
    model = small_model("hubert", conv_pos_batch_norm=True)
    batch_norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d)]
    assert batch_norms
    decayed = {id(p) for p in parameter_groups(model, 0.1)[0]["params"]}
    assert decayed.isdisjoint(id(p) for m in batch_norms for p in m.parameters())


@EVERY_FAMILY
def test_frozen_parameters_are_in_no_group(family: str) -> None:
    model = small_model(family, freeze_feature_encoder=True)
    grouped = [id(p) for group in parameter_groups(model, 0.1) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert len(set(grouped)) == len(grouped)


def test_optimizer_is_the_reference_runs_adam() -> None:
    """Reference: the model card (betas 0.9/0.999, epsilon 1e-8), fused so that found_inf is heeded."""
    optimizer = build_optimizer(small_model(), OptimConfig(lr=3e-4, weight_decay=0.005))
    assert isinstance(optimizer, torch.optim.AdamW)
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.005, 0.0]
    for group in optimizer.param_groups:
        assert (group["lr"], group["betas"], group["eps"]) == (3e-4, (0.9, 0.999), 1e-8)
        assert group["fused"] is True
        assert not group["amsgrad"]


def test_update_equals_the_formula_of_adamw() -> None:
    """Reference: Loshchilov & Hutter 2019, algorithm 2, in float64, three steps; tolerance 1e-12."""
    lr, decay, beta1, beta2, eps = 0.1, 0.05, 0.9, 0.999, 1e-8
    layer = nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.5, -2.0]]))
    optimizer = build_optimizer(layer, OptimConfig(lr=lr, weight_decay=decay))
    weights, m, v = [0.5, -2.0], [0.0, 0.0], [0.0, 0.0]
    for t, gradient in enumerate([(1.0, -3.0), (0.5, 2.0), (-1.0, 0.25)], 1):
        layer.weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        for i, g in enumerate(gradient):
            m[i] = beta1 * m[i] + (1 - beta1) * g
            v[i] = beta2 * v[i] + (1 - beta2) * g * g
            step = (m[i] / (1 - beta1**t)) / (math.sqrt(v[i] / (1 - beta2**t)) + eps)
            weights[i] = weights[i] * (1 - lr * decay) - lr * step
    torch.testing.assert_close(layer.weight.detach(), torch.tensor([weights], dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("steps_before", [0, 2])
@pytest.mark.parametrize("bad", [math.nan, math.inf, 1.0])
def test_found_inf_leaves_weights_moments_and_step_as_they_were(steps_before: int, bad: float) -> None:
    """What the loop relies on: torch's fused AdamW on this device skips the update, whatever the gradient holds."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    optimizer = build_optimizer(model, OptimConfig(lr=0.1, weight_decay=0.5))

    def update(gradient: float, found_inf: float) -> None:
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, gradient)
        optimizer.found_inf, optimizer.grad_scale = torch.tensor(found_inf), None
        optimizer.step()

    def snapshot() -> tuple[dict, dict]:
        return copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict()["state"])

    for _ in range(steps_before):
        update(0.3, 0.0)
    weights, moments = snapshot()
    update(bad, 1.0)
    skipped_weights, skipped_moments = snapshot()
    assert all(torch.equal(weights[name], skipped_weights[name]) for name in weights)
    for i, state in skipped_moments.items():
        for key, tensor in state.items():
            # moments that a first, skipped step creates are zeros
            assert torch.equal(tensor, moments[i][key] if i in moments else torch.zeros_like(tensor)), (i, key)
    update(0.3, 0.0)
    after, _ = snapshot()
    assert all(not torch.equal(after[name], weights[name]) for name in weights)
    assert {float(s["step"]) for s in optimizer.state.values()} == {steps_before + 1.0}


def test_skipping_steps_is_invisible_to_the_next_one() -> None:
    """Reference: the same gradients without the skipped one between them; equal to the bit."""

    def train(gradients: list[tuple[float, float]]) -> torch.Tensor:
        layer = nn.Linear(3, 2)
        nn.init.constant_(layer.weight, 0.7)
        optimizer = build_optimizer(layer, OptimConfig(lr=0.01, weight_decay=0.1))
        for gradient, found_inf in gradients:
            layer.weight.grad, layer.bias.grad = torch.full((2, 3), gradient), torch.full((2,), gradient)
            optimizer.found_inf, optimizer.grad_scale = torch.tensor(found_inf), None
            optimizer.step()
        return layer.weight.detach()

    assert torch.equal(train([(0.2, 0.0), (math.nan, 1.0), (-0.1, 0.0)]), train([(0.2, 0.0), (-0.1, 0.0)]))
    assert not torch.equal(train([(0.2, 0.0), (0.5, 0.0), (-0.1, 0.0)]), train([(0.2, 0.0), (-0.1, 0.0)]))


def test_transformers_still_builds_its_groups_from_that_method() -> None:
    """A control on the reference: were create_optimizer to stop asking it, the comparison above would be empty."""
    assert "get_decay_parameter_names" in inspect.getsource(Trainer.create_optimizer)
