"""AdamW with moments of 8 bits: an update applied whole or not at all, and a state that goes on to the same bits.

pytest tests/trainer/loop/test_moments.py
"""

from __future__ import annotations

import copy
import math
import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.steps import EXAMPLES, loader_of, make_parts, poisoned, run_fit, small_model
from trainer.config.schema import OptimConfig, TrainConfig
from trainer.errors import CheckpointError, ConfigError
from trainer.loop.optim import AdamW8bit, allocate_moments, build_optimizer, build_schedule
from trainer.loop.state import TrainState
from trainer.loop.step import TrainingParts
from trainer.rundir.checkpoints.restore import newest_valid, restore
from trainer.rundir.checkpoints.saving import Saver
from trainer.rundir.reading import checkpoints

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIM = OptimConfig(lr=1e-2, weight_decay=0.01, moments="8bit")


def layers(seed: int = 0) -> nn.Sequential:
    """A matrix of 8192 values, whose moments take 8 bits, and a bias of 64 and a norm, whose moments take 32."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(128, 64), nn.LayerNorm(64))


def set_gradients(model: nn.Module, seed: int, scale: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = scale * torch.randn(p.shape, generator=generator)


def update(optimizer: torch.optim.AdamW, found_inf: float = 0.0, grad_scale: float | None = None) -> None:
    optimizer.found_inf = torch.tensor(found_inf)  # type: ignore[attr-defined]
    optimizer.grad_scale = None if grad_scale is None else torch.tensor(grad_scale)  # type: ignore[attr-defined]
    optimizer.step()


def test_the_first_update_is_adamws_and_later_ones_stay_near() -> None:
    """Reference: torch's AdamW. At first both moments are zero, so their precision does not count: equal to rounding.
    Later the distance is a small part of the way."""
    eight, full = layers(), layers()
    start = copy.deepcopy(full)
    optimizers = build_optimizer(eight, OPTIM), build_optimizer(full, OptimConfig(lr=1e-2, weight_decay=0.01))
    for i in range(30):
        for model, optimizer in zip((eight, full), optimizers, strict=True):
            set_gradients(model, seed=i % 7)
            update(optimizer)
        if i == 0:
            for a, b in zip(eight.parameters(), full.parameters(), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    for a, b, c in zip(eight.parameters(), full.parameters(), start.parameters(), strict=True):
        assert (a - b).norm() < 0.1 * (b - c).norm()
    assert not torch.equal(eight[0].weight, full[0].weight)


@pytest.mark.parametrize("steps_before", [0, 2])
@pytest.mark.parametrize("bad", [math.nan, math.inf, 1.0])
def test_found_inf_leaves_weights_and_state_as_they_were(steps_before: int, bad: float) -> None:
    model = layers()
    optimizer = build_optimizer(model, OPTIM)
    for i in range(steps_before):
        set_gradients(model, i)
        update(optimizer)
    set_gradients(model, 9, bad)
    allocate_moments(optimizer)  # as the loop does before every update
    weights = copy.deepcopy(model.state_dict())
    states = [{k: t.clone() for k, t in optimizer.state[p].items()} for p in model.parameters()]
    update(optimizer, found_inf=1.0)
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    for p, before in zip(model.parameters(), states, strict=True):
        assert optimizer.state[p].keys() == before.keys()
        assert all(torch.equal(optimizer.state[p][key], before[key]) for key in before)
        assert before["step"] == steps_before


def test_the_gradient_is_divided_by_its_scale_as_it_is_read() -> None:
    """Reference: the same gradients without a scale; 64 is a power of 2, so to the bit."""
    plain, scaled = layers(), layers()
    for model, scale in ((plain, 1.0), (scaled, 64.0)):
        optimizer = build_optimizer(model, OPTIM)
        for i in range(3):
            set_gradients(model, i, scale)
            update(optimizer, grad_scale=scale)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), scaled.parameters(), strict=True))


def test_moments_take_two_bytes_a_value_and_a_scale_each_256() -> None:
    model = layers()
    optimizer = build_optimizer(model, OPTIM)
    set_gradients(model, 0)
    allocate_moments(optimizer)
    sizes = [sum(t.nbytes for t in optimizer.state[p].values()) for p in model.parameters()]
    assert sizes == [2 * 8192 + 2 * 4 * 32 + 4, 2 * 4 * 64 + 4, 2 * 4 * 64 + 4, 2 * 4 * 64 + 4]


def test_a_block_without_gradient_stays_a_number() -> None:
    """Its scale is 0: the matrices A of low-rank updates have no gradient in the first step."""
    model = layers()
    optimizer = build_optimizer(model, OPTIM)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    update(optimizer)
    set_gradients(model, 0)
    update(optimizer)
    assert all(p.isfinite().all() for p in model.parameters())


def parts_of() -> TrainingParts:
    model = small_model(hidden_size=64, hidden_dropout=0.1)
    parts = make_parts(model, 8)
    parts.optimizer = build_optimizer(model, OPTIM)
    parts.scheduler = build_schedule(parts.optimizer, 3, 8)
    return parts


def snapshot(parts: TrainingParts) -> list[Tensor]:
    moments = [t.clone() for p in parts.model.parameters() for _, t in sorted(parts.optimizer.state.get(p, {}).items())]
    return [*(t.clone() for t in parts.model.state_dict().values()), *moments]


def test_a_run_goes_on_from_every_step_to_the_same_bits(tmp_path: Path) -> None:
    """Reference: the run that was not stopped. One step is skipped, since an utterance is not finite."""
    examples = [*EXAMPLES[:3], poisoned(EXAMPLES[3]), EXAMPLES[4]]
    loader, config = loader_of(examples, accum=2), TrainConfig(log_every=1, eval_every=0, save_every=1)
    whole, state = parts_of(), TrainState()
    saver = Saver(tmp_path, 8, {"options": {}, "content": {}, "tokens": ["a"]}, print)
    log = run_fit(whole, loader, config, 6, state=state, save=lambda: saver.save(whole, state))
    assert saver.finish()
    assert len(log.skips) > 0
    assert any(t.dtype is torch.uint8 for t in snapshot(whole))
    for step in (1, 3, 5):
        shutil.copytree(tmp_path / "checkpoints", tmp_path / str(step) / "checkpoints")
        for number, folder in checkpoints(tmp_path / str(step)):
            if number > step:
                shutil.rmtree(folder)
        found = newest_valid(tmp_path / str(step), print)
        assert found is not None
        again = parts_of()
        resumed = restore(*found, again)
        assert resumed.step == step
        run_fit(again, loader, config, 6, state=resumed)
        assert all(torch.equal(a, b) for a, b in zip(snapshot(again), snapshot(whole), strict=True)), step


def test_moments_of_the_other_kind_are_refused(tmp_path: Path) -> None:
    parts, full = parts_of(), make_parts(small_model(hidden_size=64))
    set_gradients(parts.model, 0)
    update(parts.optimizer)
    saver = Saver(tmp_path, 8, {"options": {}, "content": {}, "tokens": ["a"]}, print)
    saver.save(parts, TrainState(step=1))
    assert saver.finish()
    found = newest_valid(tmp_path, print)
    assert found is not None
    with pytest.raises(CheckpointError, match="of another shape or kind"):
        restore(*found, full)


def test_without_bitsandbytes_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bitsandbytes", "bitsandbytes.functional"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"8bit needs the package bitsandbytes .*: pip install bitsandbytes$"):
        build_optimizer(layers(), OPTIM)


def test_fp32_moments_are_torchs_own_optimizer() -> None:
    assert type(build_optimizer(layers(), OptimConfig(lr=1.0))) is torch.optim.AdamW
    assert isinstance(build_optimizer(layers(), OPTIM), AdamW8bit)
