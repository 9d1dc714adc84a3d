"""data.machine.processes: every task is done once, elsewhere, and nothing is left behind."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import closing

import pytest

from data.machine.processes import do_tasks
from trainer.errors import LoaderError


@pytest.mark.parametrize("num_processes", [1, 2, 5])
@pytest.mark.parametrize("num_tasks", [0, 1, 3, 40])
def test_every_task_is_done_once(num_tasks: int, num_processes: int):
    done = list(do_tasks(lambda task: task * task, num_tasks, num_processes))
    assert sorted(done) == [(task, task * task) for task in range(num_tasks)]


def test_tasks_are_shared_among_processes_and_one_process_is_this_one():
    assert {pid for _, pid in do_tasks(lambda task: os.getpid(), 3, 1)} == {os.getpid()}
    pids = {pid for _, pid in do_tasks(lambda task: os.getpid(), 12, 3)}
    assert len(pids) == 3
    assert os.getpid() not in pids


def test_error_of_a_task_is_raised_as_it_is_and_ends_the_others():
    def work(task: int) -> None:
        if task == 2:
            raise FileNotFoundError(2, "gone", "a.wav")
        time.sleep(0.01 if task < 2 else 60)

    with pytest.raises(FileNotFoundError) as caught:
        list(do_tasks(work, 9, 2))
    assert (caught.value.errno, caught.value.filename) == (2, "a.wav")
    assert not multiprocessing.active_children()


def test_killed_process_is_an_error_that_says_what_to_do():
    def work(task: int) -> None:
        if task == 4:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(LoaderError, match=r"died .*run the same command again"):
        list(do_tasks(work, 9, 2))
    assert not multiprocessing.active_children()


def test_no_process_is_left_when_nobody_wants_more_results():
    with closing(do_tasks(lambda task: task, 100, 2)) as answers:
        next(answers)
        assert len(multiprocessing.active_children()) == 2
    assert not multiprocessing.active_children()


def test_signal_to_the_whole_group_is_left_to_the_process_that_waits():
    """A scheduler signals every process of a job."""

    def work(task: int) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        return task

    assert sorted(do_tasks(work, 4, 2)) == [(task, task) for task in range(4)]


def test_processes_end_with_the_one_that_waits_even_if_it_is_killed():
    script = (
        "import os, time; from data.machine.processes import do_tasks\n"
        "def work(task):\n    os.write(1, b'%d\\n' % os.getpid()); time.sleep(0.05)\n"  # one write: lines stay whole
        "for _ in do_tasks(work, 1000, 2): pass"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids: set[int] = set()
        while len(pids) < 2:
            pids.add(int(process.stdout.readline()))
        process.kill()
        try:
            process.communicate(timeout=10)  # to the end of its output: until nobody is left who could write
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
