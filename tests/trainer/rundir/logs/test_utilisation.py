"""Memory and utilisation in the log, and what the process does for memory before training."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType

import trainer.prepare.utilisation
from models.flops import forward_flops, training_flops
from tests.helpers.models import VOCAB, small_model
from tests.helpers.paths import ROOT
from tests.helpers.runs import train_on_noise
from trainer.cli.console import Console
from trainer.cli.segments import allocator_settings
from trainer.device import peak_flops
from trainer.loop.state import TrainState
from trainer.rundir.logs.log import RunLog
from trainer.rundir.logs.profile import by_kind, times_by_name
from trainer.rundir.reading import read_records


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
        ("Tesla T4", 65e12),
        ("NVIDIA GeForce GTX 1080", None),
        ("cpu", None),
    ],
)
def test_peaks_are_those_of_the_named_gpu_and_none_for_others(name: str, peak: float | None) -> None:
    assert peak_flops(name, "bf16") == peak
    assert peak_flops(name, "fp32") is None


@pytest.mark.parametrize(("frozen", "table"), [(False, False), (True, False), (True, True)])
def test_utilisation_at_one_second_a_second_is_the_work_of_the_corpus_over_its_length(
    frozen: bool, table: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand, for two utterances; convolutions whose output comes from a table do not count."""
    model, lengths = small_model("unispeech"), [16_000, 48_000]
    model.freeze_feature_encoder = frozen
    run = SimpleNamespace(
        parts=SimpleNamespace(model=model, device=torch.device("cpu")), precision="bf16",
        data=SimpleNamespace(train=[SimpleNamespace(num_samples=n) for n in lengths]),
        config=SimpleNamespace(model=SimpleNamespace(cache_features=table)),
    )  # fmt: skip
    assert trainer.prepare.utilisation.flops_share(run) is None  # type: ignore[arg-type]
    monkeypatch.setattr(trainer.prepare.utilisation, "peak_flops", lambda name, precision: 1e9)
    config = model.hf.config
    work = sum(training_flops(config, n, frozen=frozen) - table * forward_flops(config, n)[0] for n in lengths)
    assert trainer.prepare.utilisation.flops_share(run) == pytest.approx(work / 4.0 / 1e9)  # type: ignore[arg-type]


def test_the_log_has_the_peak_of_memory_and_the_utilisation_where_it_is_known(tmp_path: Path) -> None:
    """400 audio seconds in 2 s at 0.001 a second: 0.2."""
    log = RunLog(tmp_path, Console(), TrainState(), VOCAB, total_steps=9, steps_per_epoch=3,
                 device=torch.device("cpu"), flops_share=0.001)  # fmt: skip
    state = TrainState(step=1, train_seconds=2.0, audio_seconds=400.0)
    log.train(state, loss=1.0, grad_norm=1.0, lr=1e-3, grad_scale=1.0, part_norms={}, blank_share=0.5)
    log.close()
    (record,) = read_records(tmp_path / "metrics.jsonl")
    assert record["train/mfu"] == pytest.approx(0.2)
    assert record["train/peak_memory_bytes"] > 50e6


def test_a_run_logs_memory_and_no_utilisation_on_a_cpu_and_leaves_nothing_frozen(finished_run: Path) -> None:
    records = [json.loads(line) for line in (finished_run / "metrics.jsonl").read_text().splitlines()]
    of_training = [record for record in records if "train/loss" in record]
    assert all(record["train/peak_memory_bytes"] > 50e6 for record in of_training)
    assert not any("train/mfu" in record for record in of_training)
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "expandable_segments:True"),
        ({"PYTORCH_ALLOC_CONF": "max_split_size_mb:64"}, "max_split_size_mb:64"),
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64"}, None),
    ],
)
def test_segments_may_grow_unless_the_user_chose_otherwise(
    given: Mapping[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is set before torch is imported."""
    monkeypatch.delenv("PYTORCH_ALLOC_CONF", raising=False)
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF", raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    code = (
        "import os, sys; from trainer.cli.segments import grow_segments; grow_segments(); "
        "assert 'torch' not in sys.modules; "
        "print(os.environ.get('PYTORCH_ALLOC_CONF'))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(expected)


@pytest.mark.parametrize(
    ("release", "grows"), [("6.8.0-45-generic", True), ("5.15.167.4-microsoft-standard-WSL2", False)]
)
def test_segments_do_not_grow_on_wsl(release: str, grows: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.release", lambda: release)
    assert bool(allocator_settings()) is grows


def test_kinds_of_work_are_told_by_the_names_of_kernels() -> None:
    """Names from a profile of a step on an H100, shortened, and of operators on a CPU."""
    names = {
        "sm90_xmma_gemm_bf16bf16_bf16f32": "matrix products",
        "nvjet_sm90_hsh_128x256_64x4_2x1_v_bz_coopA_bias_NTN": "matrix products",
        "void cutlass::Kernel2<cutlass_75_wmma_tensorop_f16_s161616gemm_f16_32x32_128x1_tn_align1>": "matrix products",
        "aten::addmm": "matrix products",
        "void cutlass__5x_cudnn::Kernel<cutlass_tensorop_f16_s16816dgrad_analytic_f16_256x64_32x4>": "convolution",
        "sm80_xmma_wgrad_implicit_gemm_indexed_f16f16_f16f32_f32_nhwckrsc_nhwc": "convolution",
        "void cudnn::engines_precompiled::nchwToNhwcKernel<__half>": "convolution",
        "aten::_fft_r2c": "convolution",
        "at::native::ctc_loss_backward_log_beta_gpu_kernel": "CTC",
        "multi_tensor_apply_kernel<FusedOptimizerTensorListMetadata<4>, FusedAdamMathFunctor<float>>": "AdamW",
        "aten::_fused_adamw_": "AdamW",
        "multi_tensor_apply_kernel<TensorListMetadata<1>, LpNormFunctor<float>>": "gradient norm and clipping",
        "multi_tensor_apply_kernel<TensorListMetadata<1>, BinaryOpScalarTensorFunctor>": "gradient norm and clipping",
        "multi_tensor_apply_kernel<TensorListMetadata<1>, UnaryOpFunctor<float>>": "gradient norm and clipping",
        "multi_tensor_apply_kernel<TensorListMetadata<2>, CopyFunctor<float>>": "casts and copies",
        "void at::native::unrolled_elementwise_kernel<at::native::direct_copy_kernel_cuda>": "casts and copies",
        "void at::native::vectorized_elementwise_kernel<8, at::native::float16_copy_kernel_cuda>": "casts and copies",
        "Memcpy HtoD (Pinned -> Device)": "casts and copies",
        "cudnn_generated_fort_native_sdpa_sm90_flash_bprop_wgmma_f16_knob_26": "attention",
        "void cudnn::fusion::compute_dot_do_o_specialized<false, 64>": "attention",
        "pytorch_flash::flash_fwd_kernel": "attention",
        "vectorized_layer_norm_kernel": "layer norm",
        "at::native::GammaBetaBackwardCUDAKernelTemplate<float, float>": "layer norm",
        "at::native::weight_norm_bwd_last_dim_kernel<float, float>": "weight norm",
        "void at::native::reduce_kernel<128, 4, at::native::ReduceOp<c10::Half, sum_functor>>": "sums, of bias "
        "gradients above all",
        "vectorized_elementwise_kernel<8, at::native::GeluBackwardCUDAKernelImpl>": "GELU",
        "vectorized_elementwise_kernel<8, at::native::CUDAFunctor_add<c10::Half>>": "element-wise",
        "whatever": "other",
    }
    for name, kind in names.items():
        assert by_kind({name: 2.0}) == {kind: 2.0}, name


def test_on_a_gpu_only_what_ran_there_counts() -> None:
    """torch gives the operator, the annotation around it and its kernel the same device time."""
    events = [
        SimpleNamespace(key=key, device_type=where, is_user_annotation=key.startswith("Optimizer"),
                        self_cpu_time_total=on_host, self_device_time_total=30.0)
        for key, where, on_host in (
            ("aten::mm", DeviceType.CPU, 5.0),
            ("nvjet_sm90", DeviceType.CUDA, 0.0),
            ("Optimizer.step#AdamW.step", DeviceType.CUDA, 0.0),
        )
    ]  # fmt: skip
    assert times_by_name(events, torch.device("cuda")) == {"nvjet_sm90": 30.0}  # type: ignore[arg-type]
    assert times_by_name(events[:1], torch.device("cpu")) == {"aten::mm": 5.0}  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_profile_of_two_steps_changes_no_weight_and_names_where_time_went(finished_run: Path, tmp_path: Path) -> None:
    """Eight steps in all, of which the sixth and the seventh are profiled."""
    runs = [
        train_on_noise(folder, "--train.epochs", "4", "--no-report", *options)
        for folder, options in ((tmp_path, ["--profile", "2"]), (tmp_path.with_name("plain"), []))
        if folder.mkdir(exist_ok=True) is None
    ]
    shares = [line.split() for line in (runs[0] / "profile.txt").read_text().splitlines()[1:]]
    assert sum(float(words[-2]) for words in shares) == pytest.approx(100.0, abs=1.0)
    assert {"matrix", "convolution", "CTC", "AdamW"} <= {words[0] for words in shares}
    assert json.loads((runs[0] / "profile.json").read_text())["traceEvents"]
    ours, theirs = ((run / "model" / "model.safetensors").read_bytes() for run in runs)
    assert ours == theirs
    assert not (runs[1] / "profile.txt").exists()
