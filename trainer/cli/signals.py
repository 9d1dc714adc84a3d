"""Signals that ask a run to stop: the first one lets it save, the second one ends it at once.

torchrun hands on to its processes what it is sent itself. A scheduler sends signals to every process of a job, so that
each of them then comes twice: below torchrun a signal that follows within seconds is the first one again. So is SIGHUP
everywhere: when a terminal closes, kernel and shell both send it.

No torch here, since signals are caught before torch is imported.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from trainer.errors import INTERRUPTED, REQUEUE
from trainer.parallel.agent import is_below_torchrun

SECONDS_OF_REPEATS = 5.0
"""How long a further SIGHUP, and below torchrun any further signal, may be the first one, sent twice."""


class Stopped(BaseException):  # no `except Exception` may swallow it
    """Raised by a signal that comes when there is nothing to save: before the first step or after the last one."""

    def __init__(self, flag: StopFlag) -> None:
        super().__init__(f"{flag.name}: ended before or after training; the same command with --resume goes on")
        self.exit_code = flag.exit_code


class StopFlag:
    """Which signal asked the run to stop, if one did."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.is_silent = False
        """Whether another process of the run tells about the signal."""
        self._at_once = True

    def __call__(self) -> bool:
        return self.number is not None

    @property
    def exit_code(self) -> int:
        return INTERRUPTED if self.number == signal.SIGINT else REQUEUE

    @property
    def name(self) -> str:
        return "no signal" if self.number is None else signal.Signals(self.number).name

    @contextmanager
    def waiting_for_the_step(self) -> Iterator[None]:
        """Within this context a signal only sets the flag; the loop reads it and saves. Elsewhere it raises Stopped."""
        self._at_once = False
        try:
            yield
        finally:
            self._at_once = True

    def set(self, number: int) -> None:
        """Note that signal `number` has come."""
        self.number = number
        if self._at_once:
            raise Stopped(self)
        # No print: the signal may interrupt one, and the stream's buffer is not reentrant
        if self.is_silent:
            return
        with contextlib.suppress(OSError):
            first = "\n" if os.isatty(2) else ""  # a bar may stand on the terminal's line
            os.write(2, f"{first}{self.name}: saving after this step; a second signal ends at once\n".encode())


@contextmanager
def stop_on_signals() -> Iterator[StopFlag]:
    """The first SIGINT, SIGTERM, SIGUSR1 or SIGHUP sets the flag; the second one ends the process at once.

    SIGHUP comes when a terminal closes or a connection breaks. Under nohup it stays ignored, but not below torchrun,
    which hands it on even then.

    That is harmless: a checkpoint is whole or not there. In a thread that is not the main one no handler may be set:
    signals are then up to whoever started it, and the flag stays as it is.
    """
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]
    repeats = is_below_torchrun()
    if repeats or signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    first = 0.0

    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if not flag():
            first = time.monotonic()
            if not repeats:
                for n in set(numbers) - {signal.SIGHUP}:
                    signal.signal(n, signal.SIG_DFL)
            flag.set(number)
        elif time.monotonic() - first >= SECONDS_OF_REPEATS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    previous = {n: signal.signal(n, handler) for n in numbers}
    try:
        yield flag
    finally:
        for n, old in previous.items():
            signal.signal(n, old)
