"""Tensors that several processes wrote, each its shares of them, into one folder of safetensors files.

torch.distributed.checkpoint writes and reads them in Hugging Face's format: the place of a share in its tensor stands
in the file's own header, as JSON. torch's default format keeps that in a pickle, which could run code when it is read.

    shard-00002-model-00001-of-00002.safetensors    shares of the second process: the weights
    shard-00002-model-00002-of-00002.safetensors    the same: the optimizer's moments

A folder with whole tensors (model.safetensors, optimizer.safetensors) is read in the same way.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.tensor import DTensor

PATTERN = "shard-*.safetensors"
"""The files of a folder whose tensors are spread over several."""


def is_sharded_folder(folder: Path) -> bool:
    """Whether the tensors of `folder` were written by several processes."""
    return any(folder.glob(PATTERN))


def is_spread(tensor: Tensor) -> bool:
    """Whether each process has a share of `tensor` alone."""
    return isinstance(tensor, DTensor)


def is_weight(name: str) -> bool:
    """Whether a stored tensor is a weight. The optimizer's are called exp_avg/NAME and the like."""
    return "/" not in name


def stored_tensors(folder: Path) -> dict[str, TensorStorageMetadata]:
    """Name -> size and type of each tensor in the files of `folder`.

    ValueError when a tensor is not covered once by its shares: a file is missing or does not belong there.
    """
    metadata = dcp.HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    stored = {name: entry for name, entry in metadata.items() if isinstance(entry, TensorStorageMetadata)}
    for name, entry in stored.items():
        if sum(math.prod(chunk.sizes) for chunk in entry.chunks) != math.prod(entry.size):
            raise ValueError(f"{folder}: the shares of {name} are not all there, or some are there twice")
    return stored


def fits(tensor: Tensor, entry: TensorStorageMetadata) -> bool:
    """Whether a stored tensor has the shape and the type of `tensor`."""
    return (tensor.shape, tensor.dtype) == (entry.size, entry.properties.dtype)


def read_into(folder: Path, targets: Mapping[str, Tensor]) -> None:
    """Fill `targets`, whole or spread (DTensor), from the tensors of these names. No process waits for another.

    Each process reads the parts of the files that its own shares lie in, whatever the number of processes was when
    they were written. ValueError when a name or a shape is not that of `folder`.
    """
    stored = stored_tensors(folder)
    for name, target in targets.items():
        if name not in stored:
            raise ValueError(f"{folder}: it has no {name}")
        if not fits(target, stored[name]):
            there = f"{stored[name].properties.dtype} {tuple(stored[name].size)}"
            raise ValueError(f"{folder}: its {name} is {there}, not {target.dtype} {tuple(target.shape)}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)  # as it is meant here
        dcp.load(dict(targets), storage_reader=dcp.HuggingFaceStorageReader(str(folder)), no_dist=True)


def read_whole(folder: Path, is_wanted: Callable[[str], bool] = lambda name: True) -> dict[str, Tensor]:
    """The tensors of `folder` whose names are wanted, whole, on the host."""
    targets = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in stored_tensors(folder).items()
        if is_wanted(name)
    }
    read_into(folder, targets)
    return targets
