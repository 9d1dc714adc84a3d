"""Runs of several processes that lose some of them, or all: what they compute in the end is that of an undisturbed run.

At the same number of processes it is so bit for bit; at another one up to rounding, which float64 makes visible. Ranks
are forked from a process that has imported everything (tests.helpers.faults), under torch's own agent where one is to
start them again; one test has the torchrun command. Rows of the matrix in docs/reliability.md. make test-distributed
"""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.faults.harness import ENVIRONMENT, Corpus, Count, differences, fingerprint
from tests.helpers.faults.ranks import (
    corpus_of_ranks,
    free_port,
    largest_difference,
    options,
    read_as_planned,
    run_ranks,
    start_ranks,
    start_torchrun,
    steps_read,
    weights_of,
)
from tests.helpers.faults.starts import Killer, Starts, children_of, last_step, rank_1, wait_until
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.distributed
KILLED, REQUEUE, INTERRUPTED, STOPPED = -signal.SIGKILL, 75, 130, 3
STEPS = ("--train.max-steps", "12")
DOUBLE = ("in_double_precision", {})
# The best WERs come at steps 3 and 6: with a patience of 2 the run ends at step 12 of 20
WERS = ("select_weights_by", {"wers": {3: 0.9, 6: 0.7, 9: 0.8, 12: 0.75}})
PATIENT = ("--train.max-steps", "20", "--train.patience", "2")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return corpus_of_ranks(tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def whole(corpus: Corpus) -> Path:
    """Two processes that nothing happens to."""
    runs = corpus.folder / "whole"
    run_ranks(corpus, runs, 2, more=STEPS)
    return runs


def on_rank(rank: int, name: str, **options: object) -> tuple[str, dict]:
    return "on_rank", {"rank": rank, "name": name, **options}


def test_a_run_goes_on_at_any_number_of_processes(corpus: Corpus, tmp_path: Path, count: Count) -> None:
    """4, 2, 3, 1 processes after one another, against one process: stopped in the middle of an epoch, in an evaluation,
    and by the loss of one; until patience ends the run. Nothing is read twice but the step that was lost. 1e-9."""
    count(injected=3, resumes=3)
    more, alone, runs = (*PATIENT, "--train.save-every", "100"), tmp_path / "alone", tmp_path / "many"
    run_ranks(corpus, alone, 1, DOUBLE, WERS, more=more)
    plan = steps_read(alone)
    assert [len(of_step) for of_step in plan.values()] == [1] * 12
    assert len(plan[3][0]) == 2  # accumulated
    more = (*more, "--resume")
    said = run_ranks(corpus, runs, 4, DOUBLE, WERS, on_rank(2, "send_signals", step=3, numbers=[signal.SIGTERM]),
                     more=more, codes=[REQUEUE] * 4)  # fmt: skip
    assert "stopped at step 3 of 20" in said
    evaluating = on_rank(1, "signal_in_evaluation", evaluation=0, number=signal.SIGUSR1)
    run_ranks(corpus, runs, 2, DOUBLE, WERS, evaluating, more=more, codes=[REQUEUE] * 2)
    said = run_ranks(corpus, runs, 3, DOUBLE, WERS, on_rank(1, "kill_in_step", step=9), more=more,
                     codes=[STOPPED, KILLED, STOPPED])  # fmt: skip
    assert "rank 1 on" in said
    run_ranks(corpus, runs, 1, DOUBLE, WERS, more=more)
    attempts = steps_read(runs)
    assert read_as_planned(attempts, plan)
    assert {step for step, of_step in attempts.items() if len(of_step) > 1} <= {9}
    assert largest_difference(runs / "run", weights_of(alone / "run")) < 1e-9
    count(survived=3)


def test_two_processes_that_lose_one_or_all_end_with_the_same_bits(
    whole: Path, corpus: Corpus, tmp_path: Path, count: Count
) -> None:
    """One run, interrupted six times: signals to one rank, kill -9 of each rank, of both, and inside a save."""
    count(injected=6, resumes=6)
    run = functools.partial(run_ranks, corpus, tmp_path, 2)
    more = (*STEPS, "--resume")
    said = run(on_rank(1, "send_signals", step=2, numbers=[signal.SIGTERM]), more=more, codes=[REQUEUE] * 2)
    assert "stopped at step 2 of 12" in said
    said = run(on_rank(0, "send_signals", step=4, numbers=[signal.SIGINT]), more=more, codes=[INTERRUPTED, REQUEUE])
    assert "SIGINT: saving after this step" in said
    run(on_rank(1, "kill_in_step", step=6), more=more, codes=[STOPPED, KILLED])  # rank 0 saves step 5
    assert (tmp_path / "run" / "checkpoints" / "step-00000005" / "manifest.json").exists()
    run(on_rank(0, "kill_in_step", step=7), more=more, codes=[KILLED, STOPPED])  # what was saved last is step 5
    # the tenth operation of rank 0 on the disk is in the middle of the save of step 8
    run(on_rank(0, "kill_at_operation", number=10), more=more, codes=[KILLED, STOPPED])
    run(("kill_in_step", {"step": 11}), more=more, codes=[KILLED] * 2)
    run(more=more)
    assert read_as_planned(steps_read(tmp_path), steps_read(whole))
    assert differences(tmp_path / "run", fingerprint(whole / "run")) == []
    count(survived=6, bit_exact=6)


def test_processes_notice_within_seconds_that_others_are_gone(corpus: Corpus, tmp_path: Path, count: Count) -> None:
    """Ranks 2 and 3 of four at once. Rank 0 waits for rank 1 then, and not for those; it must notice all the same."""
    count(injected=1, resumes=0)
    group = start_ranks(corpus, tmp_path, 4, on_rank(2, "kill_in_step", step=3), on_rank(3, "kill_in_step", step=3),
                        more=STEPS)  # fmt: skip
    assert [group.ranks[rank].wait() for rank in (2, 3)] == [KILLED] * 2
    begin = time.monotonic()
    assert [group.ranks[rank].wait() for rank in (0, 1)] == [STOPPED] * 2
    assert time.monotonic() - begin < 30
    assert "rank 2 on" in group.said
    assert "rank 3 on" in group.said
    assert last_step(tmp_path / "run") == 2
    count(survived=1)


def test_a_process_that_hangs_is_lost_after_the_time_limit(
    whole: Path, corpus: Corpus, tmp_path: Path, count: Count
) -> None:
    """Frozen by SIGSTOP, it is there but takes no part. The limit of half an hour is three seconds here."""
    count(injected=1, resumes=1)
    group = start_ranks(corpus, tmp_path, 2, ("collectives_take", {"seconds": 3.0}),
                        on_rank(1, "stop_in_step", step=6), more=STEPS)  # fmt: skip
    assert group.ranks[0].wait() == STOPPED, group.said
    assert "--resume goes on from the last save" in group.said
    assert "Traceback" not in group.said
    group.ranks[1].signal(signal.SIGKILL)
    group.ranks[1].wait()
    run_ranks(corpus, tmp_path, 2, more=(*STEPS, "--resume"))
    assert differences(tmp_path / "run", fingerprint(whole / "run")) == []
    count(survived=1, bit_exact=1)


def test_torchrun_starts_killed_workers_again_and_they_go_on(
    whole: Path, corpus: Corpus, tmp_path: Path, count: Count
) -> None:
    """With --overwrite on a folder that holds another run: the first start overwrites it, the others resume."""
    count(injected=4, resumes=4)
    run_ranks(corpus, tmp_path / "other", 1, more=("--train.max-steps", "3", "--seed", "1"))
    (tmp_path / "other" / "run").rename(tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").iterdir():  # a step that the run to come never saves
        path.rename(path.with_name("step-00000099")) if path.name != "best" else None
    torchrun = start_torchrun(corpus, tmp_path, more=(*STEPS, "--overwrite"), max_restarts=4, nproc_per_node=2)
    killer = Killer(tmp_path, torchrun, num_ranks=2)
    for rank, steps_later in ((1, 1), (0, 3), (1, 2), (0, 0)):
        killer.kill(rank, steps_later)
    assert torchrun.wait() == 0, torchrun.said
    # the start that was killed at once did not come to say so
    assert torchrun.said.count("torchrun has started this run again: it goes on as with --resume") in (3, 4)
    assert "use by another process" not in torchrun.said
    assert read_as_planned(steps_read(tmp_path), steps_read(whole))
    assert differences(tmp_path / "run", fingerprint(whole / "run")) == []
    count(survived=4, bit_exact=4)


def test_a_refused_start_is_refused_again_and_touches_nothing(corpus: Corpus, whole: Path, tmp_path: Path) -> None:
    """A folder that holds a run which this torchrun did not begin: a restart must not take it for its own."""
    before = {path: path.read_bytes() for path in (whole / "run").rglob("*") if path.is_file()}
    torchrun = start_torchrun(corpus, whole, more=(*STEPS, "--seed", "7"), max_restarts=2, log="refused")
    assert torchrun.wait() == 1
    assert torchrun.said.count("holds a run of 12 steps: --resume continues it") == 3
    assert {path: path.read_bytes() for path in (whole / "run").rglob("*") if path.is_file()} == before


def test_a_node_that_is_lost_and_one_that_joins_change_the_number_of_processes(
    corpus: Corpus, tmp_path: Path, count: Count
) -> None:
    """Two nodes, of one and two processes; the second is killed as a whole, and comes back later. float64, 1e-9.

    Every node has a view of its own of the disk, but for the run's folder.
    """
    count(injected=2, resumes=2)
    steps = ("--train.max-steps", "40")
    run_ranks(corpus, tmp_path / "alone", 1, DOUBLE, more=steps)
    runs = tmp_path / "many"
    endpoint = f"127.0.0.1:{free_port()}"
    start = functools.partial(
        start_torchrun, corpus, runs, DOUBLE, ("slow_steps", {"seconds": 0.2}), more=steps, endpoint=endpoint,
        min_nodes=1, max_nodes=2, max_restarts=3, rdzv_configs={"last_call_timeout": 1},
    )  # fmt: skip
    first = start(node=0, log="first", nproc_per_node=2)
    second = start(node=1, log="second", nproc_per_node=1)
    sizes = Starts(runs, first)
    sizes.wait_for(lambda: sizes.reached(3) and sizes.latest == 3, "three processes in step 3")
    second.signal(signal.SIGKILL)
    for pid in children_of(second.pid):
        os.kill(pid, signal.SIGKILL)
    assert second.wait() == KILLED
    sizes.wait_for(lambda: sizes.latest == 2 and sizes.reached(8), "two processes")
    third = start(node=1, log="third", nproc_per_node=1)
    assert first.wait() == 0, first.said
    assert third.wait() == 0, third.said
    assert sizes.latest == 3
    attempts = steps_read(runs)
    assert read_as_planned(attempts, steps_read(tmp_path / "alone"))
    assert largest_difference(runs / "run", weights_of(tmp_path / "alone" / "run")) < 1e-9
    count(survived=2)


def test_the_torchrun_command_restarts_and_saves_when_it_is_asked_to_stop(
    whole: Path, corpus: Corpus, tmp_path: Path, count: Count
) -> None:
    """kill -9 of a worker of the command itself; then SIGTERM to torchrun, which grants its processes 30 s."""
    count(injected=2, resumes=2)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
                "--max-restarts", "1", "-m", "trainer.run"]  # fmt: skip
    log = tmp_path / "log"
    with open(log, "wb") as file:
        argv = [*torchrun, *options(corpus, tmp_path, *STEPS, "--train.save-every", "1")]
        process = subprocess.Popen(argv, cwd=ROOT, env=ENVIRONMENT, stdout=file, stderr=file)
    wait_until(lambda: last_step(tmp_path / "run") >= 2, log)
    killed = rank_1(process.pid)
    os.kill(killed, signal.SIGKILL)
    wait_until(
        lambda: "it goes on as with --resume\n" in log.read_text() and rank_1(process.pid) not in (0, killed), log
    )
    before = last_step(tmp_path / "run")
    wait_until(lambda: last_step(tmp_path / "run") > before, log)
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 1
    assert time.monotonic() - begin < 30
    said = log.read_text()
    assert "Unable to shutdown process" not in said
    reached = int(re.findall(r"stopped at step (\d+) of 12", said)[-1])
    assert last_step(tmp_path / "run") == reached < 12
    run_ranks(corpus, tmp_path, 2, more=(*STEPS, "--resume"))
    assert differences(tmp_path / "run", fingerprint(whole / "run")) == []
    count(survived=2, bit_exact=1)
