"""What needs CUDA: the same numbers as on the CPU, fp16 with GradScaler, the late flag.

Run by scripts/bench/gpu/tests.py, a part of gpu_check.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch.amp import GradScaler

import trainer.loop.fit
from data.batches.collate import BatchDataset, Frontend
from models.ctc import ctc_loss_per_utterance
from models.feature_table import FeatureTable
from tests.helpers.gpu import CUDA, ON_CUDA
from tests.helpers.models import eval_set, example, make_talkative
from tests.helpers.models import small_model as talkative_model
from tests.helpers.paths import ROOT
from tests.helpers.resumed import differences, everything
from tests.helpers.runs import write_noise_corpus
from tests.helpers.steps import EXAMPLES, NUM_FRAMES, loader_of, make_batch, make_parts, run_fit, small_model
from trainer.cli.console import Console
from trainer.closing import score_closing
from trainer.config.schema import OptimConfig, TrainConfig
from trainer.device import autocast_for
from trainer.loop.fit import finish_previous_step
from trainer.loop.optim import build_optimizer, build_schedule
from trainer.loop.state import TrainState
from trainer.loop.step import TrainingParts, train_step
from trainer.run import main
from trainer.scoring.evaluate import evaluate

pytestmark = ON_CUDA


def cuda_parts(precision: str = "fp32", init_scale: float = 1024.0) -> TrainingParts:
    model = small_model().to(CUDA)
    optimizer = build_optimizer(model, OptimConfig(lr=1e-2, weight_decay=0.01))
    scaler = GradScaler(CUDA.type, enabled=precision == "fp16", init_scale=init_scale)
    return TrainingParts(
        model, optimizer, build_schedule(optimizer, 3, 20), scaler, CUDA, autocast_for(precision, CUDA)
    )


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
    finish_previous_step(step(), parts, state, 25, lambda r: None)
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
    finish_previous_step(train_step(parts, [bad], 1.0, lambda: None), parts, state, 25, lambda r: None)
    after = [v for s in parts.optimizer.state.values() for v in s.values()]
    assert state.num_skipped == 1
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_closing_evaluation_is_without_tf32() -> None:
    """Training has left TF32 on. Reference: the same evaluation with it off, bit for bit; and with it on, losses
    differ, or the test would show nothing."""
    model = make_talkative(talkative_model(hidden_size=256, num_attention_heads=4, conv_dim=(64,) * 7)).to(CUDA)
    split = eval_set(model, [example(6000 + 700 * i, "abba cab", seed=i) for i in range(8)])

    def with_tf32(is_on: bool) -> None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = is_on

    with_tf32(True)
    rounded = [h.loss for h in evaluate(model, split, CUDA, nullcontext).hypotheses]
    closing = [h.loss for h in score_closing(model, split, CUDA, Console()).hypotheses]
    with_tf32(False)
    exact = [h.loss for h in evaluate(model, split, CUDA, nullcontext).hypotheses]
    assert closing == exact
    assert CUDA.type == "cpu" or torch.cuda.get_device_capability(CUDA) < (8, 0) or rounded != exact


@pytest.mark.parametrize("kind", ["waveforms", "features"])
def test_a_step_waits_for_the_device_in_ctc_alone(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.cuda.set_sync_debug_mode("error") raises at every wait; torch's CTC kernel copies its lengths with one."""
    parts = cuda_parts("bf16")
    parts.model.train()
    batch = make_batch([0, 1, 2])
    if kind == "features":
        rows = torch.randn(1000, parts.model.hf.config.conv_dim[-1], device=CUDA)
        parts.features = FeatureTable(rows, (1, 200, 400))
        batch = replace(batch, feature_rows=torch.randint(0, 1000, (3, int(batch.frame_lengths.max()))))
    if CUDA.type == "cuda":
        batch = batch.pin_memory()
    monkeypatch.setattr("trainer.loop.step.ctc_loss_per_utterance", LossUnderDefaultMode.of)
    step = partial(train_step, parts, [batch], 1.0, lambda: None)
    step()  # allocates what is kept
    with syncs_are("error"):
        result = step()
    state = TrainState()
    finish_previous_step(result, parts, state, 25, lambda r: None)
    assert state.num_skipped == 0
    assert result.loss.item() > 0


@contextmanager
def syncs_are(mode: str) -> Iterator[None]:
    if CUDA.type != "cuda":
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode(mode)
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


class LossUnderDefaultMode(torch.autograd.Function):
    """The CTC loss and, at once, its gradient, where waiting is allowed."""

    @staticmethod
    def of(logits: torch.Tensor, *lengths_and_targets: torch.Tensor, blank_id: int) -> torch.Tensor:
        return LossUnderDefaultMode.apply(logits, blank_id, *lengths_and_targets)

    @staticmethod
    def forward(ctx, logits, blank_id, *lengths_and_targets):
        with syncs_are("default"), torch.enable_grad():
            leaf = logits.detach().requires_grad_()
            nats = ctc_loss_per_utterance(leaf, *lengths_and_targets, blank_id=blank_id)
            (gradient,) = torch.autograd.grad(nats.sum(), leaf)
        ctx.save_for_backward(gradient)
        return nats.detach()

    @staticmethod
    def backward(ctx, of_nats):
        (gradient,) = ctx.saved_tensors
        return gradient * of_nats[:, None, None], None, None, None, None


DETERMINISTIC = [
    "manifest", "--model.hidden-dropout", "0.2", "--model.layerdrop", "0.2", "--model.mask-time-prob", "0.1",
    "--batching.batch-size", "2", "--train.grad-accum-steps", "2", "--train.epochs", "3", "--train.max-steps", "10",
    "--train.log-every", "2", "--train.eval-every", "4", "--train.save-every", "5", "--optim.warmup-steps", "2",
    "--device", CUDA.type, "--deterministic", "--no-report", "--name", "run",
]  # fmt: skip
RUNS: dict[str, list[int]] = {"whole": [], "again": [], "resumed": [4, 3]}
"""Name of a run -> the steps of each of its processes in which Ctrl-C comes."""
PRECISIONS = ["fp32", "bf16", *(["fp16"] if CUDA.type == "cuda" else [])]


@pytest.fixture(scope="module")
def deterministic_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders PRECISION/NAME of all runs. One process makes them: CUBLAS_WORKSPACE_CONFIG is read when CUDA
    starts, and every process needs seconds to import torch."""
    folder = tmp_path_factory.mktemp("deterministic")
    code = "import sys; from tests.gpu.test_training import make_runs; make_runs(sys.argv[1])"
    environment = {name: value for name, value in os.environ.items() if name != "CUBLAS_WORKSPACE_CONFIG"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder


def make_runs(folder: str) -> None:
    """All runs of each precision, one after the other. Their cards have no curves, which would take half the time."""
    inputs = write_noise_corpus(Path(folder), num_train=14, num_eval=6)
    for precision, (name, stops) in itertools.product(PRECISIONS, RUNS.items()):
        options = [*DETERMINISTIC, *inputs, "--precision", precision, "--resume", "--runs-dir",
                   f"{folder}/{precision}/{name}", "--cache-dir", f"{folder}/cache"]  # fmt: skip
        for stop_at in [*stops, None]:
            with mock.patch("trainer.card.card.draw_curves", return_value={}):
                code = run_until(stop_at, options)
            assert code == (130 if stop_at else 0), f"{precision}, {name}, stop at {stop_at}: exit code {code}"


def run_until(stop_at: int | None, options: list[str]) -> int:
    """The exit code of a run that Ctrl-C stops in the step `stop_at` of this process."""
    original, taken = trainer.loop.fit.train_step, itertools.count(1)

    def train_step(*args: Any) -> Any:
        if next(taken) == stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return original(*args)

    with mock.patch.object(trainer.loop.fit, "train_step", train_step):
        return main(options)


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_deterministic_runs_are_bit_identical_resumed_ones_too(deterministic_runs: Path, precision: str) -> None:
    """Weights, optimizer, every recorded loss and transcript; the resumed run is stopped twice."""
    whole, again, resumed = (everything(deterministic_runs / precision / name / "run") for name in RUNS)
    assert differences(whole, again) == []
    assert differences(whole, resumed) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_pinned_batches_copy_without_waiting() -> None:
    batch = BatchDataset(EXAMPLES, Frontend(NUM_FRAMES))[0, [0, 1]].pin_memory()
    assert batch.waveforms.is_pinned()
    assert batch.targets.is_pinned()
    assert torch.equal(batch.to(CUDA).waveforms.cpu(), batch.waveforms)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_a_run_on_the_second_gpu_leaves_the_first_one_alone() -> None:
    """A copy to the host is there when it says so, and GPU 0 gets no context of this process."""
    code = (
        "import torch; from trainer.device import HostCopy, choose_device\n"
        "x = torch.randn(64, 1 << 20, device=choose_device('cuda:1'))\n"
        "y = (x @ x.T).sum()\n"
        "assert HostCopy(y).wait()[0] == y.cpu()\n"
        "assert torch.cuda.memory_allocated(0) == 0 and torch.cuda.current_device() == 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
