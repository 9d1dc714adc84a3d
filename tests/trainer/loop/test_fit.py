"""The training step and the loop, on a model small enough to run in milliseconds."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
import torch
from torch.amp import GradScaler

from data.examples.prepare import Example
from data.randomness import derive_seed
from data.utterance import Utterance
from models.ctc import ctc_loss_per_utterance
from tests.helpers.steps import (
    EXAMPLES,
    gradient_of_step,
    loader_of,
    make_batch,
    make_parts,
    poisoned,
    run_fit,
    small_model,
)
from trainer.config.schema import TrainConfig
from trainer.loop.fit import finish_previous_step
from trainer.loop.optim import lr_factor
from trainer.loop.state import TrainState
from trainer.loop.step import train_step
from trainer.scoring.scores import Scores


def test_accumulated_gradient_equals_one_large_batch() -> None:
    """Five uneven utterances as 1+3+1 microbatches, against all in one batch; 1e-5 of its norm is fp32 rounding.

    The mean of the microbatches' means, which peers take, is more than 5 % away: the control.
    """
    whole = gradient_of_step([[0, 1, 2, 3, 4]])
    split = gradient_of_step([[3], [0, 1, 2], [4]])
    assert (split - whole).norm() < 1e-5 * whole.norm()
    mean_of_means = sum(gradient_of_step([b]) for b in ([3], [0, 1, 2], [4])) / 3
    assert (mean_of_means - whole).norm() > 0.05 * whole.norm()


def test_the_loss_of_a_step_is_the_mean_over_its_utterances_however_they_are_batched() -> None:
    """Five uneven utterances as 1+3+1 microbatches, against all in one batch; 1e-5 is fp32 rounding."""
    losses = [
        train_step(make_parts(small_model()), [make_batch(b) for b in batches], 1.0, lambda: None).loss.item()
        for batches in ([[0, 1, 2, 3, 4]], [[3], [0, 1, 2], [4]])
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_a_step_whose_loss_alone_is_not_finite_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient is as it should be: an infinite loss that was added behind it must be enough."""
    original = ctc_loss_per_utterance

    def with_infinity(*args: object, **options: object) -> torch.Tensor:
        nats = original(*args, **options)  # type: ignore[arg-type]
        return nats + torch.tensor([0.0, math.inf])

    monkeypatch.setattr("trainer.loop.step.ctc_loss_per_utterance", with_infinity)
    parts, state, skips = make_parts(small_model()), TrainState(), []
    before = [p.detach().clone() for p in parts.model.parameters()]
    result = train_step(parts, [make_batch([0, 1])], 1.0, lambda: None)
    finish_previous_step(result, parts, state, 25, skips.append)
    assert math.isfinite(result.grad_norm.item())
    assert state.num_skipped == 1
    assert skips[0].culprits() == ["u1"]
    assert all(torch.equal(a, b) for a, b in zip(before, parts.model.parameters(), strict=True))


def test_blank_share_is_that_of_real_frames_utterance_by_utterance() -> None:
    """Reference: each utterance alone, counted in Python; no dropout; padding would be all blank."""
    parts, shares = make_parts(small_model()), []
    with torch.no_grad():
        parts.model.hf.lm_head.weight.mul_(50)
        parts.model.hf.lm_head.bias[parts.model.blank_id] = 6.0
        for i in range(5):
            batch = make_batch([i])
            units = parts.model(batch.waveforms, batch.frame_lengths, is_padded=False)[0].argmax(-1).tolist()
            shares.append(sum(unit == parts.model.blank_id for unit in units) / len(units))
    assert max(shares) < 0.8
    result = train_step(parts, [make_batch([3]), make_batch([0, 1, 2, 4])], 1.0, lambda: None, is_logged=True)
    assert result.blank_share.item() == pytest.approx(sum(shares) / 5)


def test_loss_is_transformers_mean_reduction() -> None:
    """Against the loss that transformers' own class returns for the batch; 1e-6 is fp32 rounding."""
    model, batch = small_model(), make_batch([0, 1, 2, 3, 4])
    parts = make_parts(model)
    labels = batch.targets.clone()
    for row, length in enumerate(batch.target_lengths):
        labels[row, length:] = -100
    mask = (torch.arange(batch.waveforms.shape[1]) < batch.waveform_lengths[:, None]).long()
    model.train()
    expected = model.hf(batch.waveforms, attention_mask=mask, labels=labels).loss
    result = train_step(parts, [batch], 1.0, lambda: None)
    assert result.loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_clipping_bounds_the_update_by_max_grad_norm() -> None:
    parts = make_parts(small_model())
    parts.model.train()
    norms: list[float] = []
    original = parts.optimizer.step

    def step() -> None:
        grads = [p.grad.norm() for p in parts.model.parameters() if p.grad is not None]
        norms.append(torch.stack(grads).norm().item())
        original()

    parts.optimizer.step = step  # type: ignore[method-assign]
    result = train_step(parts, [make_batch([0, 1])], 0.5, lambda: None)
    assert result.grad_norm.item() > 0.5
    assert norms[0] == pytest.approx(0.5, rel=1e-4)


def test_a_step_with_nan_changes_nothing_and_names_the_utterance() -> None:
    parts = make_parts(small_model())
    parts.model.train()
    state, skips = TrainState(), []
    train_step(parts, [make_batch([0, 1])], 1.0, lambda: None)
    parts.scheduler.step()

    def snapshot() -> list[torch.Tensor]:
        moments = [v.clone() for s in parts.optimizer.state.values() for v in s.values()]
        return [p.detach().clone() for p in parts.model.parameters()] + moments

    before, epoch = snapshot(), parts.scheduler.last_epoch
    examples = [EXAMPLES[0], poisoned(EXAMPLES[1]), EXAMPLES[2]]
    result = train_step(parts, [make_batch([0], examples), make_batch([1, 2], examples)], 1.0, lambda: None)
    finish_previous_step(result, parts, state, 25, skips.append)
    assert all(torch.equal(a, b) for a, b in zip(before, snapshot(), strict=True))
    assert (state.num_skipped, parts.scheduler.last_epoch) == (1, epoch)
    assert skips[0].culprits() == ["u1"]


def test_fp16_overflow_skips_the_step_lowers_the_scale_and_keeps_the_schedule() -> None:
    """A CPU GradScaler stands in for CUDA's: one gradient is made infinite through a hook, as overflow does."""
    scaler = GradScaler("cpu", init_scale=1024.0)
    parts = make_parts(small_model(), scaler=scaler)
    parts.model.train()
    state = TrainState()
    weight = parts.model.hf.lm_head.weight
    handle = weight.register_hook(lambda grad: grad * math.inf)
    before = weight.detach().clone()
    finish_previous_step(train_step(parts, [make_batch([0, 1])], 1.0, lambda: None), parts, state, 25, lambda r: None)
    assert torch.equal(weight, before)
    assert (scaler.get_scale(), parts.scheduler.last_epoch, state.num_skipped) == (512.0, 0, 1)
    handle.remove()
    for _ in range(2):  # the warm-up's first rate is 0
        finish_previous_step(
            train_step(parts, [make_batch([0, 1])], 1.0, lambda: None), parts, state, 25, lambda r: None
        )
    assert not torch.equal(weight, before)
    assert (scaler.get_scale(), parts.scheduler.last_epoch, state.num_skipped) == (512.0, 2, 1)


def test_scaled_gradient_is_unscaled_before_clipping() -> None:
    """The same update with a scale of 1024 as without; power-of-two scaling is exact in fp32."""
    updated = []
    for scaler in (GradScaler("cpu", enabled=False), GradScaler("cpu", init_scale=1024.0)):
        parts = make_parts(small_model(), scaler=scaler)
        parts.model.train()
        for _ in range(3):
            finish_previous_step(
                train_step(parts, [make_batch([0, 1])], 0.1, lambda: None), parts, TrainState(), 25, lambda r: None
            )
        updated.append(torch.cat([p.detach().flatten() for p in parts.model.parameters()]))
    assert torch.equal(*updated)


def test_every_step_is_told_whether_or_not_it_is_logged() -> None:
    """So a bar moves between two logs."""
    parts = make_parts(small_model())
    log = run_fit(parts, loader_of(EXAMPLES), TrainConfig(log_every=100, eval_every=0, save_every=0), 7)
    assert log.begun == [1, 2, 3, 4, 5, 6, 7]
    assert len(log.losses) == 1


def test_learning_rate_of_each_step_is_the_schedules() -> None:
    parts = make_parts(small_model(), total_steps=10)
    log = run_fit(parts, loader_of(EXAMPLES), TrainConfig(log_every=1, eval_every=0, save_every=0), 10)
    assert log.lrs == [pytest.approx(1e-2 * lr_factor(step, 3, 10)) for step in range(10)]


def test_a_skipped_step_holds_the_schedule_back_by_one() -> None:
    """Three utterances, one of them poisoned, one a batch: a step in three is skipped and takes no learning rate."""
    examples = [EXAMPLES[0], poisoned(EXAMPLES[1]), EXAMPLES[2]]
    parts, state = make_parts(small_model(), total_steps=9), TrainState()
    log = run_fit(parts, loader_of(examples, batch_size=1), TrainConfig(log_every=1, save_every=0), 9, state=state)
    assert (state.step, state.num_skipped, parts.scheduler.last_epoch) == (9, 3, 6)
    assert [r.culprits() for r in log.skips] == [["u1"]] * 3
    applied = [lr for lr, loss in zip(log.lrs, log.losses, strict=True) if math.isfinite(loss)]
    assert applied == [pytest.approx(1e-2 * lr_factor(step, 3, 9)) for step in range(6)]


def test_the_step_before_is_settled_before_the_weights_move() -> None:
    """At the moment `before_update` runs, gradients exist and no parameter has changed."""
    parts = make_parts(small_model())
    parts.model.train()
    before = [p.detach().clone() for p in parts.model.parameters()]
    seen: list[bool] = []

    def check() -> None:
        unchanged = all(torch.equal(a, b) for a, b in zip(before, parts.model.parameters(), strict=True))
        seen.append(unchanged and parts.model.hf.lm_head.weight.grad is not None)

    train_step(parts, [make_batch([0])], 1.0, check)
    assert seen == [True]


def test_due_times_follow_the_step_and_the_end_is_always_evaluated_and_saved() -> None:
    evaluated, saved, state = [], [], TrainState()

    def score() -> Scores:
        evaluated.append(state.step)
        return Scores("dev", (), 0.0, 0.0, {})

    config = TrainConfig(eval_every=4, save_every=5, log_every=3)
    run_fit(make_parts(small_model()), loader_of(EXAMPLES), config, 11, state=state, score=score,
            save=lambda: saved.append(state.step))  # fmt: skip
    assert (evaluated, saved) == ([4, 8, 11], [5, 10, 11])


def test_patience_ends_the_run_after_that_many_evaluations_without_gain() -> None:
    """The WER of no utterances is always 0: the first evaluation is the best, the third in a row without gain ends."""
    saved, state = [], TrainState()
    config = TrainConfig(eval_every=2, save_every=0, patience=3)
    run_fit(
        make_parts(small_model()), loader_of(EXAMPLES), config, 20, state=state, save=lambda: saved.append(state.step)
    )
    assert (state.step, saved) == (8, [8])


def test_dropout_depends_on_step_and_seed_alone() -> None:
    """Two runs whose global random state differs beforehand give the same losses; another seed does not."""
    curves = []
    for noise, seed in ((0, 7), (99, 7), (0, 8)):
        torch.manual_seed(noise)
        loader = loader_of(EXAMPLES)
        object.__setattr__(loader.plan, "seed", seed)
        parts = make_parts(small_model(hidden_dropout=0.3, layerdrop=0.3))
        curves.append(run_fit(parts, loader, TrainConfig(log_every=1, save_every=0), 6).losses)
    assert curves[0] == curves[1] != curves[2]


def test_every_step_has_a_dropout_of_its_own() -> None:
    """One utterance, and weights that stay as they are: what differs from step to step is dropout alone.

    Reference: the loss of the same step by itself, from the seed that is derived for it.
    """
    parts = make_parts(small_model(hidden_dropout=0.3))
    parts.scheduler.base_lrs = [0.0, 0.0]
    for group in parts.optimizer.param_groups:
        group["lr"] = 0.0
    loader = loader_of(EXAMPLES[:1], batch_size=1)
    losses = run_fit(parts, loader, TrainConfig(log_every=1, save_every=0, eval_every=0), 5).losses
    assert len(set(losses)) == 5
    alone = make_parts(small_model(hidden_dropout=0.3))
    alone.model.train()
    for step, loss in enumerate(losses):
        result = train_step(alone, [make_batch([0])], 1.0, lambda: None, derive_seed(7, "step", step))
        alone.model.load_state_dict(parts.model.state_dict())
        assert result.loss.item() == loss


def test_four_utterances_are_learned_by_heart() -> None:
    """Overfitting a fixed batch, a tone a unit: under 0.5 nats a unit after 150 steps, from over 2 at the start."""
    rng, examples = random.Random(0), []
    for i in range(4):
        targets = tuple(rng.randrange(5) for _ in range(2 + i))
        times, pause = np.arange(800) / 16_000, np.zeros(400)
        tones = [np.append(np.sin(2 * np.pi * 400 * (unit + 1) * times), pause) for unit in targets]
        wave = np.concatenate(tones).astype(np.float32)
        examples.append(Example(Utterance(f"u{i}", None, ""), "", targets, len(wave), wave.copy))  # type: ignore[arg-type]
    parts = make_parts(small_model(initializer_range=0.25), total_steps=150)
    config = TrainConfig(save_every=0, eval_every=0, log_every=1)
    losses = run_fit(parts, loader_of(examples, batch_size=4, epochs=150), config, 150).losses
    assert losses[0] > 2
    assert losses[-1] < 0.5


def test_last_step_of_an_epoch_weighs_its_utterances_not_its_microbatches() -> None:
    """Five utterances in microbatches of 2 with 2 a step: the epoch's second step has one utterance, fully weighed."""
    loader = loader_of(EXAMPLES, batch_size=2, accum=2)
    sizes = [sum(len(b.ids) for b in batches) for _, batches, _ in itertools.islice(loader.steps(0, 0), 4)]
    assert sorted(sizes[:2]) in ([1, 4], [2, 3])
    assert sum(sizes[:2]) == sum(sizes[2:]) == 5
