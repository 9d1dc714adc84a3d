"""A run that is killed, asked to stop, or loses its helpers: what it computes in the end is the same, bit for bit.

The reference is always the same run, uninterrupted (`whole`). Rows S1, S4, S8 and S11 of the matrix in
docs/reliability.md; disk faults are in test_faults_disk.py, faults of training itself in test_faults_training.py.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.faults.harness import ENVIRONMENT, ROOT, Count, Reference, differences, fingerprint

pytestmark = [pytest.mark.slow, pytest.mark.reliability]
NUM_KILLS, NUM_COMMANDS = 50, 5
KILLED = -signal.SIGKILL
REQUEUE, INTERRUPTED = 75, 130


def workers(rng: random.Random) -> tuple[str, str]:
    """Another number of loader workers, now and then."""
    return "--batching.num-workers", rng.choice(["0", "0", "2"])


def kill_at_random(run: Reference, runs: Path, rng: random.Random, resumed: bool) -> bool:
    """Start (or resume) a run and kill -9 it: after a random time, or in a random call of a random function of ours.

    False when it was over before it could be killed.
    """
    more = ("--resume", *workers(rng)) if resumed else ()
    if not resumed and rng.random() < 0.5:
        function = rng.choice(sorted(run.calls))
        number = rng.randrange(run.calls[function])
        victim = run.corpus.start(runs, ("kill_at_call", {"function": function, "number": number}), more=more)
    else:
        victim = run.corpus.start(runs, more=more)
        time.sleep(rng.uniform(0, 1.05 * run.seconds))
        victim.signal(signal.SIGKILL)
    status = victim.wait()
    assert status in (KILLED, 0), victim.said
    return status == KILLED


def test_resume_after_kill_9_at_any_point_is_bit_identical(whole: Reference, tmp_path: Path, count: Count) -> None:
    """50 or more kills: half by the clock, half by the function that runs; a third of the resumed runs killed again."""
    rng, kills, phases = random.Random(20261122), 0, set()
    while kills < NUM_KILLS - NUM_COMMANDS:
        runs = tmp_path / f"run{kills}"
        if not kill_at_random(whole, runs, rng, resumed=False):
            shutil.rmtree(runs)
            continue
        num_kills = 1
        while rng.random() < 0.35 and kill_at_random(whole, runs, rng, resumed=True):
            num_kills += 1
        kills += num_kills
        count(injected=num_kills, resumes=1)
        phases.add(reached(runs / "run"))
        whole.corpus.resume(runs, more=workers(rng))
        count(survived=num_kills)
        assert differences(runs / "run", whole.expected) == [], f"after {kills} kills"
        count(bit_exact=1)
    assert phases >= {"before the first save", "training", "closing"}, phases


def reached(run_dir: Path) -> str:
    """Where a killed run was."""
    steps = [folder.name for folder in (run_dir / "checkpoints").glob("step-????????")]
    if not steps:
        return "before the first save"
    return "closing" if max(steps) == "step-00000014" else "training"


def test_the_command_itself_survives_kill_9(whole: Reference, tmp_path: Path, count: Count) -> None:
    """Five kills of `python -m trainer.run`, spread over its life; against the command's own uninterrupted run."""

    def start(runs: Path, *more: str) -> subprocess.Popen:
        runs.mkdir(exist_ok=True)
        with open(runs / "log", "ab") as log:
            argv = [sys.executable, "-m", "trainer.run", *whole.corpus.argv(runs, *more)]
            return subprocess.Popen(argv, cwd=ROOT, env=ENVIRONMENT, stdout=log, stderr=log)

    begin = time.perf_counter()
    assert start(tmp_path / "whole").wait() == 0
    seconds = time.perf_counter() - begin
    expected = fingerprint(tmp_path / "whole" / "run")
    for i, share in enumerate((0.6, 0.7, 0.8, 0.87, 0.94)):  # the first half goes into importing torch
        count(injected=1, resumes=1)
        runs = tmp_path / f"run{i}"
        process = start(runs)
        time.sleep(share * seconds)
        process.kill()
        assert process.wait() in (KILLED, 0)
        assert start(runs, "--resume").wait() == 0, (runs / "log").read_text()
        assert differences(runs / "run", expected) == []
        count(survived=1, bit_exact=1)


def test_another_seed_is_told_apart(whole: Reference, tmp_path: Path) -> None:
    """The control: what the comparison calls identical is not everything."""
    whole.corpus.run(tmp_path, more=("--seed", "43"))
    assert {"metrics", "model/model.safetensors", "tensorboard train/loss"} <= set(
        differences(tmp_path / "run", whole.expected)
    )


# Step 7 begins an epoch, 8 is saved anyway, 9 is evaluated and ends an epoch, 14 is the last
@pytest.mark.parametrize(
    ("step", "number", "code", "num_workers"),
    [
        (1, signal.SIGTERM, REQUEUE, "0"),
        (7, signal.SIGUSR1, REQUEUE, "0"),
        (8, signal.SIGINT, INTERRUPTED, "2"),
        (9, signal.SIGTERM, REQUEUE, "0"),
        (14, signal.SIGUSR1, REQUEUE, "2"),
    ],
)
def test_a_signal_finishes_the_step_saves_and_says_so_in_the_exit_code(
    step: int, number: int, code: int, num_workers: str, whole: Reference, tmp_path: Path, count: Count
) -> None:
    """To the whole process group, as Slurm and the terminal do: the loader's workers ignore it."""
    count(injected=1, resumes=1)
    signals = ("send_signals", {"step": step, "numbers": [number], "group": True})
    victim = whole.corpus.run(tmp_path, signals, more=("--batching.num-workers", num_workers), code=code)
    said = f"{signal.Signals(number).name}: saving after this step; a second signal ends at once"
    assert victim.said.count(said) == 1  # not by the workers too
    assert f"stopped at step {step} of 14; go on with the same command and --resume" in victim.said
    assert "Traceback" not in victim.said
    assert (tmp_path / "run" / "checkpoints" / f"step-{step:08d}" / "manifest.json").exists()
    whole.corpus.resume(tmp_path, more=("--batching.num-workers", "0"))
    assert differences(tmp_path / "run", whole.expected) == []
    count(survived=1, bit_exact=1)


@pytest.mark.parametrize("evaluation", [0, 2, 4])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_interrupts_an_evaluation_which_comes_first_after_the_resume(
    evaluation: int, number: int, whole: Reference, tmp_path: Path, count: Count
) -> None:
    """Evaluations 0, 2 and 4 are those of steps 3, 9 and 14, two batches each."""
    count(injected=2, resumes=1)
    fault = ("signal_in_evaluation", {"evaluation": evaluation, "number": number})
    victim = whole.corpus.run(tmp_path, fault, code=REQUEUE if number == signal.SIGTERM else INTERRUPTED)
    step = (3, 6, 9, 12, 14)[evaluation]
    assert f"stopped at step {step} of 14" in victim.said
    assert f"step {step}/14  eval" not in victim.said
    # killed in between: after the evaluation was told, before it was saved
    fault = ("kill_at_call", {"function": "trainer/rundir/checkpoints/saving.py:Saver.save", "number": 0})
    whole.corpus.resume(tmp_path, fault, code=KILLED)
    whole.corpus.resume(tmp_path)
    assert differences(tmp_path / "run", whole.expected) == []
    count(survived=2, bit_exact=1)


@pytest.mark.parametrize("num_workers", ["0", "2"])
@pytest.mark.parametrize(("utterance", "epoch"), [("train3", 1), ("eval1", 0)])
def test_a_signal_while_a_batch_is_waited_for_stops_within_a_second(
    utterance: str, epoch: int, num_workers: str, whole: Reference, tmp_path: Path, count: Count
) -> None:
    """The batch never comes, in training or in an evaluation; whatever its worker does, the step before it is saved."""
    count(injected=1, resumes=1)
    options = {"mark": str(tmp_path / "asked"), "number": signal.SIGTERM, "utterance": utterance, "epoch": epoch}
    more = ("--batching.num-workers", num_workers)
    victim = whole.corpus.run(tmp_path, ("signal_while_a_batch_is_made", options), more=more, code=REQUEUE)
    assert time.time() - (tmp_path / "asked").stat().st_mtime < 0.3 + 1 + 3  # a second, a save and the process' end
    assert "go on with the same command and --resume" in victim.said
    assert "Traceback" not in victim.said
    whole.corpus.resume(tmp_path)
    assert differences(tmp_path / "run", whole.expected) == []
    count(survived=1, bit_exact=1)


@pytest.mark.parametrize("where", ["trainer/prepare/pieces.py:build_model", "trainer/closing.py:close_run"])
def test_a_signal_before_or_after_training_ends_at_once(
    where: str, whole: Reference, tmp_path: Path, count: Count
) -> None:
    count(injected=1, resumes=1)
    fault = ("signal_at_call", {"function": where, "signals": [signal.SIGTERM]})
    victim = whole.corpus.run(tmp_path, fault, code=REQUEUE)
    assert "SIGTERM: ended before or after training; the same command with --resume goes on" in victim.said
    assert "Traceback" not in victim.said
    whole.corpus.resume(tmp_path)
    assert differences(tmp_path / "run", whole.expected) == []
    count(survived=1, bit_exact=1)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_second_signal_ends_at_once_and_harmlessly(
    second: int, whole: Reference, tmp_path: Path, count: Count
) -> None:
    """Whatever the first was; here in step 10, when the checkpoint of step 8 may still be on its way to the disk."""
    count(injected=1, resumes=1)
    whole.corpus.run(tmp_path, ("send_signals", {"step": 10, "numbers": [signal.SIGTERM, second]}), code=-second)
    newest = max(p.name for p in (tmp_path / "run" / "checkpoints").glob("step*"))
    assert newest in ("step-00000004", "step-00000008")
    whole.corpus.resume(tmp_path)
    assert differences(tmp_path / "run", whole.expected) == []
    count(survived=1, bit_exact=1)


@pytest.mark.parametrize("num_workers", ["0", "2"])
def test_two_processes_cannot_train_in_one_folder_and_a_killed_one_leaves_no_lock(
    num_workers: str, whole: Reference, tmp_path: Path, count: Count
) -> None:
    """With loader workers too: they are forked with the lock's file open, and outlive a killed parent for seconds."""
    count(injected=2, resumes=1)
    more = ("--batching.num-workers", num_workers)
    first = whole.corpus.start(tmp_path, ("slow_disk", {"seconds": 0.3}), more=more)
    first.wait_for("step 3/14")
    second = whole.corpus.start(tmp_path, more=("--resume",), log="second")
    assert second.wait() == 2
    assert second.said.endswith(
        f"error: {tmp_path}/run is in use by another process. Wait for it, or choose another --name.\n"
    )
    first.signal(signal.SIGKILL)
    assert first.wait() == KILLED
    whole.corpus.resume(tmp_path)
    assert differences(tmp_path / "run", whole.expected) == []
    count(survived=2, bit_exact=1)


@pytest.mark.parametrize("how", ["dies", "hangs"])
def test_a_worker_that_dies_or_hangs_is_an_error_after_a_save(
    how: str, whole: Reference, tmp_path: Path, count: Count
) -> None:
    count(injected=1, resumes=1)
    fault = ("break_worker", {"mark": str(tmp_path / "broken"), "how": how})
    # longer than a healthy worker takes on a busy machine
    timeout, said = {"dies": ("600", ""), "hangs": ("5", "no batch for 5 s")}[how]
    more = ("--batching.num-workers", "2", "--batching.worker-timeout", timeout)
    victim = whole.corpus.run(tmp_path, fault, more=more, code=3)
    assert f"error: a loader worker died or hung ({said}" in victim.said
    assert "Traceback" not in victim.said
    # it makes a batch of the second epoch, steps 4 to 6, ahead of time
    assert "" < max(p.name for p in (tmp_path / "run" / "checkpoints").glob("step*")) < "step-00000006"
    whole.corpus.resume(tmp_path, more=("--batching.num-workers", "1"))
    assert differences(tmp_path / "run", whole.expected) == []
    count(survived=1, bit_exact=1)


def test_a_worker_killed_while_nobody_waits_is_an_error_between_steps(
    whole: Reference, tmp_path: Path, count: Count
) -> None:
    """torch's own SIGCHLD handler would raise in the middle of the update."""
    count(injected=1, resumes=1)
    fault = ("kill_worker_in_step", {"step": 5})
    victim = whole.corpus.run(tmp_path, fault, more=("--batching.num-workers", "2"), code=3)
    assert "error: a loader worker died or hung (DataLoader worker" in victim.said
    assert (tmp_path / "run" / "checkpoints" / "step-00000005" / "manifest.json").exists()
    whole.corpus.resume(tmp_path, more=("--batching.num-workers", "2"))
    assert differences(tmp_path / "run", whole.expected) == []
    count(survived=1, bit_exact=1)
