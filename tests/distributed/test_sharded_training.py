"""A model that is spread over 1, 2 and 4 forked processes (FSDP) against the same training in one process."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.amp import GradScaler

from tests.helpers.models import VOCAB, padded_batch, small_model
from tests.helpers.sharded import CPU, in_ranks, loader_for, trained, training_parts, whole_weights
from trainer.loop.gradients import Gradients
from trainer.loop.step import TrainingParts, train_step
from trainer.parallel.sharding import shard, spread_again
from trainer.parallel.world import ALONE, World

pytestmark = pytest.mark.distributed

CASES: dict[str, dict[str, Any]] = {
    "fp64": dict(accum=2),
    "fp32": dict(dtype=torch.float32, lr=1e-5, initializer_range=0.05),
    "wavlm, activation checkpointing": dict(family="wavlm", checkpointing=True),
    "group norm, frozen": dict(family="hubert", norm="group", frozen=True),
    "LayerDrop, summed once a step": dict(layerdrop=0.4, accum=2, reduces_once=True),
}


@pytest.mark.parametrize(
    ("case", "size"),
    [("fp64", 1), ("fp64", 2), ("fp64", 4), ("fp32", 2), ("wavlm, activation checkpointing", 2),
     ("group norm, frozen", 3), ("LayerDrop, summed once a step", 2)],
)  # fmt: skip
def test_spread_training_equals_one_process(case: str, size: int, tmp_path: Path, one_thread: None) -> None:
    """Loss, norms of all parts, and weights of 20 steps: to 1e-9 in fp64, to 1e-6 in fp32 (relative)."""
    options = CASES[case]
    bound = 1e-6 if options.get("dtype") is torch.float32 else 1e-9

    def work(world: World) -> Any:
        figures, parts = trained(world, is_sharded=True, **options)
        torch.save(whole_weights(parts), tmp_path / f"{world.rank}.pt")
        return figures

    by_ranks = in_ranks(size, work, tmp_path)
    figures, parts = trained(**options)
    assert all(of_rank == by_ranks[0] for of_rank in by_ranks)
    assert len(figures) == 20
    np.testing.assert_allclose(by_ranks[0], figures, rtol=bound)
    spread = torch.load(tmp_path / "0.pt", weights_only=True)
    for name, weight in whole_weights(parts).items():
        torch.testing.assert_close(spread[name], weight, rtol=bound, atol=bound)


def test_bf16_weights_are_gathered_as_half_copies_round_them(tmp_path: Path, one_thread: None) -> None:
    """Against one process that keeps copies in bf16. What autocast casts elsewhere (head, projection) is the same too;
    layers see the same rounded weights. Sums over ranks are in fp32, as one process adds up microbatches."""
    model = small_model(freeze_feature_encoder=True)
    model.keep_half_copies(torch.bfloat16)
    batch = padded_batch(model)
    autocast = partial(torch.autocast, "cpu", dtype=torch.bfloat16)
    weight = torch.linspace(-1, 1, len(VOCAB))

    with autocast():
        expected = model(batch.waveforms, batch.frame_lengths)
    leaves = {n: p for n, p in model.named_parameters() if p.requires_grad and "masked" not in n}
    assert model.half_copies is not None
    copies = [model.half_copies.of.get(p, p) for p in leaves.values()]
    gradients = dict(zip(leaves, torch.autograd.grad((expected * weight).sum(), copies), strict=True))

    def work(world: World) -> Any:
        spread = small_model(freeze_feature_encoder=True)
        shard(spread, CPU, torch.bfloat16)
        with autocast():
            logits = spread(batch.waveforms, batch.frame_lengths)
        logits.backward(weight.expand_as(logits) / world.size)
        torch.testing.assert_close(logits, expected, rtol=1e-2, atol=1e-2)
        for name, parameter in spread.named_parameters():
            if name in gradients:
                assert parameter.dtype is parameter.grad.dtype is torch.float32
                found, own = parameter.grad.full_tensor(), gradients[name].float()
                assert (found - own).norm() <= 0.02 * own.norm() + 1e-3, name
        scores = spread_again(spread, CPU)  # closing scores are those of the weights in fp32
        torch.testing.assert_close(
            scores(batch.waveforms, batch.frame_lengths), small_model()(batch.waveforms, batch.frame_lengths)
        )

    in_ranks(2, work, tmp_path)


@pytest.mark.parametrize("scale", [1.0, 65536.0])
def test_update_kernel_clips_and_unscales_shares_as_it_does_the_whole(
    scale: float, tmp_path: Path, one_thread: None
) -> None:
    """As on CUDA: AdamW's fused kernel divides by scale and clipping, and leaves all alone once one loss is bad."""

    def steps(parts: TrainingParts, world: World) -> list[float]:
        parts.gradients.scaled_by_update = True
        parts.scaler = GradScaler("cpu", init_scale=scale, growth_interval=2)
        parts.model.train()
        norms = []
        for (_, batches, _), k in zip(
            loader_for(parts.model, world).steps(0, 0, lambda: False), range(4), strict=False
        ):
            if k == 2 and world.rank == world.size - 1:
                batches = [replace(b, waveforms=b.waveforms * float("nan")) for b in batches]
            result = train_step(parts, batches, 0.1, lambda: None, seed=k)
            parts.scheduler.step()
            norms.append(result.grad_norm.item())
            assert bool(result.outcome.wait()[0]) == (k != 2)
        return [*norms, parts.scaler.get_scale()]

    def work(world: World) -> Any:
        parts = training_parts(small_model(initializer_range=0.05), world, is_sharded=True)
        figures = steps(parts, world)
        torch.save(whole_weights(parts), tmp_path / f"{world.rank}.pt")
        return [str(f) for f in figures]

    alone = training_parts(small_model(initializer_range=0.05))
    alone.gradients = Gradients(alone.model, in_one_buffer=True)
    figures = steps(alone, ALONE)
    by_ranks = in_ranks(2, work, tmp_path)
    np.testing.assert_allclose([float(f) for f in by_ranks[0]], figures, rtol=1e-4)
    assert by_ranks[0] == by_ranks[1]
    assert figures[-1] == scale  # doubled after two good steps, halved after the bad one
    spread = torch.load(tmp_path / "0.pt", weights_only=True)
    for name, weight in whole_weights(alone).items():
        if not name.endswith("k_proj.bias"):  # its gradient is rounding alone, which AdamW makes as large as others
            torch.testing.assert_close(spread[name], weight, rtol=1e-4, atol=1e-4)
