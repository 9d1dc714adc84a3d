"""One growing file of records, which `numpy.load(path, mmap_mode="r")` opens at any time, also while a run writes it.

Records are added at its end and never changed. The header of a .npy file says how many there are; numpy leaves room in
it for the number to grow. A seal, which a checkpoint holds, is the number of records up to then and their SHA-256. A
resumed run cuts off what comes behind them, and finds a file whose records are no longer what was written.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from trainer.errors import DamagedError
from trainer.rundir.disk import disk_operation

BYTES_AT_ONCE = 2**24


class RecordFile:
    """A growing .npy file of structured records. The disk may refuse to make or write it: OSError."""

    def __init__(self, path: Path, dtype: np.dtype) -> None:
        """Nothing is read or written before `begin` or `go_on`."""
        self.path, self.dtype = path, dtype
        self.num_records = 0
        self._digest = hashlib.sha256()
        self._is_synced = True

    def begin(self) -> None:
        """Make the file, without a record. One that is there is replaced."""
        self.num_records, self._digest = 0, hashlib.sha256()
        disk_operation(self.path.write_bytes, header(self.dtype, 0))

    def go_on(self, seal: Mapping[str, Any]) -> None:
        """Go on behind the records of `seal`, and cut off all others. DamagedError when they are not as written."""
        self._digest = check_records(self.path, self.dtype, seal)
        self.num_records = seal["records"]
        told = header(self.dtype, self.num_records)
        wanted = len(told) + self.num_records * self.dtype.itemsize
        with open(self.path, "rb") as file:
            found = file.read(len(told))
        if found != told or self.path.stat().st_size != wanted:
            self._write(wanted, b"")

    def append(self, records: np.ndarray) -> None:
        """Add `records`, (n,) of the file's type: all of them, or none when the disk refuses."""
        content = np.ascontiguousarray(records, self.dtype).tobytes()
        before = len(header(self.dtype, 0)) + self.num_records * self.dtype.itemsize
        self.num_records += len(records)
        try:
            self._write(before, content)
        except OSError:
            self.num_records -= len(records)
            with contextlib.suppress(OSError):
                self._write(before, b"")
            raise
        self._digest.update(content)
        self._is_synced = False

    def sync(self) -> None:
        """Bring all records to the disk."""
        if not self._is_synced:
            with open(self.path, "rb") as file:
                disk_operation(os.fsync, file.fileno())
            self._is_synced = True

    def seal(self) -> dict[str, Any]:
        """What a checkpoint keeps: {"records": how many there are, "sha256": hex of their bytes}."""
        return {"records": self.num_records, "sha256": self._digest.hexdigest()}

    def _write(self, end: int, content: bytes) -> None:
        """Let the file end with `content` from byte `end` on. The header comes last: readers see whole records."""
        with open(self.path, "r+b") as file:
            file.truncate(end)
            file.seek(end)
            disk_operation(file.write, content)
            file.flush()
            file.seek(0)
            file.write(header(self.dtype, self.num_records))


def header(dtype: np.dtype, num_records: int) -> bytes:
    """The first bytes of a .npy file. They are equally many for any number of records."""
    told = io.BytesIO()
    fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (num_records,)}
    np.lib.format.write_array_header_1_0(told, fields)
    return told.getvalue()


def check_records(path: Path, dtype: np.dtype, seal: Mapping[str, Any]) -> Any:
    """The running SHA-256 of the records of `seal`; DamagedError when the file does not begin with them.

    What the header says of their number does not count: after a power cut the last records may be missing.
    """
    digest = hashlib.sha256()
    try:
        num_records, sealed = int(seal["records"]), str(seal["sha256"])
        with open(path, "rb") as file:
            read_header(file, path, dtype)
            left = num_records * dtype.itemsize
            while left > 0 and (content := file.read(min(left, BYTES_AT_ONCE))):
                digest.update(content)
                left -= len(content)
    except FileNotFoundError:
        raise DamagedError(f"{path}: missing") from None
    except DamagedError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{path}: not readable ({getattr(error, 'strerror', None) or error})") from None
    if left > 0:
        raise DamagedError(f"{path}: ends before the last of the {num_records} records that were written")
    if digest.hexdigest() != sealed:
        raise DamagedError(f"{path}: its content is not what was written (SHA-256 differs)")
    return digest


def map_records(path: Path, dtype: np.dtype) -> np.ndarray:
    """The records of the file, (n,), mapped into memory. DamagedError when it holds none of this type.

    Where a power cut has taken the last ones that the header counts, those that are there.
    """
    try:
        with open(path, "rb") as file:
            num_records = read_header(file, path, dtype)
            start = file.tell()
        there = min(num_records, (path.stat().st_size - start) // dtype.itemsize)
        return np.memmap(path, dtype, "r", start, (there,)) if there > 0 else np.empty(0, dtype)
    except OSError as error:
        raise DamagedError(f"{path}: not readable ({error.strerror or error})") from None


def read_header(file: BinaryIO, path: Path, dtype: np.dtype) -> int:
    """The number of records that the header of `path` tells of. The file stands at the first of them then."""
    try:
        version = np.lib.format.read_magic(file)
        shape, _, found = np.lib.format.read_array_header_1_0(file) if version == (1, 0) else ((), False, None)
    except (ValueError, EOFError) as error:
        raise DamagedError(f"{path}: not readable ({str(error).splitlines()[0]})") from None
    if found != dtype or len(shape) != 1:
        raise DamagedError(f"{path}: holds other records than this program writes")
    return shape[0]


def put_aside(path: Path, step: int) -> Path:
    """Rename `path`, which a run that goes on from `step` does not go on with. Returns its new name, a free one."""
    numbered = itertools.chain([""], (f"-{i}" for i in itertools.count(2)))
    names = (f"{path.stem}-until-{step:08d}{more}{path.suffix}" for more in numbered)
    aside = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    path.rename(aside)
    return aside
