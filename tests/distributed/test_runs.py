"""Whole runs by the command line in one to four ranks: the same files, the same transcripts, one voice.

The ranks are forked from this process, but for one run under torchrun itself. make test-distributed
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.ranks import Ended, free_port, run_ranks
from tests.helpers.resumed import options, run_stopped
from trainer.parallel.launch import Launch
from trainer.run import main
from trainer.rundir.dynamics.files import read_dynamics

pytestmark = [pytest.mark.distributed, pytest.mark.usefixtures("one_thread")]
SAME = ["--model.hidden-dropout", "0", "--optim.lr", "1e-5"]
"""Without dropout, whose draws differ between ranks, and with small steps: fp32's rounding does not grow."""


def run(size: int, folder: Path, inputs: Path, *more: str, codes: set[int] = {0}) -> list[Ended]:  # noqa: B006
    """A run of so many ranks in `folder`."""

    def work(launch: object) -> None:
        raise SystemExit(main(options(folder, inputs, *SAME, *more)))

    ended = run_ranks(size, work, folder / "ranks", timeout=300)
    assert {e.code for e in ended} <= codes, [e.stderr for e in ended]
    return ended


def alone(folder: Path, inputs: Path, *more: str) -> None:
    assert main(options(folder, inputs, *SAME, *more)) == 0


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]


def written(folder: Path) -> list[tuple[str, str]]:
    lines = (folder / "run" / "hypotheses.jsonl").read_text().splitlines()
    return [(r["id"], r["hypothesis"]) for r in map(json.loads, lines)]


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run" / "results.json").read_text())


@pytest.mark.parametrize("size", [2, 3, 4])
def test_a_run_of_several_ranks_ends_as_that_of_one(size: int, run_inputs: Path, tmp_path: Path) -> None:
    """Batches of 4 utterances, one of 2 at the end of an epoch; evaluation and the closing one are shared out."""
    more = ("--batching.batch-size", "4", "--eval.batch-size", "2")
    alone(tmp_path / "one", run_inputs, *more)
    ended = run(size, tmp_path / "all", run_inputs, *more)
    assert written(tmp_path / "all") == written(tmp_path / "one")
    one, several = results(tmp_path / "one"), results(tmp_path / "all")
    for key in ("wer", "cer", "ser", "num_errors", "num_reference_words", "steps", "epochs"):
        assert several[key] == one[key], key
    assert (several["processes"], several["backend"]) == (size, "gloo")
    for ours, theirs in zip(records(tmp_path / "all"), records(tmp_path / "one"), strict=True):
        for key in ("train/loss", "eval/loss", "eval/num_errors", "eval/blank_share"):
            assert ours.get(key, 0.0) == pytest.approx(theirs.get(key, 0.0), rel=1e-5), key
    theirs, ours = (read_dynamics(tmp_path / name / "run") for name in ("one", "all"))
    for key in ("epoch", "step", "row"):
        assert ours.visits[key].tolist() == theirs.visits[key].tolist(), key
    assert ours.visits["loss"] == pytest.approx(theirs.visits["loss"], rel=1e-4)
    assert ours.scores["loss"] == pytest.approx(theirs.scores["loss"], rel=1e-4)
    assert f"{size}, gradients summed by gloo" in ended[0].stderr
    assert [e.stderr for e in ended[1:]] == [""] * (size - 1)


@pytest.mark.parametrize("missing", ["eval.jsonl", "checkpoint"])
def test_what_is_missing_on_one_of_two_hosts_ends_the_run_at_once(
    missing: str, run_inputs: Path, tmp_path: Path
) -> None:
    """The first host has all files and would wait for the second one; a collective waits for half an hour."""
    inputs = {0: run_inputs, 1: tmp_path / "host"}
    inputs[1].mkdir()
    for path in run_inputs.iterdir():
        if path.name != missing:
            (inputs[1] / path.name).symlink_to(path)

    def work(launch: Launch) -> None:
        os.environ.update(LOCAL_RANK="0", LOCAL_WORLD_SIZE="1")
        raise SystemExit(main(options(tmp_path, inputs[launch.rank], *SAME)))

    ended = run_ranks(2, work, tmp_path / "ranks", timeout=60)
    assert [e.code for e in ended] == [2, 2], [e.stderr for e in ended]
    told = [line for e in ended for line in e.stderr.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    assert told[0].startswith("error: rank 1 on ")
    assert f"{inputs[1] / missing}: " in told[0]


def test_a_run_of_two_goes_on_in_one_and_in_three_with_the_same_batches(run_inputs: Path, tmp_path: Path) -> None:
    """What is read is the plan's, whoever reads it: losses follow those of one process that was never stopped."""
    more = ("--batching.batch-size", "4", "--train.grad-accum-steps", "1")
    alone(tmp_path / "whole", run_inputs, *more)
    whole = {r["step"]: r["train/loss"] for r in records(tmp_path / "whole") if "train/loss" in r}

    def stop_in_step_5(launch: object) -> None:
        with pytest.MonkeyPatch.context() as patch:
            # whoever hears of the other's Ctrl-C before its own ends as one that was asked to
            run_stopped(tmp_path / "two", run_inputs, 5, patch, *SAME, *more, codes=(130, 75))

    ended = run_ranks(2, stop_in_step_5, tmp_path / "ranks")
    assert [e.code for e in ended] == [0, 0], [e.stderr for e in ended]
    run(3, tmp_path / "two", run_inputs, *more, "--resume")
    resumed = {r["step"]: r["train/loss"] for r in records(tmp_path / "two") if "train/loss" in r}
    assert resumed.keys() == whole.keys()
    assert [resumed[s] for s in sorted(whole)] == pytest.approx([whole[s] for s in sorted(whole)], rel=1e-5)


def test_torchrun_trains_with_the_command_of_one_process(run_inputs: Path, tmp_path: Path) -> None:
    """Under torchrun's own agent; SIGKILL of rank 1 afterwards ends a second run within seconds, saved by rank 0."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port",
               str(free_port()), "-m", "trainer.run"]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *options(tmp_path / "a", run_inputs, *SAME)], cwd=ROOT, env=environment,
                          capture_output=True, text=True, timeout=240)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("done: 10 steps") == 1
    assert done.stderr.count("-> ") == 1

    long = options(tmp_path / "b", run_inputs, *SAME, "--train.epochs", "2000", "--train.max-steps", "4000")
    with open(tmp_path / "err", "w") as err:
        agent = subprocess.Popen([*command, *long], cwd=ROOT, env=environment, stderr=err, start_new_session=True)
    metrics = tmp_path / "b" / "run" / "metrics.jsonl"
    try:
        end = time.monotonic() + 120
        while not (metrics.exists() and metrics.read_text()) and time.monotonic() < end:
            time.sleep(0.1)
        children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
        ranks = {p: Path(f"/proc/{p}/environ").read_text().split("\0") for p in children}
        (victim,) = (int(p) for p, names in ranks.items() if "RANK=1" in names)
        os.kill(victim, signal.SIGKILL)
        begin = time.monotonic()
        agent.wait(60)
        assert time.monotonic() - begin < 40
    finally:
        if agent.poll() is None:
            os.killpg(agent.pid, signal.SIGKILL)
    told = (tmp_path / "err").read_text()
    assert told.count("error: rank 1 on ") == 1
    assert "is gone" in told
    steps = sorted((tmp_path / "b" / "run" / "checkpoints").glob("step-*"))
    assert steps
    assert json.loads((steps[-1] / "state.json").read_text())["state"]["step"] >= 2
