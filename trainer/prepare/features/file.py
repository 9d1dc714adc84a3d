"""The rows of a table of features on their way between memory and the disk, hashed on the way.

    cache/features/KEY/frames.bin     float32 (1 + all frames, C); row 0 is zeros, for padding
    cache/features/.KEY.rows          a table that is being computed and is too large for memory; it can be deleted

A file's SHA-256 is compared while it is read, and computed while it is written.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.device import HostCopy
from trainer.errors import DamagedError
from trainer.rundir.disk import verify, write_sealed

NAME = "frames.bin"
BLOCK = 2**23
"""Values that are read, hashed or written at once: 32 MB."""
NUM_STAGES = 3
"""Blocks of pinned memory between the disk and a GPU."""


def read_rows(folder: Path, rows: Tensor) -> None:
    """Fill `rows` from the sealed `folder`; DamagedError when it is not as it was written. `rows` then are worthless.

    One thread reads while another one hashes, and a GPU copies.
    """
    verify(folder, partial(_read_and_hash, rows))


def map_rows(folder: Path, width: int) -> Tensor:
    """The rows of a folder whose content was verified, mapped into memory."""
    return map_file(folder / NAME, width)


def map_file(path: Path, width: int) -> Tensor:
    """float32 (all rows, width) of a file. Renaming or removing it later does no harm."""
    # copy-on-write: nobody writes, but torch warns of memory that cannot be written
    return torch.from_numpy(np.memmap(path, dtype=np.float32, mode="c").reshape(-1, width))


def _read_and_hash(rows: Tensor, path: Path) -> str:
    """SHA-256 of the file, whose content is then in `rows`."""
    if (size := path.stat().st_size) != 4 * rows.numel():
        raise DamagedError(f"{path}: {size} bytes, {4 * rows.numel()} were expected")
    on_cuda, digest = rows.is_cuda, hashlib.sha256()
    stages = [torch.empty(min(BLOCK, rows.numel()), pin_memory=True) for _ in range(NUM_STAGES)] if on_cuda else []
    busy: deque[tuple[Future[None], torch.cuda.Event | None]] = deque()
    with open(path, "rb", buffering=0) as file, ThreadPoolExecutor(1) as hasher:
        for i, part in enumerate(rows.view(-1).split(BLOCK)):
            block = stages[i % NUM_STAGES][: len(part)] if on_cuda else part
            if len(busy) == NUM_STAGES:
                _wait(*busy.popleft())
            content = _bytes(block)
            _read_fully(file, content, path)
            hashed, copied = hasher.submit(digest.update, content), None
            if on_cuda:
                part.copy_(block, non_blocking=True)
                copied = torch.cuda.Event()
                copied.record(torch.cuda.current_stream(rows.device))
            busy.append((hashed, copied))
        while busy:
            _wait(*busy.popleft())
    return digest.hexdigest()


def _bytes(values: Tensor) -> memoryview:
    """The memory of a tensor on the host."""
    return memoryview(values.contiguous().view(-1).view(torch.uint8).numpy().data)


def _wait(hashed: Future[None], copied: torch.cuda.Event | None) -> None:
    hashed.result()
    if copied is not None:
        copied.synchronize()


def _read_fully(file: Any, content: memoryview, path: Path) -> None:
    done = 0
    while done < len(content):
        got = file.readinto(content[done:])
        if not got:
            raise DamagedError(f"{path}: it ends too early")
        done += got


class ResidentRows:
    """Rows in the memory of the device that trains. They can be written to the disk while it trains."""

    def __init__(self, num_rows: int, width: int, device: torch.device) -> None:
        """RuntimeError, of which torch.OutOfMemoryError is one, without memory for them."""
        self.rows = torch.empty(num_rows, width, device=device)
        self.rows[0] = 0

    def put(self, first_row: int, rows: Tensor) -> None:
        """Take over the rows of one call."""
        self.rows[first_row : first_row + len(rows)] = rows

    def finish(self) -> None:
        """Called after the last rows, in the thread that computed them: prepares `seal`."""
        if self.rows.is_cuda:
            # made here: a thread that allocates might disturb the capture of a CUDA graph in another one
            self._stage = torch.empty(min(BLOCK, self.rows.numel()), pin_memory=True)
            self._stream = torch.cuda.Stream(self.rows.device)
            self._stream.wait_stream(torch.cuda.current_stream(self.rows.device))

    def seal(self, folder: Path) -> None:
        """Write them to `folder`, in any thread, after `finish`. OSError when the disk refuses."""
        write_sealed(folder, {NAME: self._write})

    def discard(self) -> None:
        """Nothing of them is on the disk."""

    def _write(self, path: Path) -> dict[str, Any]:
        digest = hashlib.sha256()
        with open(path, "wb", buffering=0) as file:
            for block in self._blocks():
                content = _bytes(block)
                digest.update(content)
                _write_fully(file, content)
        return {"size": 4 * self.rows.numel(), "sha256": digest.hexdigest()}

    def _blocks(self) -> Iterator[Tensor]:
        """The rows on the host, a block at a time; each is valid until the next one is asked for."""
        for part in self.rows.view(-1).split(BLOCK):
            if not part.is_cuda:
                yield part
                continue
            with torch.cuda.stream(self._stream):
                block = self._stage[: len(part)]
                block.copy_(part, non_blocking=True)
                self._stream.synchronize()
            yield block


class FileRows:
    """Rows that are too many for memory: a file from the first one on, which is mapped once it is whole."""

    def __init__(self, folder: Path, width: int) -> None:
        """OSError when the disk refuses."""
        self._path, self._width = folder.with_name(f".{folder.name}.rows"), width
        self._file = open(self._path, "wb", buffering=0)  # noqa: SIM115  closed by finish or discard
        self._behind: deque[HostCopy] = deque()
        _write_fully(self._file, memoryview(bytes(4 * width)))

    def put(self, first_row: int, rows: Tensor) -> None:
        """Take over the rows of one call; calls come in order. A GPU copies them while the next ones are computed."""
        self._behind.append(HostCopy(rows))
        if len(self._behind) > 1:
            self._write_first()

    def finish(self) -> None:
        """Wait until the disk has everything, since training will read it from there."""
        while self._behind:
            self._write_first()
        os.fsync(self._file.fileno())
        self._file.close()
        self.rows = map_file(self._path, self._width)

    def seal(self, folder: Path) -> None:
        """Hash the file and give it its name, in any thread, after `finish`. OSError when the disk refuses."""
        write_sealed(folder, {NAME: partial(os.replace, self._path)})

    def discard(self) -> None:
        """Remove the file, if it has not got its name. Rows that are mapped stay."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def _write_first(self) -> None:
        (rows,) = self._behind.popleft().wait()
        _write_fully(self._file, _bytes(rows))


def _write_fully(file: Any, content: memoryview) -> None:
    done = 0
    while done < len(content):
        done += file.write(content[done:])
