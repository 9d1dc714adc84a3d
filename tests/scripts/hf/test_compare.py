"""Our training step against a real transformers.Trainer: same checkpoint, same utterances, same order.

pytest tests/scripts/hf/test_compare.py. Small models; `python -m scripts.hf.compare_hf_trainer` does the same at 200
steps.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.ctc import CTCModel
from scripts.hf.comparisons import deviation
from scripts.hf.equality import Recipe, load_hf, plan, tone_examples, train_hf, train_ours, write_checkpoint
from scripts.hf.faults import Overflow, compare_accumulation, hf_overflow, our_overflow
from scripts.hf.masks import CASES, MaskCase, compare_masks, ks_distance, run_lengths
from scripts.hf.transcripts import transcribe_hf, transcribe_ours
from tests.helpers.models import make_talkative

SMALL: dict[str, Any] = dict(
    hidden_size=48, intermediate_size=96, num_attention_heads=4, num_hidden_layers=2, conv_dim=(8, 8, 8, 16, 16, 16, 16)
)
EXAMPLES = tone_examples(24, seed=3)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("unispeech"), "unispeech", "layer", warm_up=20, **SMALL)


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(Recipe(), id="warm-up, decay, clipping, weight decay"),
        pytest.param(Recipe(specaugment=True), id="specaugment, same masks", marks=pytest.mark.slow),
        pytest.param(Recipe(warmup_steps=0, max_grad_norm=1e9, weight_decay=0.0), id="plain", marks=pytest.mark.slow),
    ],
)
def test_twenty_steps_equal_the_trainers(checkpoint: Path, recipe: Recipe) -> None:
    """Losses to 1e-6 in fp32. fp32 gradient norms of one side are a few 1e-6 off those in fp64, hence 2e-5."""
    batches = plan(EXAMPLES, recipe)
    found = deviation(train_ours(checkpoint, batches, recipe), train_hf(checkpoint, batches, recipe))
    assert found.same_lrs
    assert found.loss < 1e-6
    assert found.norm < 2e-5


def test_with_transformers_modules_and_one_order_of_the_norm_every_step_is_the_same_bits(checkpoint: Path) -> None:
    """All that is ours then is the step: loss, accumulation, clipping, AdamW, schedule. Bit for bit, twenty steps."""
    recipe = Recipe(hf_modules=True, same_norm_order=True)
    batches = plan(EXAMPLES, recipe)
    ours, theirs = train_ours(checkpoint, batches, recipe), train_hf(checkpoint, batches, recipe)
    assert (ours.losses, ours.grad_norms, ours.lrs) == (theirs.losses, theirs.grad_norms, theirs.lrs)
    assert all(torch.equal(weight, theirs.weights[name]) for name, weight in ours.weights.items())


def test_twenty_steps_in_double_precision_equal_the_trainers(checkpoint: Path) -> None:
    """What rounding allows: 1e-15 a step, amplified by training; weights too."""
    recipe = Recipe(double=True, planned_steps=20)
    batches = plan(EXAMPLES, recipe)
    ours, theirs = train_ours(checkpoint, batches, recipe), train_hf(checkpoint, batches, recipe)
    found = deviation(ours, theirs)
    assert max(found.loss, found.norm) < 1e-10
    assert ours.weights.keys() == theirs.weights.keys()
    for name, weight in ours.weights.items():
        torch.testing.assert_close(weight, theirs.weights[name], rtol=1e-8, atol=1e-10, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "norm"), [("wav2vec2", "group"), ("hubert", "layer"), ("wavlm", "layer")])
def test_other_families_train_as_under_the_trainer(family: str, norm: str, tmp_path: Path) -> None:
    """fp64, five steps. Group norm on unpadded batches: the Trainer scores the padding there (see below)."""
    folder = write_checkpoint(tmp_path, family, norm, warm_up=0, **SMALL)
    recipe = Recipe(steps=5, double=True, equal_lengths=norm == "group")
    batches = plan(EXAMPLES, recipe)
    found = deviation(train_ours(folder, batches, recipe), train_hf(folder, batches, recipe))
    assert max(found.loss, found.norm) < 1e-10


@pytest.mark.slow
def test_two_hundred_steps_stay_beside_the_trainers(checkpoint: Path) -> None:
    """To 1e-4 in fp32 at every step; 200 steps through warm-up and decay to nearly 0."""
    recipe = Recipe(steps=200)
    batches = plan(EXAMPLES, recipe)
    found = deviation(train_ours(checkpoint, batches, recipe), train_hf(checkpoint, batches, recipe))
    assert max(found.loss, found.norm) < 1e-4


def test_with_group_norm_the_trainer_scores_the_padding_and_we_do_not(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, "wav2vec2", "group", warm_up=0, **SMALL)
    recipe = Recipe(steps=1)
    batches = plan(EXAMPLES, recipe)
    theirs = train_hf(folder, batches, recipe).losses[0]
    told = train_ours(folder, batches, replace(recipe, score_padding=True)).losses[0]
    assert told == pytest.approx(theirs, rel=1e-6)
    assert train_ours(folder, batches, recipe).losses[0] != pytest.approx(theirs, rel=1e-2)


def test_accumulated_gradient_equals_the_large_batchs_and_the_trainers_does_not(checkpoint: Path) -> None:
    """The large batch is the same on both sides; four microbatches make the Trainer's gradient four times as long."""
    found = compare_accumulation(checkpoint, EXAMPLES, microbatches=4, size=2)
    assert found.ours_large == pytest.approx(found.hf_large, rel=2e-5)
    assert found.ours_accumulated == pytest.approx(found.ours_large, rel=1e-4)
    assert found.hf_accumulated == pytest.approx(4 * found.hf_large, rel=1e-3)


def test_schedule_stays_with_the_updates_after_an_overflow(checkpoint: Path) -> None:
    """Four steps of which one overflows: with fused AdamW accelerate's schedule moves on four times."""
    assert our_overflow(checkpoint, EXAMPLES) == Overflow(updates=3, schedule_steps=3)
    assert hf_overflow(fused=True) == Overflow(updates=3, schedule_steps=4)
    assert hf_overflow(fused=False) == Overflow(updates=3, schedule_steps=3)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_masks_agree_in_distribution_with_transformers(case: MaskCase) -> None:
    """2,000 draws on each side (10,000 in the script), Kolmogorov-Smirnov at one in a thousand; seeds are fixed."""
    found = compare_masks(case, 2000)
    assert found.agrees, found


def test_masks_of_another_probability_are_told_apart() -> None:
    """The comparison can fail: 0.05 against 0.15, drawn on one side each."""
    few = compare_masks(MaskCase(0.05, 5, 0, 100), 500)
    many = compare_masks(MaskCase(0.15, 5, 0, 100), 500)
    assert abs(few.share[0] - many.share[1]) > 0.05
    assert ks_distance([1] * 500, [1] * 250 + [3] * 250) == 0.5
    assert run_lengths(np.array([0, 1, 1, 0, 1], dtype=bool)) == [2, 1]


def test_same_weights_write_the_same_transcripts(tmp_path: Path) -> None:
    """Ours in batches of 4, the Trainer's one at a time: its larger batches decode padded frames too."""
    folder = write_checkpoint(tmp_path, "unispeech", "layer", warm_up=0, **SMALL)
    talkative = make_talkative(CTCModel(load_hf(folder, Recipe()), freeze_feature_encoder=False).eval())
    talkative.hf.save_pretrained(folder)
    ours, theirs = transcribe_ours(folder, EXAMPLES, 4), transcribe_hf(folder, EXAMPLES, 1)
    assert len(set(ours.texts)) == len(EXAMPLES), "the model writes too little to compare"
    assert ours.texts == theirs.texts
    assert ours.wer == theirs.wer
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
