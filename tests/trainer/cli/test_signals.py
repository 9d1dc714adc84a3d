"""Signals that come twice, from torchrun or a terminal that closes: they are one.

tests/reliability/test_faults.py has those of a run alone.

pytest tests/trainer/cli/test_signals.py
"""

from __future__ import annotations

import os
import signal

import pytest

import trainer.cli.signals
from trainer.cli.signals import stop_on_signals
from trainer.errors import REQUEUE
from trainer.parallel.agent import MARK


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_a_scheduler_and_torchrun_send_is_one(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without torchrun the second one would end this process, and the test's with it."""
    monkeypatch.setenv(MARK, "none")
    with stop_on_signals() as flag, flag.waiting_for_the_step():
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        assert flag.number == number


def test_a_later_signal_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARK, "none")
    monkeypatch.setattr(trainer.cli.signals, "SECONDS_OF_REPEATS", 0.0)
    pid = os.fork()
    if pid == 0:
        with stop_on_signals() as flag, flag.waiting_for_the_step():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM


def test_a_closed_terminal_saves_though_it_says_so_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel and the shell both send SIGHUP. Without a handler the first one would end the test's process."""
    monkeypatch.delenv(MARK, raising=False)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with stop_on_signals() as flag, flag.waiting_for_the_step():
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGHUP)
            assert (flag.number, flag.exit_code) == (signal.SIGHUP, REQUEUE)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_under_nohup_a_closed_terminal_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MARK, raising=False)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as flag, flag.waiting_for_the_step():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not flag()
    finally:
        signal.signal(signal.SIGHUP, before)
