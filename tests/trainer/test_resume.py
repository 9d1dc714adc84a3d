"""A resumed run against an uninterrupted one, bit for bit: fp32, CPU, dropout, masks, speeds and accumulation on."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import trainer.loop.fit
import trainer.rundir.checkpoint
import trainer.session
from tests.helpers.resumed import OPTIONS, differences, everything, run
from trainer.config.presets import PRESETS
from trainer.errors import ConfigError
from trainer.run import main
from trainer.session import check_run_dir

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


def run_stopped(folder: Path, cache: Path, stop_at: int, monkeypatch: pytest.MonkeyPatch, *more: str) -> None:
    """A run that Ctrl-C stops in step `stop_at`."""
    taken = 0

    def train_step(*args: object) -> object:
        nonlocal taken
        taken += 1
        if taken == stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return original(*args)

    original = trainer.loop.fit.train_step
    with monkeypatch.context() as patch:
        patch.setattr(trainer.loop.fit, "train_step", train_step)
        assert main([*OPTIONS, "--runs-dir", str(folder), "--cache-dir", str(cache), *more]) == 130


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, synthetic_cache: Path) -> dict:
    torch.set_num_threads(1)
    return everything(run(tmp_path_factory.mktemp("whole"), synthetic_cache))


# 3 lies in mid-epoch and between two logs, 4 at an epoch's end, 5 on a regular save, 9 close to the end
@pytest.mark.parametrize(("stop_at", "workers"), [(3, "0"), (4, "0"), (5, "2"), (9, "0")])
def test_resume_is_bit_identical_after_any_step(
    stop_at: int,
    workers: str,
    uninterrupted: dict,
    synthetic_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_stopped(tmp_path, synthetic_cache, stop_at, monkeypatch)
    resumed = everything(run(tmp_path, synthetic_cache, "--resume", "--batching.num-workers", workers))
    assert differences(resumed, uninterrupted) == []


def test_resume_from_cached_features_is_bit_identical_even_when_they_are_computed_again(
    synthetic_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = ("--model.freeze-feature-encoder", "--augment.speeds")
    whole = everything(run(tmp_path / "whole", synthetic_cache, *frozen))
    run_stopped(tmp_path / "stopped", synthetic_cache, 5, monkeypatch, *frozen)
    shutil.rmtree(synthetic_cache / "features")
    assert differences(everything(run(tmp_path / "stopped", synthetic_cache, *frozen, "--resume")), whole) == []
    assert (synthetic_cache / "features").exists()


@pytest.mark.parametrize("module", ["session", "closing"])
def test_an_evaluation_without_memory_is_made_up_for_in_smaller_batches(
    module: str, synthetic_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """In training and in closing; 16 utterances a batch, then 3: the transcripts are those of one run."""

    def evaluate(*args: object) -> object:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(f"trainer.{module}.evaluate", evaluate)
        assert main([*OPTIONS, "--runs-dir", str(tmp_path), "--cache-dir", str(synthetic_cache)]) == 3
    told = {
        "session": "an evaluation: one utterance alone",
        "closing": "the closing evaluation or the export (CUDA out",
    }
    assert f"error: out of memory in {told[module]}" in capsys.readouterr().err
    run_dir = run(tmp_path, synthetic_cache, "--resume", "--eval.batch-size", "3")
    hypotheses = (run_dir / "hypotheses.jsonl").read_text()
    other = run(tmp_path / "other", synthetic_cache, "--eval.batch-size", "3")
    assert hypotheses == (other / "hypotheses.jsonl").read_text()


def test_a_run_that_stops_and_cannot_save_says_so_and_exits_4(
    synthetic_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training stops (exit code 3) at the evaluation of step 4, and the disk is full."""

    def evaluate(*args: object) -> object:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def write_sealed(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(trainer.session, "evaluate", evaluate)
    monkeypatch.setattr(trainer.rundir.checkpoint, "write_sealed", write_sealed)
    assert main([*OPTIONS, "--runs-dir", str(tmp_path), "--cache-dir", str(synthetic_cache)]) == 4
    *_, warning, error = capsys.readouterr().err.splitlines()
    assert "step-00000004 could not be written (No space left on device)" in warning
    assert error.startswith("error: out of memory in an evaluation: ")
    assert error.endswith("Step 4 is not saved: --resume starts before it.")


def test_another_seed_is_not_identical(uninterrupted: dict, synthetic_cache: Path, tmp_path: Path) -> None:
    """The control: the comparison sees a run that differs."""
    other = everything(run(tmp_path, synthetic_cache, "--seed", "43"))
    assert {"metrics", "model/model.safetensors:lm_head.weight"} <= set(differences(other, uninterrupted))


def test_metrics_have_every_step_once_after_a_crash_between_save_and_log(
    uninterrupted: dict, synthetic_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest checkpoint is of step 5, the log already tells of 6 and 8: those are taken, and told, again."""
    run_stopped(tmp_path, synthetic_cache, 9, monkeypatch)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000009")
    resumed = everything(run(tmp_path, synthetic_cache, "--resume"))
    assert differences(resumed, uninterrupted) == []


def test_resume_without_a_checkpoint_starts_at_step_0(
    uninterrupted: dict, synthetic_cache: Path, tmp_path: Path
) -> None:
    assert differences(everything(run(tmp_path, synthetic_cache, "--resume")), uninterrupted) == []


def test_resume_of_a_complete_run_exits_0_and_changes_nothing(synthetic_cache: Path, tmp_path: Path) -> None:
    run_dir = run(tmp_path, synthetic_cache)
    before = {p: p.stat().st_mtime_ns for p in run_dir.rglob("*") if p.is_file() and p.name != "config.json"}
    run(tmp_path, synthetic_cache, "--resume")
    assert before == {p: p.stat().st_mtime_ns for p in run_dir.rglob("*") if p.is_file() and p.name != "config.json"}


def test_a_folder_with_a_run_is_refused_without_resume_or_overwrite(
    synthetic_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_stopped(tmp_path, synthetic_cache, 4, monkeypatch)
    capsys.readouterr()
    assert main([*OPTIONS, "--runs-dir", str(tmp_path), "--cache-dir", str(synthetic_cache)]) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path}/run holds a run of 4 steps: --resume continues it, --name starts another, "
        "--overwrite replaces it.\n"
    )


def test_save_total_limit_keeps_the_newest_by_step(synthetic_cache: Path, tmp_path: Path) -> None:
    run_dir = run(tmp_path, synthetic_cache, "--train.save-every", "2", "--train.save-total-limit", "2")
    names = sorted(p.name for p in (run_dir / "checkpoints").iterdir())
    assert names == ["best", "step-00000008", "step-00000010"]


def test_what_a_run_leaves_that_died_before_it_began_is_no_obstacle(tmp_path: Path) -> None:
    """The lock and half a config.json; anything else is somebody's own."""
    run_dir = tmp_path / "demo"
    run_dir.mkdir()
    (run_dir / "lock").touch()
    (run_dir / ".config.json.part").write_text("{")
    check_run_dir(replace(PRESETS["demo"](), runs_dir=str(tmp_path)))
    (run_dir / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="exists and holds no run"):
        check_run_dir(replace(PRESETS["demo"](), runs_dir=str(tmp_path)))
