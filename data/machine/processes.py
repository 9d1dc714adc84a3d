"""Do independent tasks in several processes, where Python's lock would let threads do one at a time.

The processes are forked, so a task may use whatever the caller has at hand, and nothing but its number and its result
is copied. They must not touch CUDA.
"""

from __future__ import annotations

import itertools
import multiprocessing
import signal
from collections.abc import Callable, Generator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TypeVar

from trainer.errors import LoaderError

R = TypeVar("R")
_AHEAD = 2
"""Tasks that a process has been given and has not answered: it need not wait for the next one."""


def do_tasks(work: Callable[[int], R], num_tasks: int, num_processes: int) -> Generator[tuple[int, R], None, None]:
    """(task, work(task)) for each of `num_tasks`, in the order in which they are done.

    With one process they are done here, one after the other. An exception of `work` is raised here; LoaderError when a
    process dies. Whatever ends the iteration, no process is left.
    """
    if num_processes <= 1:
        yield from ((task, work(task)) for task in range(num_tasks))
        return
    context = multiprocessing.get_context("fork")
    ends: list[Connection] = []
    processes: list[BaseProcess] = []
    tasks = iter(range(num_tasks))
    try:
        for _ in range(num_processes):
            ours, theirs = context.Pipe()
            ends.append(ours)
            processes.append(context.Process(target=_answer, args=(work, theirs, list(ends)), daemon=True))
            processes[-1].start()
            theirs.close()
        for end, task in zip(ends * _AHEAD, tasks, strict=False):
            end.send(task)
        left = num_tasks
        while left:
            for answered in wait(ends):
                assert isinstance(answered, Connection)
                done, result, error = _receive(answered)
                if error is not None:
                    raise error
                for task in itertools.islice(tasks, 1):
                    answered.send(task)
                left -= 1
                yield done, result
    finally:
        for process in processes:
            process.kill()
            process.join()
        for end in ends:
            end.close()


def _receive(end: Connection) -> tuple:
    try:
        return end.recv()
    except (EOFError, OSError):
        raise LoaderError(
            "a process that reads audio died (killed from outside, or the machine is out of memory). Free some memory, "
            "and run the same command again."
        ) from None


def _answer(work: Callable[[int], object], end: Connection, ends_of_others: list[Connection]) -> None:
    """Do the tasks that come through `end`, until the other process kills this one or is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # whoever waits for the results decides
    for other in ends_of_others:  # or this process would never see the other one's end
        other.close()
    try:
        while True:
            task = end.recv()
            result: object = None
            failure: Exception | None = None
            try:
                result = work(task)
            except Exception as error:
                failure = error
            end.send((task, result, failure))
    except (EOFError, OSError):
        return
