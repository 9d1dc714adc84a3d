"""Keep libmpg123 from the terminal: it writes of damaged frames to the process' stderr, past libsndfile and Python.

While an MP3 is decoded, file descriptor 2 is a file in memory; what others write there meanwhile (a progress bar of
another thread) is passed on after each block. libsndfile offers no switch for it.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator

_MPG123 = re.compile(rb"^(?:\[src/libmpg123/|\[libmpg123/|Warning: Xing stream size|Note: ).*\n", re.MULTILINE)
_STDERR = 2

_lock = threading.RLock()
_depth = 0
_saved = _kept = -1
_passed_on = 0


@contextlib.contextmanager
def quiet_mpg123() -> Iterator[Callable[[], None]]:
    """Within it libmpg123 is not heard, in any thread. Yields what passes on the words of others."""
    if not _begin():
        yield lambda: None  # nothing is there to be kept from
        return
    try:
        yield _pass_on
    finally:
        _end()


def _begin() -> bool:
    global _depth, _saved, _kept, _passed_on
    with _lock:
        if _depth == 0:
            try:
                _saved = os.dup(_STDERR)
                with tempfile.TemporaryFile() as file:
                    _kept = os.dup(file.fileno())
            except OSError:  # stderr is closed, or no descriptor is left
                return False
            _passed_on = 0
            os.dup2(_kept, _STDERR)
        _depth += 1
        return True


def _pass_on(*, is_last: bool = False) -> None:
    global _passed_on
    with _lock:
        if _kept < 0:
            return
        said = os.pread(_kept, os.fstat(_kept).st_size - _passed_on, _passed_on)
        # a line that has only begun may become one of libmpg123's; a bar's has no end (\r)
        end = len(said) if is_last or b"\r" in said[said.rfind(b"\n") + 1 :] else said.rfind(b"\n") + 1
        _passed_on += end
        said = _MPG123.sub(b"", said[:end])
        with contextlib.suppress(OSError):
            while said:
                said = said[os.write(_saved, said) :]


def _end() -> None:
    global _depth
    with _lock:
        _depth -= 1
        if _depth == 0:
            os.dup2(_saved, _STDERR)
            _pass_on(is_last=True)
            _close()


def _close() -> None:
    global _saved, _kept
    if _kept >= 0:
        os.close(_kept)
        os.close(_saved)
    _saved = _kept = -1


def _reset_in_child() -> None:
    """A process that was forked meanwhile has its stderr back; the thread that decoded is not in it."""
    global _depth, _lock
    _lock = threading.RLock()
    if _kept >= 0:
        os.dup2(_saved, _STDERR)
        _close()
    _depth = 0


os.register_at_fork(after_in_child=_reset_in_child)
