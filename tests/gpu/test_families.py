"""Every family of encoders on a GPU: the CPU's logits and gradients, and graphs that replay what they captured.

Run by scripts/bench/gpu/tests.py, a part of gpu_check.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.amp import GradScaler

from data.batches.collate import Batch, BatchDataset, Frontend
from models.checkpoints.lora import Lora, add_updates
from models.ctc import CTCModel
from models.layers.attention import KERNELS, attention_shape, time_kernels
from tests.helpers.gpu import CPU, CUDA, ON_CUDA
from tests.helpers.graphs import Rerun
from tests.helpers.models import EVERY_FAMILY, EVERY_VARIANT, FAMILIES, NORMS, example, small_hf_model
from tests.helpers.paths import ROOT
from trainer.config.schema import OptimConfig
from trainer.device import HALF, autocast_for
from trainer.loop.gradients import Gradients
from trainer.loop.graphs import CudaRecorder, Graphs
from trainer.loop.optim import build_optimizer, build_schedule
from trainer.loop.step import TrainingParts, accumulate_gradient

pytestmark = ON_CUDA
PADDED = (9000, 7000, 5000)
"""Samples of the utterances of a batch."""
SHAPE = dict(hidden_size=32, num_attention_heads=2)
"""Heads of 16 values, which CUDA's kernels of attention take in half precision."""


@pytest.fixture(autouse=True)
def no_tf32() -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def model_of(family: str, norm: str = "layer", *, lora: bool = False, checkpointing: bool = False) -> CTCModel:
    hf_model = small_hf_model(family, norm, **SHAPE)
    if lora:
        add_updates(hf_model, Lora(4, 8.0, ("q_proj", "v_proj"), 0.0, 0, "", None), 0)
    return CTCModel(hf_model, freeze_feature_encoder=False, activation_checkpointing=checkpointing).train()


def parts_of(model: CTCModel, precision: str, device: torch.device) -> TrainingParts:
    model = model.to(device)
    optimizer = build_optimizer(model, OptimConfig(lr=1e-3, weight_decay=0.0))
    if precision in HALF:
        model.keep_half_copies(HALF[precision])
    parts = TrainingParts(
        model, optimizer, build_schedule(optimizer, 1, 9), GradScaler(device.type, enabled=False), device,
        autocast_for(precision, device),
    )  # fmt: skip
    parts.gradients = Gradients(model, in_one_buffer=True)
    return parts


def batch_of(model: CTCModel, lengths: Sequence[int]) -> Batch:
    examples = [example(length, "abba cab", seed=i) for i, length in enumerate(lengths)]
    return BatchDataset(examples, Frontend(model.num_frames))[0, range(len(examples))]


def loss_and_gradients(parts: TrainingParts, lengths: Sequence[int] = PADDED) -> dict[str, Tensor]:
    batch = batch_of(parts.model, lengths)
    found = {"loss": accumulate_gradient(parts, [batch], seed=0).figures[0].cpu()}
    found |= {name: p.grad.cpu().clone() for name, p in parts.model.named_parameters() if p.grad is not None}
    parts.optimizer.zero_grad(set_to_none=True)
    return found


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Each gradient up to `tolerance` of the largest value of all."""
    assert found.keys() == expected.keys()
    size = max(float(g.abs().max()) for g in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(
            found[name], gradient, rtol=tolerance, atol=tolerance * size, msg=partial("{}: {}".format, name)
        )


@EVERY_VARIANT
def test_loss_and_gradients_on_cuda_are_the_cpus(family: str, norm: str) -> None:
    """fp32 without TF32; 1e-3 covers other orders of sums, and the transform in place of the convolution."""
    lengths = PADDED if norm == "layer" else PADDED[:1]
    expected, found = (loss_and_gradients(parts_of(model_of(family, norm), "fp32", d), lengths) for d in (CPU, CUDA))
    assert_close(found, expected, 1e-3)


@EVERY_FAMILY
@pytest.mark.parametrize("lora", [False, True])
def test_a_replay_in_bf16_has_the_gradient_of_an_eager_pass(family: str, lora: bool) -> None:
    if lora:
        pytest.importorskip("peft")
    told: list[str] = []
    parts = parts_of(model_of(family, lora=lora), "bf16", CUDA)
    expected = loss_and_gradients(parts)
    recorder = CudaRecorder() if CUDA.type == "cuda" else Rerun()
    parts.graphs = Graphs(parts.model, parts.gradients, parts.autocast, recorder, told.append, accumulates=False)
    found = [loss_and_gradients(parts) for _ in range(3)]
    assert not told
    assert parts.graphs.num_recorded == 1
    for one in found:
        assert_close(one, expected, 1e-2)


@EVERY_FAMILY
def test_activation_checkpointing_changes_no_gradient(family: str) -> None:
    expected, found = (
        loss_and_gradients(parts_of(model_of(family, checkpointing=on), "bf16", CUDA)) for on in (False, True)
    )
    assert_close(found, expected, 1e-2)


def test_every_kernel_of_attention_that_can_gives_the_same_logits() -> None:
    """Older GPUs have fewer; where one cannot, torch's next one computes. fp32, so 1e-3 is ample."""
    model = model_of("wavlm").to(CUDA).eval()
    if CUDA.type == "cuda":
        assert time_kernels(attention_shape(model, 3, 40, torch.float16), CUDA)
    batch = batch_of(model, PADDED).to(CUDA)
    logits = []
    for kernel in (None, *KERNELS):
        model.attention_kernel = kernel
        with torch.no_grad():
            logits.append(model(batch.waveforms, batch.frame_lengths))
    for one in logits[1:]:
        torch.testing.assert_close(one, logits[0], rtol=1e-3, atol=1e-3)


def compare_deterministic_gradients() -> None:
    """Two times the same gradients, to the bit, for every family; an operation that cannot raises."""
    torch.use_deterministic_algorithms(True)
    for family, norm, precision in itertools.product(FAMILIES, NORMS, ("fp32", "bf16")):
        lengths = PADDED if norm == "layer" else PADDED[:1]
        once, again = (loss_and_gradients(parts_of(model_of(family, norm), precision, CUDA), lengths) for _ in range(2))
        assert all(torch.equal(once[name], again[name]) for name in once), (family, norm, precision)


@pytest.mark.slow
def test_every_family_has_a_deterministic_gradient() -> None:
    """In a process of its own: CUBLAS_WORKSPACE_CONFIG is read when CUDA starts."""
    code = "from tests.gpu.test_families import compare_deterministic_gradients as compare; compare()"
    environment = {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
