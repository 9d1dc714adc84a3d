"""Checkpoints of a model that is spread over several processes (FSDP): every process writes its own shares.

    checkpoints/step-00000400/   shard-00001-model-00001-of-00002.safetensors   weights, the shares of rank 0
                                 shard-00001-model-00002-of-00002.safetensors   moments, the shares of rank 0
                                 shard-00002-...                                those of rank 1, and so on
                                 state.json, manifest.json                      by rank 0
    checkpoints/best/            the same without moments

The folder is whole or not there, as trainer.rundir.disk has it. Each file is fsynced and hashed by the process that
wrote it; rank 0 collects the hashes in the manifest, and renames the folder last. The run's folder must lie on a disk
that all processes see. models.checkpoints.shards reads the files, in any number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from models.checkpoints.shards import is_weight
from trainer.errors import ConfigError, PeerLost
from trainer.parallel.world import World
from trainer.rundir.checkpoints.saving import HostTensors, Saver, save_json
from trainer.rundir.disk import abandon, begin, disk_operation, seal, write_files


class ShardedSaver(Saver):
    """`Saver` of one of several processes, which all save together."""

    def __init__(
        self, run_dir: Path, keep: int, identity: Mapping[str, Any], warn: Callable[[str], None], world: World
    ) -> None:
        super().__init__(run_dir, keep, identity, warn, world.aside())
        self._training = world

    def _write_later(
        self, name: str, step: int, copy: Callable[[], dict[str, HostTensors]], record: dict[str, Any]
    ) -> None:
        if self._training.is_broken:  # it may have been lost in a pass, which leaves the layers half gathered
            self._failures.append(f"{self.folder / name} could not be written (a process is gone, with its shares)")
            return
        super()._write_later(name, step, copy, record)

    def _seal(self, name: str, step: int, tensors: Mapping[str, HostTensors], record: dict[str, Any]) -> None:
        every = {key: tensor for part in tensors.values() for key, tensor in part.items()}
        save_together(self.world, self.folder / name, every, record)

    def _of_any(self, failure: str) -> str:
        try:
            failures = self._training.gather(failure)
        except PeerLost as error:  # whatever this process has, the others' shares are lost
            return str(error)
        return next(filter(None, failures), "")

    def _copy(self, tensors: Mapping[str, Tensor]) -> HostTensors:
        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        shares = super()._copy({n: t.to_local() if isinstance(t, DTensor) else t for n, t in tensors.items()})
        for name, tensor in tensors.items():
            if isinstance(tensor, DTensor):
                shares[name] = DTensor.from_local(
                    shares[name], mesh, tensor.placements, run_check=False, shape=tensor.shape, stride=tensor.stride()
                )
        return shares


def save_together(world: World, folder: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Make `folder` hold the shares of all processes and `record` as state.json, or leave it as it was.

    An error in one process is raised in all. `world` is one of this purpose alone (World.aside).
    """
    try:
        with world.together("a checkpoint's folder"):
            if world.is_first:
                folder.parent.mkdir(exist_ok=True)  # no parents: a run's folder that vanished is not made again
            temporary = begin(folder, makes=world.is_first)
        with world.together("a checkpoint's shares"):
            entries = _write_shares(world, temporary, tensors)
        of_all = world.gather(entries)
        with world.together("a checkpoint's seal"):
            if world.is_first:
                files = {name: entry for of_rank in of_all for name, entry in of_rank.items()}
                seal(folder, files | write_files(temporary, {"state.json": partial(save_json, dict(record))}))
    except BaseException:
        if world.is_first:
            abandon(folder)
        raise


def _write_shares(world: World, folder: Path, tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """Write this process's files; returns their entries of the manifest."""
    number = {name: 1 if is_weight(name) else 2 for name in tensors}
    writer = dcp.HuggingFaceStorageWriter(str(folder), fqn_to_index_mapping=number, save_distributed=True)
    try:
        disk_operation(partial(dcp.save, storage_writer=writer, process_group=world.group), dict(tensors))
    except CheckpointException as error:  # the same in all processes: what went wrong in each that failed
        failure = next(iter(error.failures.values()))[0]
        if isinstance(failure, OSError):
            raise OSError(failure.errno, failure.strerror or str(failure), str(folder)) from None
        raise OSError(None, f"{type(failure).__name__}: {failure}", str(folder)) from None
    own = sorted(folder.glob(f"shard-{world.rank + 1:05d}-*"))
    return write_files(folder, {path.name: lambda path: None for path in own})


def refuse_unshared_folder(world: World, run_dir: Path) -> None:
    """ConfigError unless all processes see the run's folder on the same disk. Rank 0 has made it."""
    token = run_dir / ".shared.part"
    if world.is_first:
        token.write_text(world.name, encoding="utf-8")
    world.gather(None)  # it is there
    rows = world.gather([world.name, token.is_file()])
    if world.is_first:
        token.unlink(missing_ok=True)
    if blind := [name for name, sees in rows if not sees]:
        raise ConfigError(
            f"{run_dir}: {blind[0]} does not see what rank 0 writes there. With --parallel fsdp every process writes "
            "its part of a checkpoint: put --runs-dir on a disk that all hosts share."
        )
