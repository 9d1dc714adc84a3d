"""Which torchrun started a process; and what of a run's folder it may take for its own.

pytest tests/trainer/parallel/test_agent.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from trainer.parallel.agent import MARK, find_agent
from trainer.rundir.lock import lock_run, note_agents, was_begun_by

ASK = "from trainer.parallel.agent import find_agent; print(find_agent())"


def test_it_is_nobody_without_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MARK, raising=False)
    assert find_agent() == ""


@pytest.mark.parametrize("wrapper", [[], ["sh", "-c", '"$@"; true', "sh"]], ids=["directly", "through a script"])
def test_it_is_the_process_that_all_its_starts_descend_from(wrapper: list[str]) -> None:
    """This one here, which does not have the mark that it sets; a process id alone could come again."""
    ask = [*wrapper, sys.executable, "-c", ASK]
    environment = os.environ | {MARK: "none"}
    found = [subprocess.run(ask, env=environment, cwd=ROOT, capture_output=True, text=True).stdout for _ in range(2)]
    _, pid, started = found[0].split()
    assert found[0] == found[1]
    assert (int(pid), int(started) > 0) == (os.getpid(), True)


def test_a_folder_belongs_to_the_torchruns_that_ran_in_it_last(tmp_path: Path) -> None:
    """A node that joins belongs to them; whoever begins anew takes the folder over."""
    run_dir = tmp_path / "run"
    with lock_run(run_dir, pytest.fail):
        assert not was_begun_by(run_dir, ["host 1 10", ""])
        note_agents(run_dir, [""])  # a process alone
        assert not was_begun_by(run_dir, [""])
        note_agents(run_dir, ["host 1 10", "host 1 10"])
        note_agents(run_dir, ["host 1 10", "other 2 20"])
        assert was_begun_by(run_dir, ["new 3 30", "other 2 20"])
        assert not was_begun_by(run_dir, ["host 1 11"])
        note_agents(run_dir, ["host 1 11"])
        assert not was_begun_by(run_dir, ["host 1 10", "other 2 20"])
        assert was_begun_by(run_dir, ["host 1 11"])
