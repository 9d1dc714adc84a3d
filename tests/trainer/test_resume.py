"""A resumed run against an uninterrupted one, bit for bit: fp32, CPU, dropout, masks, speeds and accumulation on."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import trainer.rundir.checkpoints.saving
import trainer.session
from tests.helpers.damage import flip_a_bit
from tests.helpers.resumed import differences, everything, options, run, run_stopped
from trainer.config.presets import PRESETS
from trainer.errors import ConfigError
from trainer.run import main
from trainer.rundir.checkpoints.saving import Saver
from trainer.rundir.logs.log import RunLog
from trainer.session import check_run_dir, clear

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, run_inputs: Path) -> dict:
    torch.set_num_threads(1)
    return everything(run(tmp_path_factory.mktemp("whole"), run_inputs))


# 3 lies in mid-epoch and between two logs, 4 at an epoch's end, 5 on a regular save, 9 close to the end;
# tests/trainer/loop/test_resume.py stops a smaller run at every step
@pytest.mark.parametrize(
    ("stop_at", "workers"),
    [
        (3, "0"),
        pytest.param(4, "0", marks=pytest.mark.slow),
        pytest.param(5, "2", marks=pytest.mark.slow),
        pytest.param(9, "0", marks=pytest.mark.slow),
    ],
)
def test_resume_is_bit_identical_after_any_step(
    stop_at: int,
    workers: str,
    uninterrupted: dict,
    run_inputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_stopped(tmp_path, run_inputs, stop_at, monkeypatch)
    resumed = everything(run(tmp_path, run_inputs, "--resume", "--batching.num-workers", workers))
    assert differences(resumed, uninterrupted) == []


def test_resume_from_cached_features_is_bit_identical_even_when_they_are_computed_again(
    run_inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = ("--model.freeze-feature-encoder", "--augment.speeds")
    whole = everything(run(tmp_path / "whole", run_inputs, *frozen))
    run_stopped(tmp_path / "stopped", run_inputs, 5, monkeypatch, *frozen)
    shutil.rmtree(run_inputs / "cache" / "features")
    assert differences(everything(run(tmp_path / "stopped", run_inputs, *frozen, "--resume")), whole) == []
    assert (run_inputs / "cache" / "features").exists()


@pytest.fixture(scope="module")
def in_batches_of_three(tmp_path_factory: pytest.TempPathFactory, run_inputs: Path) -> str:
    """The transcripts of a run that scores three utterances at a time."""
    torch.set_num_threads(1)
    run_dir = run(tmp_path_factory.mktemp("three"), run_inputs, "--eval.batch-size", "3")
    return (run_dir / "hypotheses.jsonl").read_text()


@pytest.mark.parametrize("module", ["session", "closing"])
def test_an_evaluation_without_memory_is_made_up_for_in_smaller_batches(
    module: str, in_batches_of_three: str, run_inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """In training and in closing; 6 utterances a batch, then 3: the transcripts are those of one run."""

    def evaluate(*args: object, **others: object) -> object:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(f"trainer.{module}.evaluate", evaluate)
        assert main(options(tmp_path, run_inputs)) == 3
    told = {
        "session": "an evaluation: one utterance alone",
        "closing": "the closing evaluation or the export (CUDA out",
    }
    assert f"error: out of memory in {told[module]}" in capsys.readouterr().err
    run_dir = run(tmp_path, run_inputs, "--resume", "--eval.batch-size", "3")
    assert (run_dir / "hypotheses.jsonl").read_text() == in_batches_of_three


def test_a_run_that_stops_and_cannot_save_says_so_and_exits_4(
    run_inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training stops (exit code 3) at the evaluation of step 4, and the disk is full."""

    def evaluate(*args: object, **others: object) -> object:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def write_sealed(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(trainer.session, "evaluate", evaluate)
    monkeypatch.setattr(trainer.rundir.checkpoints.saving, "write_sealed", write_sealed)
    assert main(options(tmp_path, run_inputs)) == 4
    *_, warning, error = capsys.readouterr().err.splitlines()
    assert "step-00000004 could not be written (No space left on device)" in warning
    assert error.startswith("error: out of memory in an evaluation: ")
    assert error.endswith("Step 4 is not saved: --resume starts before it.")


def test_another_seed_is_not_identical(uninterrupted: dict, run_inputs: Path, tmp_path: Path) -> None:
    """The control: the comparison sees a run that differs."""
    other = everything(run(tmp_path, run_inputs, "--seed", "43"))
    assert {"metrics", "model/model.safetensors:lm_head.weight"} <= set(differences(other, uninterrupted))


def test_metrics_have_every_step_once_after_a_crash_between_save_and_log(
    uninterrupted: dict, run_inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest checkpoint is of step 5, the log already tells of 6 and 8: those are taken, and told, again."""
    run_stopped(tmp_path, run_inputs, 9, monkeypatch)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000009")
    resumed = everything(run(tmp_path, run_inputs, "--resume"))
    assert differences(resumed, uninterrupted) == []


def test_what_the_log_tells_is_on_the_disk_before_each_checkpoint_that_goes_on_from_there(
    run_inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    for owner, name in ((RunLog, "flush"), (Saver, "save")):
        original = getattr(owner, name)

        def spy(*args: object, original: Callable = original, name: str = name) -> object:
            done.append(name)
            return original(*args)

        monkeypatch.setattr(owner, name, spy)
    run(tmp_path, run_inputs)
    assert done.count("save") == 2
    assert all(done[i - 1] == "flush" for i, name in enumerate(done) if name == "save")


def test_resume_without_a_checkpoint_starts_at_step_0(uninterrupted: dict, run_inputs: Path, tmp_path: Path) -> None:
    assert differences(everything(run(tmp_path, run_inputs, "--resume")), uninterrupted) == []


def test_resume_of_a_complete_run_exits_0_and_changes_nothing(run_inputs: Path, tmp_path: Path) -> None:
    run_dir = run(tmp_path, run_inputs)
    before = {p: p.stat().st_mtime_ns for p in run_dir.rglob("*") if p.is_file() and p.name != "config.json"}
    run(tmp_path, run_inputs, "--resume")
    assert before == {p: p.stat().st_mtime_ns for p in run_dir.rglob("*") if p.is_file() and p.name != "config.json"}


def test_a_folder_with_a_run_is_refused_without_resume_or_overwrite(
    run_inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_stopped(tmp_path, run_inputs, 4, monkeypatch)
    capsys.readouterr()
    assert main(options(tmp_path, run_inputs)) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: {tmp_path}/run holds a run of 4 steps: --resume continues it, --name starts another, "
        "--overwrite replaces it."
    )


def test_resume_with_other_microbatches_begins_at_a_step_of_theirs(
    run_inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six of an epoch's seven batches are done, in steps of two; in steps of four, four are: the others come again.

    Three epochs have two such steps each.
    """
    run_stopped(tmp_path, run_inputs, 3, monkeypatch)
    by_four = ("--train.grad-accum-steps", "4", "--allow-changes", "train.grad_accum_steps")
    run_dir = run(tmp_path, run_inputs, "--resume", *by_four)
    results = json.loads((run_dir / "results.json").read_text())
    assert results["steps"] == 6


def test_best_weights_that_are_damaged_are_made_up_for_by_those_of_the_checkpoint(
    run_inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of step 4 are lost; the run goes on from step 5, whose weights are scored first and are the best so far."""
    run_stopped(tmp_path, run_inputs, 5, monkeypatch)
    best = tmp_path / "run" / "checkpoints" / "best"
    flip_a_bit(best / "model.safetensors")
    run_dir = run(tmp_path, run_inputs, "--resume")
    assert (
        "The best weights so far are lost; those of the newest checkpoint take their place." in capsys.readouterr().err
    )
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if "eval/wer" in r] == [4, 5, 8, 10]
    assert json.loads((best / "state.json").read_text())["step"] >= 5


def test_a_folder_that_is_emptied_half_way_is_still_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """config.json goes last, or nothing would tell what the rest is; the lock is somebody's."""
    for name in ("lock", "config.json", "metrics.jsonl", "results.json", "a"):
        (tmp_path / name).touch()
    (tmp_path / "model").mkdir()
    left: list[set[str]] = []
    original = Path.unlink

    def unlink(path: Path) -> None:
        original(path)
        left.append({p.name for p in tmp_path.iterdir()})

    monkeypatch.setattr(Path, "unlink", unlink)
    clear(tmp_path)
    assert all("config.json" in names for names in left[:-1])
    assert left[-1] == {"lock"}


def test_save_total_limit_keeps_the_newest_by_step(run_inputs: Path, tmp_path: Path) -> None:
    run_dir = run(tmp_path, run_inputs, "--train.save-every", "2", "--train.save-total-limit", "2")
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
