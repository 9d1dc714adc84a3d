"""What needs CUDA: the same numbers as on the CPU, fp16 with GradScaler, the late flag. Run by scripts/gpu_check.py."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.amp import GradScaler

from data.collate import BatchDataset, Frontend
from models.ctc import ctc_loss_per_utterance
from test_loop import EXAMPLES, NUM_FRAMES, loader_of, make_batch, make_parts, run_fit, small_model
from trainer.assemble import autocast_for
from trainer.config import OptimConfig, TrainConfig
from trainer.loop import Parts, settle, train_step
from trainer.optim import build_optimizer, build_schedule
from trainer.state import TrainState

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]
CUDA = torch.device("cuda")


def cuda_parts(precision: str = "fp32", init_scale: float = 1024.0) -> Parts:
    model = small_model().to(CUDA)
    optimizer = build_optimizer(model, OptimConfig(lr=1e-2, weight_decay=0.01))
    scaler = GradScaler("cuda", enabled=precision == "fp16", init_scale=init_scale)
    return Parts(model, optimizer, build_schedule(optimizer, 3, 20), scaler, CUDA, autocast_for(precision, CUDA))


@pytest.fixture(autouse=True)
def no_tf32() -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def test_logits_and_loss_on_cuda_equal_the_cpus() -> None:
    """fp32 without TF32 on both sides; 1e-4 covers other summation orders."""
    batch, model = make_batch([0, 1, 2, 3, 4]), small_model().eval()
    expected = model(batch.waveforms, batch.frame_lengths)
    on_gpu = batch.to(CUDA)
    logits = model.to(CUDA)(on_gpu.waveforms, on_gpu.frame_lengths)
    torch.testing.assert_close(logits.cpu(), expected, rtol=1e-4, atol=1e-4)
    losses = [
        ctc_loss_per_utterance(x, b.frame_lengths, b.targets, b.target_lengths, blank_id=5).cpu()
        for x, b in ((logits, on_gpu), (expected, batch))
    ]
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 0.1), ("fp16", 0.03)])
def test_ten_steps_on_cuda_follow_the_cpus_losses(precision: str, tolerance: float) -> None:
    """The CPU's fp32 curve; the tolerance is the precision's rounding over ten steps."""
    config = TrainConfig(log_every=1, eval_every=0, save_every=0)
    expected = run_fit(make_parts(small_model()), loader_of(EXAMPLES), config, 10).losses
    losses = run_fit(cuda_parts(precision), loader_of(EXAMPLES), config, 10).losses
    assert losses == [pytest.approx(e, rel=tolerance) for e in expected]


def test_fp16_overflow_is_skipped_on_cuda_and_holds_the_schedule() -> None:
    parts, state = cuda_parts("fp16", init_scale=2.0**40), TrainState()  # no fp16 gradient survives that scale
    parts.model.train()
    before = parts.model.hf.lm_head.weight.detach().clone()
    step = partial(train_step, parts, [make_batch([0, 1])], 1.0, lambda: None)
    settle(step(), parts, state, lambda r: None)
    assert torch.equal(parts.model.hf.lm_head.weight, before)
    assert (parts.scaler.get_scale(), parts.scheduler.last_epoch, state.num_skipped) == (2.0**39, 0, 1)


def test_a_bad_step_on_cuda_leaves_moments_and_step_count_alone() -> None:
    parts = cuda_parts()
    parts.model.train()
    train_step(parts, [make_batch([0, 1])], 1.0, lambda: None)
    before = [v.clone() for s in parts.optimizer.state.values() for v in s.values()]
    bad = make_batch([2])
    bad.waveforms[0, 5] = float("nan")
    state = TrainState()
    settle(train_step(parts, [bad], 1.0, lambda: None), parts, state, lambda r: None)
    after = [v for s in parts.optimizer.state.values() for v in s.values()]
    assert state.num_skipped == 1
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_pinned_batches_copy_without_waiting() -> None:
    batch = BatchDataset(EXAMPLES, Frontend(NUM_FRAMES))[0, [0, 1]].pin_memory()
    assert batch.waveforms.is_pinned()
    assert batch.targets.is_pinned()
    assert torch.equal(batch.to(CUDA).waveforms.cpu(), batch.waveforms)
