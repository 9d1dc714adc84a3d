"""What not every file system has: locks, and a folder that can be flushed.

Lustre is often mounted without flock, NFS without a lock daemon, and CIFS and some of FUSE's refuse to flush a folder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import IO

NOT_THERE = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)
"""What a system call says that the file system does not have; ENOLCK comes from NFS."""


def lock(file: IO, *, is_shared: bool = False, waits: bool = False) -> str:
    """Take the flock of an open file, which is kept until the file is closed. Why there are no locks here; else "".

    BlockingIOError when another process keeps it, unless this one `waits` for it.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | (0 if waits else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in NOT_THERE:
            return os.strerror(error.errno)
        raise
    return ""


def unlock(file: IO) -> None:
    """Let go of the flock, even if a forked process has the file open too."""
    with contextlib.suppress(OSError):  # without locks
        fcntl.flock(file, fcntl.LOCK_UN)


def describe_no_locks(folder: Path, reason: str) -> str:
    """What is said where two processes in one folder would not notice each other."""
    return (
        f"{folder}: its file system has no locks ({reason}), so that two runs that use it at once do not notice each "
        "other. Start one at a time there, or mount it with locks (Lustre: -o flock)."
    )


def flush_to_disk(path: Path) -> None:
    """fsync a file, or the names in a folder. A folder whose file system cannot be asked for it is as it is."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NOT_THERE or not path.is_dir():
            raise
    finally:
        os.close(descriptor)
