"""The scripts, run as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.evaluate import main as evaluate
from scripts.gpu_check import main as gpu_check
from trainer.run import main as train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, synthetic_cache: Path) -> Path:
    """A run of a few steps on the tiny corpus under the `hf` protocol."""
    folder = tmp_path_factory.mktemp("runs")
    options = ["demo", "--corpus.size", "tiny", "--corpus.protocol", "hf", "--train.max-steps", "6", "--name", "run",
               "--optim.warmup-steps", "1", "--cache-dir", str(synthetic_cache), "--runs-dir", str(folder)]  # fmt: skip
    assert train(options) == 0
    return folder / "run"


@pytest.mark.slow
def test_evaluate_gives_the_files_that_training_gave(trained: Path, synthetic_cache: Path, tmp_path: Path) -> None:
    """The exported folder through scripts/evaluate.py: the closing evaluation's hypotheses, byte for byte."""
    options = ["demo", "--corpus.size", "tiny", "--corpus.protocol", "hf", "--cache-dir", str(synthetic_cache),
               "--runs-dir", str(tmp_path)]  # fmt: skip
    assert evaluate([str(trained / "model"), *options]) == 0
    scored = tmp_path / "evaluate-model"
    assert (scored / "hypotheses.jsonl").read_text() == (trained / "hypotheses.jsonl").read_text()
    ours, theirs = (json.loads((d / "results.json").read_text()) for d in (scored, trained))
    for key in ("wer", "cer", "loss", "num_errors", "num_reference_words"):
        assert ours[key] == theirs[key]


@pytest.mark.slow
def test_evaluate_under_timit_hf_prints_the_reference_beside_what_it_found(
    trained: Path, tiny_timit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["timit-hf", "--corpus.root", str(tiny_timit), "--runs-dir", str(tmp_path), "--cache-dir", str(tmp_path)]
    assert evaluate([str(trained / "model"), *options]) == 0
    found = json.loads((tmp_path / "evaluate-model" / "results.json").read_text())
    out = capsys.readouterr()
    assert "3,186 errors of 14,511 words" in out.out
    assert f"found here: {found['num_errors']:,} of {found['num_reference_words']:,}" in out.out
    assert "TIMIT checksum: 40/40 utterances (TIMIT: 4620/1680)" in out.err


def test_evaluate_of_a_folder_without_a_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate([str(tmp_path), "demo", "--runs-dir", str(tmp_path / "runs")]) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path}: no config.json here; this is not a Hugging Face model folder.\n"
    )


@pytest.mark.slow
def test_gpu_check_runs_on_a_cpu_stand_in(
    synthetic_cache: Path, tiny_timit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "gpu.json"
    options = ["gpu_check", "--device", "cpu", "--size", "tiny", "--corpus", "tiny", "--steps", "2", "--no-tests",
               "--cache-dir", str(synthetic_cache), "--out", str(out)]  # fmt: skip
    monkeypatch.setattr("sys.argv", options)
    assert gpu_check() == 0
    report = json.loads(out.read_text())
    assert report["training"]["fp32"]["step_seconds_p95"] >= report["training"]["fp32"]["step_seconds_p50"] > 0
    assert report["evaluation"]["num_utterances"] == 40
