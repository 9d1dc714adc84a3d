"""What the operating system does to a run: signals, the lock on its folder, and streams that nobody reads any more.

No torch here: signals are caught before it is imported.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

from trainer.config import ConfigError

REQUEUE = 75
"""Exit code (EX_TEMPFAIL) after SIGTERM or SIGUSR1: saved, the same command with --resume goes on."""
INTERRUPTED = 130
"""Exit code after Ctrl-C: saved too."""

_locks: list[TextIO] = []
"""What this process holds. flock belongs to the open file, which a forked loader worker shares: it lets go of it."""


class Stopped(BaseException):  # no `except Exception` may swallow it
    """A signal came while there was nothing to save: before the first step or after the last."""

    def __init__(self, flag: StopFlag) -> None:
        super().__init__(f"{flag.name}: ended before or after training; the same command with --resume goes on")
        self.exit_code = flag.exit_code


class StopFlag:
    """Which signal asked the run to stop, if one did."""

    def __init__(self) -> None:
        self.number: int | None = None
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
        """In here a signal only sets the flag: whoever trains looks at it, and saves. Elsewhere it raises Stopped."""
        self._at_once = False
        try:
            yield
        finally:
            self._at_once = True

    def set(self, number: int) -> None:
        """A signal has come."""
        self.number = number
        if self._at_once:
            raise Stopped(self)
        # No print: the signal may have come in the middle of one, and the stream's buffer is not reentrant
        with contextlib.suppress(OSError):
            os.write(2, f"{self.name}: saving after this step; a second signal ends at once\n".encode())


@contextmanager
def stop_on_signals() -> Iterator[StopFlag]:
    """The first SIGINT, SIGTERM or SIGUSR1 sets the flag; the second one ends the process at once.

    That is harmless: a checkpoint is whole or not there.
    """
    flag = StopFlag()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

    def handler(number: int, frame: FrameType | None) -> None:
        for n in numbers:
            signal.signal(n, signal.SIG_DFL)
        flag.set(number)

    previous = {n: signal.signal(n, handler) for n in numbers}
    try:
        yield flag
    finally:
        for n, old in previous.items():
            signal.signal(n, old)


@contextmanager
def lock_run(run_dir: Path) -> Iterator[None]:
    """Hold runs/NAME/lock while the run goes on; ConfigError when another process holds it.

    flock: the kernel frees it when the process dies, however it dies, so no lock is ever stale.
    """
    file: TextIO | None = None
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        file = open(run_dir / "lock", "a", encoding="utf-8")  # noqa: SIM115
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if file is not None:
            file.close()
        raise ConfigError(f"{run_dir} is in use by another process. Wait for it, or choose another --name.") from None
    except OSError as error:
        raise ConfigError(f"{run_dir}: {error.strerror or error}. Choose another --runs-dir.") from None
    _locks.append(file)
    try:
        yield
    finally:
        _locks.remove(file)
        file.close()


def _let_go_of_locks() -> None:
    while _locks:
        _locks.pop().close()


os.register_at_fork(after_in_child=_let_go_of_locks)


def interruptible(
    progress: Callable[..., Iterator], must_stop: Callable[[], bool], stop: type[Exception]
) -> Callable[..., Iterator]:
    """`progress` that raises `stop` between two batches once `must_stop`."""

    def items(batches: object, total: int) -> Iterator:
        for batch in progress(batches, total=total):
            if must_stop():
                raise stop
            yield batch

    return items


def fill_closed_streams() -> None:
    """Let /dev/null stand in for a closed stdin, stdout or stderr (`>&-`).

    Else the next file that is opened, a checkpoint say, takes the free number, and is where C libraries print to.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            assert opened == number, "streams are filled from 0 up"
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def drop_unread_output() -> None:
    """What a broken pipe did not take goes to /dev/null, or Python's last flush would make the exit code 120."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None: closed from the start
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
