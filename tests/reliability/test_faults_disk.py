"""What the disk can do to a save, at every single operation of it; and what becomes of damaged checkpoints.

Rows S2, S3, S5, S10 and S12 of the matrix in docs/reliability.md. The reference is the uninterrupted run (`whole`).
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.verify_run import main as verify_run
from tests.helpers.damage import DAMAGES, flip_a_bit
from tests.helpers.faults.harness import Count, Reference, differences
from trainer.rundir.disk import sha256, verify

KILLED = -signal.SIGKILL


def whole_run(test: Callable) -> Callable:
    """Marks what takes more than a moment."""
    return pytest.mark.slow(pytest.mark.reliability(test))


def window(run: Reference, folder: str, nth: int = 0) -> range:
    """Numbers of the operations of the `nth` save of a checkpoint, the removal of an older one included."""
    makedirs = [i for i, (name, _) in enumerate(run.operations) if name == "makedirs"]
    begins = [i for i in makedirs if run.operations[i][1].endswith(f".{folder}.part")]
    end = next((i for i in makedirs if i > begins[nth]), None)
    closing = next(i for i, (_, path) in enumerate(run.operations) if path.endswith(".hypotheses.jsonl.part"))
    return range(begins[nth] - 1, closing if end is None else end - 1)


# The third checkpoint is the first whose save removes an older one; the second `best` replaces the first
@whole_run
@pytest.mark.parametrize(("folder", "nth", "number"), [("step-00000012", 0, 17), ("best", 1, 14)])
@pytest.mark.parametrize("torn", [False, True], ids=["before", "torn"])
def test_resume_after_a_kill_at_any_operation_of_a_save_is_bit_identical(
    folder: str, nth: int, number: int, torn: bool, whole: Reference, tmp_path: Path, count: Count
) -> None:
    """`torn`: right after a write, of which half is lost."""
    operations = window(whole, folder, nth)
    assert len(operations) == number
    if torn:
        operations = [k for k in operations if whole.operations[k][0].startswith(("_save", "_write"))]
    for k in operations:
        runs = tmp_path / str(k)
        count(injected=1, resumes=1)
        whole.corpus.run(runs, ("kill_at_operation", {"number": k, "torn": torn}), code=KILLED)
        assert verify_run([str(runs / "run")]) == 0
        whole.corpus.resume(runs)
        assert not [p for p in (runs / "run" / "checkpoints").iterdir() if p.name.startswith(".")]
        assert differences(runs / "run", whole.expected) == [], whole.operations[k]
        count(survived=1, bit_exact=1)


@whole_run
@pytest.mark.parametrize(("folder", "nth"), [("step-00000008", 0), ("best", 1)])
def test_training_goes_on_when_the_disk_refuses_any_operation_of_a_save(
    folder: str, nth: int, whole: Reference, tmp_path: Path, count: Count
) -> None:
    """A warning, the older checkpoints whole, and in the end the same weights."""
    operations = window(whole, folder, nth)
    for k in operations:
        runs = tmp_path / str(k)
        count(injected=1)
        victim = whole.corpus.run(runs, ("fail_at_operation", {"number": k}))
        assert "(No space left on device); the checkpoints before it are untouched. Free some space" in victim.said
        assert "Traceback" not in victim.said
        assert verify_run([str(runs / "run")]) == 0
        assert differences(runs / "run", whole.expected) == [], whole.operations[k]
        count(survived=1)


@whole_run
@pytest.mark.parametrize("code", ["ENOSPC", "EIO", "EROFS", "EMFILE"])
def test_a_disk_that_refuses_everything_from_then_on_ends_with_exit_code_4(
    code: str, whole: Reference, tmp_path: Path, count: Count
) -> None:
    """From the save of step 8 on: the run trains to its end, says what failed, and a resume starts at step 4."""
    count(injected=1, resumes=1)
    first = window(whole, "step-00000008")[0]
    victim = whole.corpus.run(tmp_path, ("fail_at_operation", {"number": first, "code": code, "until": 10**9}), code=4)
    assert f"step-00000008 could not be written ({os.strerror(getattr(errno, code))})" in victim.said
    assert re.match(r"error: .*then --resume", victim.said.splitlines()[-1])
    assert "Traceback" not in victim.said
    assert verify_run([str(tmp_path / "run")]) == 0
    resumed = whole.corpus.resume(tmp_path)
    assert f"resuming from {tmp_path}/run/checkpoints/step-00000004" in resumed.said
    assert differences(tmp_path / "run", whole.expected) == []
    count(survived=1, bit_exact=1)


@whole_run
def test_a_limit_on_file_size_ends_with_exit_code_4_and_training_can_be_resumed(
    whole: Reference, tmp_path: Path, count: Count
) -> None:
    """RLIMIT_FSIZE of 5 MB, end to end: the weights (3.7 MB) can be written, the moments (7.5 MB) cannot."""
    count(injected=1, resumes=1)
    victim = whole.corpus.run(tmp_path, ("largest_file", {"num_bytes": 5_000_000}), code=4)
    assert "step-00000014 could not be written" in victim.said
    assert "File too large" in victim.said
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["best"]
    assert (tmp_path / "run" / "results.json").exists()
    assert "no checkpoint yet; starting at step 0" in whole.corpus.resume(tmp_path).said
    assert differences(tmp_path / "run", whole.expected) == []
    count(survived=1, bit_exact=1)


@pytest.fixture
def stopped(whole: Reference, tmp_path: Path) -> Path:
    """The folder of a run stopped in step 10: checkpoints 8 and 10 are there."""
    signals = ("send_signals", {"step": 10, "numbers": [signal.SIGTERM]})
    whole.corpus.run(tmp_path, signals, code=75)
    return tmp_path / "run"


@whole_run
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_it_is_taken(
    stopped: Path, whole: Reference, tmp_path: Path, capsys: pytest.CaptureFixture[str], count: Count
) -> None:
    """Each damage to each file; the resumed run is the same as ever, and keeps the damaged one aside."""
    names, damages = ("model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"), list(DAMAGES)
    cases = [(name, how) for i, name in enumerate(names) for how in (damages[i], damages[(i + 1) % 4])]
    for name, how in cases:
        runs = tmp_path / f"{name} {how}"
        shutil.copytree(stopped, runs / "run")
        newest = runs / "run" / "checkpoints" / "step-00000010"
        DAMAGES[how](newest / name)
        count(injected=1, resumes=1)
        assert verify_run([str(runs / "run")]) == 1
        assert f"checkpoints/{newest.name}    DAMAGED: {newest}" in capsys.readouterr().out
        said = whole.corpus.resume(runs, more=("--train.save-total-limit", "1")).said
        assert re.search(rf"warning: {newest}.* Falling back to the checkpoint before it\.", said)
        assert f"resuming from {newest.with_name('step-00000008')}" in said
        assert differences(runs / "run", whole.expected) == []
        assert sorted(p.name for p in newest.parent.iterdir()) == ["best", "step-00000010.damaged", "step-00000014"]
        count(survived=1, bit_exact=1)


@whole_run
def test_a_run_whose_checkpoints_are_all_damaged_is_refused(stopped: Path, whole: Reference, count: Count) -> None:
    count(injected=1)
    for folder in (stopped / "checkpoints").glob("step-*"):
        flip_a_bit(folder / "model.safetensors")
    before = {path: sha256(path) for path in stopped.rglob("*") if path.is_file()}
    victim = whole.corpus.resume(stopped.parent, code=2)
    assert "none of its 2 checkpoints is intact. --overwrite starts the run anew." in victim.said
    assert before == {path: sha256(path) for path in stopped.rglob("*") if path.is_file()}
    count(survived=1)


@whole_run
def test_damaged_best_weights_are_named_and_replaced_by_the_next_best(
    stopped: Path, whole: Reference, count: Count
) -> None:
    count(injected=1)
    flip_a_bit(stopped / "checkpoints" / "best" / "model.safetensors")
    said = whole.corpus.resume(stopped.parent).said
    assert "The best weights so far are lost; those of the newest checkpoint take their place." in said
    assert json.loads((stopped / "results.json").read_text())["best"] == {"step": 12, "wer": 0.5}
    assert verify_run([str(stopped)]) == 0
    count(survived=1)


@whole_run
def test_the_best_weights_survive_a_crash_between_their_update_and_the_rotation(
    whole: Reference, tmp_path: Path, count: Count
) -> None:
    """With one checkpoint kept, killed between `best` of step 12 and the removal of checkpoint 8."""
    count(injected=1, resumes=1)
    more = ("--train.save-total-limit", "1")
    fault = ("kill_at_call", {"function": "trainer/rundir/disk.py:remove", "number": 1})
    whole.corpus.run(tmp_path, fault, more=more, code=KILLED)
    best = tmp_path / "run" / "checkpoints" / "best"
    verify(best)
    record = json.loads((best / "state.json").read_text())
    assert (record["step"], record["wer"]) == (12, 0.5)
    whole.corpus.resume(tmp_path, more=more)
    assert differences(tmp_path / "run", whole.expected) == []
    assert sorted(p.name for p in best.parent.iterdir()) == ["best", "step-00000014"]
    count(survived=1, bit_exact=1)


@whole_run
def test_folders_that_cannot_be_written_are_one_line_and_leave_nothing(
    whole: Reference, tmp_path: Path, count: Count
) -> None:
    """Root may write anywhere: a file in the folder's place and /proc, which is read-only to all, stand in."""
    count(injected=3)
    (tmp_path / "file").write_text("")
    for runs, reason in ((tmp_path / "file", "Not a directory"), (Path("/proc/sys/runs"), "No such file or directory")):
        (tmp_path / "runs").mkdir(exist_ok=True)
        victim = whole.corpus.run(tmp_path / "runs", more=("--runs-dir", str(runs)), code=2)
        assert victim.said.splitlines()[-1] == f"error: {runs}/run: {reason}. Choose another --runs-dir."
        assert not list((tmp_path / "runs").glob("*/*"))
        shutil.rmtree(tmp_path / "runs")
    victim = whole.corpus.run(tmp_path / "runs", ("fail_at_operation", {"number": 0, "code": "EROFS"}), code=2)
    assert "config.json.part: Read-only file system" in victim.said.splitlines()[-1]
    assert [p.name for p in (tmp_path / "runs" / "run").iterdir()] == ["lock"]
    count(survived=3)


@whole_run
def test_a_folder_that_vanishes_is_an_error_in_the_end_and_is_not_made_again(
    whole: Reference, tmp_path: Path, count: Count
) -> None:
    count(injected=1)
    run_dir = tmp_path / "run"
    victim = whole.corpus.run(tmp_path, ("vanish", {"step": 6, "folder": str(run_dir)}), code=4)
    assert "could not be written" in victim.said
    assert victim.said.splitlines()[-1].startswith(f"error: {run_dir}: training is over, but its results could not be")
    assert not run_dir.exists()
    count(survived=1)


@whole_run
def test_too_many_open_files_stop_saves_but_not_training(whole: Reference, tmp_path: Path, count: Count) -> None:
    count(injected=1, resumes=1)
    victim = whole.corpus.run(tmp_path, ("few_files", {"spare": 0, "step": 6}), code=4)
    assert "Too many open files" in victim.said
    assert "step 14/14" in victim.said
    assert verify_run([str(tmp_path / "run")]) == 0
    whole.corpus.resume(tmp_path)
    assert differences(tmp_path / "run", whole.expected) == []
    count(survived=1, bit_exact=1)
