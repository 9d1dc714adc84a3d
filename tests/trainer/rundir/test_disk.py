"""Sealed folders: a death or a full disk at any operation of a write, any damage to any file (rows S2, S3, S5)."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import trainer.rundir.disk
from tests.helpers.damage import DAMAGES
from tests.helpers.faults.harness import Count
from trainer.errors import DamagedError
from trainer.rundir.disk import recover, remove, verify, write_bytes, write_sealed


def writers(text: str) -> dict[str, Callable[[Path], None]]:
    return {name: (lambda path, name=name: path.write_text(f"{name} {text}")) for name in ("a", "b")}


def die_at(number: int) -> Callable:
    left = [number]

    def disk_operation(operation: Callable, *args: object) -> object:
        if left[0] == 0:
            os._exit(9)
        left[0] -= 1
        return operation(*args)

    return disk_operation


def count_operations(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    seen = 0

    def disk_operation(operation: Callable, *args: object) -> object:
        nonlocal seen
        seen += 1
        return operation(*args)

    with monkeypatch.context() as patch:
        patch.setattr("trainer.rundir.disk.disk_operation", disk_operation)
        write_sealed(folder, writers("counted"))
    return seen


@pytest.mark.parametrize("is_there", [False, True], ids=["new", "replaced"])
def test_death_at_any_operation_leaves_the_old_folder_or_the_new_one_whole(
    is_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: Count
) -> None:
    """A forked child writes, and dies (no handler runs) before each operation in turn."""
    if is_there:
        write_sealed(tmp_path / "counted", writers("before"))
    number_of_operations = count_operations(tmp_path / "counted", monkeypatch)
    assert number_of_operations == (14 if is_there else 12)
    outcomes = []
    for number in range(number_of_operations + 1):
        folder = tmp_path / str(number) / "best"
        folder.parent.mkdir()
        if is_there:
            write_sealed(folder, writers("before"))
        if (pid := os.fork()) == 0:
            import trainer.rundir.disk

            trainer.rundir.disk.disk_operation = die_at(number)
            write_sealed(folder, writers("after"))
            os._exit(0)
        count(injected=1)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status == (9 if number < number_of_operations else 0)
        recover(folder.parent)
        assert [p.name for p in folder.parent.iterdir()] in ([["best"]] if is_there else [["best"], []])
        if folder.exists():
            verify(folder)
            outcomes.append((folder / "a").read_text())
        else:
            outcomes.append("nothing")
        count(survived=1)
    before = "a before" if is_there else "nothing"
    turn = outcomes.index("a after")
    assert outcomes == [before] * turn + ["a after"] * (len(outcomes) - turn)


@pytest.mark.parametrize("is_there", [False, True], ids=["new", "replaced"])
def test_a_full_disk_at_any_operation_leaves_the_old_folder_or_the_new_one_and_nothing_else(
    is_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: Count
) -> None:
    """ENOSPC before each operation in turn; half a file is written before that, as disks do."""
    if is_there:
        write_sealed(tmp_path / "counted", writers("before"))
    number_of_operations = count_operations(tmp_path / "counted", monkeypatch)
    for number in range(number_of_operations):
        folder, left = tmp_path / str(number) / "best", [number]
        folder.parent.mkdir()
        if is_there:
            write_sealed(folder, writers("before"))

        def disk_operation(operation: Callable, *args: object, left: list[int] = left) -> object:
            left[0] -= 1
            if left[0] == -1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return operation(*args)

        count(injected=1)
        with monkeypatch.context() as patch:
            patch.setattr("trainer.rundir.disk.disk_operation", disk_operation)
            with pytest.raises(OSError, match="No space left"):
                write_sealed(folder, writers("after"))
        names = sorted(p.name for p in folder.parent.iterdir())
        if names:
            verify(folder)
            assert set(names) <= {"best", ".best.old"}
            write_sealed(folder, writers("again"))
            assert [p.name for p in folder.parent.iterdir()] == ["best"]
        else:
            assert not is_there
        count(survived=1)


@pytest.mark.parametrize("name", ["a", "b", "manifest.json"])
@pytest.mark.parametrize("how", DAMAGES)
def test_any_damage_to_any_file_is_noticed_and_named(how: str, name: str, tmp_path: Path) -> None:
    write_sealed(tmp_path / "best", writers("before"))
    verify(tmp_path / "best")
    DAMAGES[how](tmp_path / "best" / name)
    with pytest.raises(DamagedError, match=name):
        verify(tmp_path / "best")


def test_every_single_bit_of_a_manifest_matters(tmp_path: Path) -> None:
    """It has no hash of its own; each of its bits flipped in turn is noticed all the same."""
    write_sealed(tmp_path / "best", writers("before"))
    path = tmp_path / "best" / "manifest.json"
    content = path.read_bytes()
    for i in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[i // 8] ^= 1 << i % 8
        path.write_bytes(flipped)
        with pytest.raises(DamagedError):
            verify(tmp_path / "best")


def test_a_replaced_file_is_the_old_one_or_the_new_one_and_a_refused_one_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.json"
    write_bytes(path, b"before")
    original = trainer.rundir.disk.disk_operation
    for refused in range(3):
        left = [refused]

        def disk_operation(operation: Callable, *args: object, left: list[int] = left) -> object:
            left[0] -= 1
            if left[0] == -1:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return original(operation, *args)

        with monkeypatch.context() as patch:
            patch.setattr(trainer.rundir.disk, "disk_operation", disk_operation)
            with pytest.raises(OSError, match="Input/output error"):
                write_bytes(path, b"after")
        assert [p.name for p in tmp_path.iterdir()] == ["results.json"]
        assert path.read_bytes() == b"before"
    write_bytes(path, b"after")
    assert path.read_bytes() == b"after"


def test_rotation_takes_the_name_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A death while files are removed leaves nothing that looks like a damaged checkpoint."""
    write_sealed(tmp_path / "step-00000004", writers("before"))
    monkeypatch.setattr(trainer.rundir.disk, "disk_operation", die_at(2))
    if (pid := os.fork()) == 0:
        remove(tmp_path / "step-00000004")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert [p.name for p in tmp_path.iterdir()] == [".step-00000004.part"]
    recover(tmp_path)
    assert not list(tmp_path.iterdir())
