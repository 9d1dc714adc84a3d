"""A batch on its way from a worker to the process that trains: in memory that both of them map.

torch would put each tensor into a file in /dev/shm. That is small in a container (Docker gives 64 MB): a worker that
finds no room there loses the batch, and whoever waits for it waits for ever. A file of memfd_create has no name, lies
in no folder, and is limited by memory alone.
"""

from __future__ import annotations

import mmap
import os
from multiprocessing.reduction import DupFd
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from data.batches.collate import Batch, BatchDataset, Request

ALIGNMENT = 64
"""Bytes: every tensor begins at a multiple of it."""
IS_POSSIBLE = hasattr(os, "memfd_create")
"""Linux. Elsewhere batches go torch's way."""


class SharedBatch:
    """What a worker sends in a batch's place: a handle of the memory, and what lies where in it."""

    def __init__(self, batch: Batch) -> None:
        """Called in the worker. OSError when no file can be opened."""
        self.layout: dict[str, tuple[int, torch.dtype, torch.Size]] = {}
        self.others: dict[str, Any] = {
            name: value for name, value in vars(batch).items() if not isinstance(value, Tensor)
        }
        with open(os.memfd_create("batch", os.MFD_CLOEXEC), "wb") as file:
            for name, value in vars(batch).items():
                if isinstance(value, Tensor):
                    file.seek(-file.tell() % ALIGNMENT, os.SEEK_CUR)
                    self.layout[name] = (file.tell(), value.dtype, value.shape)
                    file.write(value.contiguous().numpy().data)
            file.flush()
            self.handle = DupFd(file.fileno())

    def unpack(self) -> Batch:
        """The batch, its tensors views of the shared memory; once, in the process that trains."""
        descriptor = self.handle.detach()
        try:
            memory = mmap.mmap(descriptor, 0)
        finally:
            os.close(descriptor)
        return Batch(**self.others | {name: _view(memory, *place) for name, place in self.layout.items()})

    def pin_memory(self) -> Batch:
        """Called by the DataLoader's own thread."""
        return self.unpack().pin_memory()


class SharingDataset(Dataset):
    """`dataset` whose batches come as SharedBatch."""

    def __init__(self, dataset: BatchDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, key: Request) -> SharedBatch:
        return SharedBatch(self.dataset[key])


def _view(memory: mmap.mmap, offset: int, dtype: torch.dtype, shape: torch.Size) -> Tensor:
    if shape.numel() == 0:  # frombuffer refuses to see nothing
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(memory, dtype=dtype, count=shape.numel(), offset=offset).reshape(shape)
