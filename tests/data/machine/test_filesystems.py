"""File systems without locks or without a flush of folders (data.machine.filesystems), their answers given by hand.

pytest tests/data/machine/test_filesystems.py
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from data.machine.filesystems import flush_to_disk, lock, unlock
from data.shards.building import alone
from trainer.errors import CorpusError
from trainer.rundir.disk import verify, write_sealed, write_text
from trainer.rundir.lock import is_held, lock_run

REFUSALS = [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK]


def refuse_locks(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def flock(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


def refuse_to_flush(monkeypatch: pytest.MonkeyPatch, is_refused: Any, number: int) -> None:
    flush = os.fsync

    def fsync(file: int) -> None:
        if is_refused(os.fstat(file).st_mode):
            raise OSError(number, os.strerror(number))
        flush(file)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("number", REFUSALS)
def test_a_run_goes_on_without_locks_and_warns_once(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_locks(monkeypatch, number)
    warnings: list[str] = []
    with lock_run(tmp_path, warnings.append):
        assert not is_held(tmp_path)
        with alone(tmp_path):  # shards are packed
            pass
    assert len(warnings) == 1
    assert os.strerror(number) in warnings[0]
    assert str(tmp_path) in warnings[0]


def test_another_error_of_a_lock_is_no_lack_of_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_locks(monkeypatch, errno.EIO)
    with open(tmp_path / "lock", "w") as file, pytest.raises(OSError, match="Input/output error"):
        lock(file)


def test_a_lock_is_another_processs_until_it_lets_go(tmp_path: Path) -> None:
    """Two open files of one process stand for two processes: an flock belongs to the open file."""
    with open(tmp_path / "lock", "w") as one, open(tmp_path / "lock", "w") as other:
        assert lock(one) == ""
        with pytest.raises(BlockingIOError):
            lock(other, is_shared=True)
        unlock(one)
        assert lock(other) == ""


def test_two_processes_do_not_pack_into_one_folder(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(CorpusError, match="another process packs into it"), alone(tmp_path):
        pytest.fail("both pack")


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP])
def test_what_is_sealed_is_whole_where_folders_cannot_be_flushed(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CIFS answers EINVAL, gocryptfs EOPNOTSUPP."""
    refuse_to_flush(monkeypatch, stat.S_ISDIR, number)
    write_sealed(tmp_path / "step-1", {"a": lambda path: path.write_text("weights")})
    verify(tmp_path / "step-1")
    write_text(tmp_path / "config.json", "{}")
    assert (tmp_path / "config.json").read_text() == "{}"


@pytest.mark.parametrize(("is_refused", "number"), [(stat.S_ISREG, errno.EINVAL), (stat.S_ISDIR, errno.EIO)])
def test_a_file_that_cannot_be_flushed_and_a_broken_disk_are_errors(
    is_refused: Any, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("weights")
    refuse_to_flush(monkeypatch, is_refused, number)
    path = tmp_path if is_refused is stat.S_ISDIR else tmp_path / "a"
    with pytest.raises(OSError, match=os.strerror(number)):
        flush_to_disk(path)
