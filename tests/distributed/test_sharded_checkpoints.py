"""Checkpoints of a spread model: another number of processes reads the same bits; a folder is whole or not there."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from models.checkpoints.shards import read_whole, stored_tensors
from tests.helpers.models import small_model
from tests.helpers.ranks import run_ranks
from tests.helpers.sharded import CPU, digests, in_ranks, trained, training_parts, whole_weights
from trainer.errors import CheckpointError
from trainer.loop.state import TrainState
from trainer.loop.step import TrainingParts
from trainer.parallel.joining import joined
from trainer.parallel.launch import Launch
from trainer.parallel.world import ALONE, World
from trainer.rundir import disk
from trainer.rundir.checkpoints.restore import load_best, newest_valid, restore
from trainer.rundir.checkpoints.saving import Saver
from trainer.rundir.checkpoints.sharded import ShardedSaver
from trainer.rundir.disk import read_manifest, verify

pytestmark = pytest.mark.distributed

IDENTITY = {"options": {}, "content": {}, "tokens": ["a"]}
OPTIONS: dict[str, Any] = dict(family="wavlm", dtype=torch.float32, steps=3)


def everything(parts: TrainingParts) -> dict[str, str]:
    """Hashes of all weights and moments."""
    names = {p: n for n, p in parts.model.named_parameters()}
    moments = {f"{key}/{names[p]}": m for p, of_p in parts.optimizer.state.items() for key, m in of_p.items()}
    return digests({**parts.model.state_dict(), **moments})


def save(run_dir: Path, parts: TrainingParts, world: World) -> list[str]:
    """Save step 3 and the best weights; returns the warnings."""
    warnings: list[str] = []
    saver = ShardedSaver(run_dir, 2, IDENTITY, warnings.append, world)
    state = TrainState(step=3, best_step=3, best_wer=0.5)
    saver.save_best(parts.model, state)
    saver.save(parts, state)
    saver.finish()
    return warnings


def restored(run_dir: Path, world: World, *, is_sharded: bool) -> dict[str, str]:
    """Everything that a run of this kind reads from the newest checkpoint."""
    parts = training_parts(small_model("wavlm", seed=1), world, is_sharded=is_sharded)
    found = newest_valid(run_dir, print)
    assert found is not None
    state = restore(*found, parts)
    assert [state.step, parts.scheduler.last_epoch] == [3, 3]
    return everything(parts)


def test_checkpoint_of_four_is_read_bit_for_bit_by_two_one_and_three(tmp_path: Path, one_thread: None) -> None:
    """4 -> 2 -> 1 -> 3 processes, each writing what it has read; then one process with the whole model."""

    def first(world: World) -> Any:
        _, parts = trained(world, is_sharded=True, **OPTIONS)
        assert save(tmp_path / "4", parts, world) == []
        return everything(parts)

    (tmp_path / "4").mkdir()
    reference = in_ranks(4, first, tmp_path / "ranks")[0]
    assert len(reference) > 200

    before = "4"
    for size in (2, 1, 3):
        (tmp_path / str(size)).mkdir()

        def go_on(world: World, source: Path = tmp_path / before, target: Path = tmp_path / str(size)) -> Any:
            parts = training_parts(small_model("wavlm", seed=1), world, is_sharded=True)
            restore(*newest_valid(source, print), parts)  # type: ignore[misc]
            assert save(target, parts, world) == []
            return everything(parts)

        assert in_ranks(size, go_on, tmp_path / "ranks") == [reference] * size
        assert len(list((tmp_path / str(size) / "checkpoints" / "step-00000003").glob("shard-*"))) == 2 * size
        before = str(size)
    assert restored(tmp_path / "3", ALONE, is_sharded=False) == reference
    best = small_model("wavlm", seed=1)
    load_best(tmp_path / "3", best)
    assert digests(best.state_dict()) == {n: h for n, h in reference.items() if "/" not in n}


def test_checkpoint_of_one_process_is_read_by_a_spread_model(tmp_path: Path, one_thread: None) -> None:
    """From DDP to FSDP: the file of the whole model is read share by share."""
    _, parts = trained(**OPTIONS)
    saver = Saver(tmp_path, 2, IDENTITY, print)
    saver.save(parts, TrainState(step=3))
    assert saver.finish()
    found = in_ranks(2, lambda world: restored(tmp_path, world, is_sharded=True), tmp_path / "ranks")
    assert found == [everything(parts)] * 2


def test_manifest_has_the_files_of_all_processes_and_finds_a_changed_byte(tmp_path: Path, one_thread: None) -> None:
    def work(world: World) -> Any:
        return save(tmp_path, training_parts(small_model(), world, is_sharded=True), world)

    assert in_ranks(2, work, tmp_path / "ranks") == [[], []]
    folder = tmp_path / "checkpoints" / "best"
    shards = [f"shard-0000{k}-model-00001-of-00001.safetensors" for k in (1, 2)]
    assert sorted(read_manifest(folder)) == [*shards, "state.json"]
    verify(folder)
    content = bytearray((folder / shards[1]).read_bytes())
    content[-1] ^= 1
    (folder / shards[1]).write_bytes(content)
    with pytest.raises(ValueError, match=f"{shards[1]}: its content is not what was written"):
        verify(folder)


def test_no_file_of_a_checkpoint_is_a_pickle(tmp_path: Path, one_thread: None) -> None:
    def work(world: World) -> Any:
        return save(tmp_path, training_parts(small_model(), world, is_sharded=True), world)

    in_ranks(2, work, tmp_path / "ranks")
    files = [path for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".json"}
    for path in files:  # a safetensors file begins with the length of its header, which is JSON
        content = path.read_bytes()
        json.loads(content if path.suffix == ".json" else content[8 : 8 + int.from_bytes(content[:8], "little")])


def test_missing_shares_are_an_error_and_no_memory_that_nobody_wrote(tmp_path: Path, one_thread: None) -> None:
    def work(world: World) -> Any:
        return save(tmp_path, training_parts(small_model(), world, is_sharded=True), world)

    in_ranks(3, work, tmp_path / "ranks")
    folder = tmp_path / "checkpoints" / "best"
    assert len(stored_tensors(folder)) == len(read_whole(folder)) == len(small_model().state_dict())
    (folder / "shard-00001-model-00001-of-00001.safetensors").unlink()
    with pytest.raises(ValueError, match="are not all there"):
        stored_tensors(folder)


@pytest.mark.parametrize("failing", [0, 1])
def test_full_disk_of_one_process_leaves_no_folder_and_the_next_save_succeeds(
    failing: int, tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = disk.disk_operation

    def work(world: World) -> Any:
        def fail(operation: Any, *args: Any) -> Any:
            if world.rank == failing and operation is disk._fsync and "shard-" in str(args[0]):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(args[0]))
            return real(operation, *args)

        parts = training_parts(small_model(), world, is_sharded=True)
        warnings: list[str] = []
        saver = ShardedSaver(tmp_path, 2, IDENTITY, warnings.append, world)
        monkeypatch.setattr(disk, "disk_operation", fail)
        saver.save(parts, TrainState(step=1))
        assert not saver.finish()
        world.gather(None)  # rank 0 has cleared up
        left = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
        monkeypatch.undo()
        world.gather(None)  # all have looked
        saver.save(parts, TrainState(step=2))
        assert saver.finish()
        return warnings, left

    for warnings, left in in_ranks(2, work, tmp_path / "ranks"):
        assert len(warnings) == 1
        assert "step-00000001 could not be written" in warnings[0]
        assert "No space left on device" in warnings[0]
        assert left == []
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]
    verify(tmp_path / "checkpoints" / "step-00000002")


def test_checkpoint_of_another_model_is_refused(tmp_path: Path, one_thread: None) -> None:
    def work(world: World) -> Any:
        save(tmp_path, training_parts(small_model(), world, is_sharded=True), world)
        other = training_parts(small_model(hidden_size=32), world, is_sharded=True)
        found = newest_valid(tmp_path, print)
        assert found is not None
        with pytest.raises(CheckpointError, match="its weights are of another model"):
            restore(*found, other)

    in_ranks(2, work, tmp_path / "ranks")


def test_gathered_model_is_the_one_that_was_spread(tmp_path: Path, one_thread: None) -> None:
    def work(world: World) -> Any:
        return digests(whole_weights(training_parts(small_model("wavlm"), world, is_sharded=True)))

    assert in_ranks(3, work, tmp_path) == [digests(small_model("wavlm").state_dict())] * 3


@pytest.mark.parametrize("killed", [0, 1])
def test_process_killed_inside_a_save_leaves_the_checkpoint_before(
    killed: int, tmp_path: Path, one_thread: None
) -> None:
    """SIGKILL between its shares and the seal: the other says so, does not hang, and the older checkpoint is found."""

    def work(launch: Launch) -> Any:
        with joined(launch, lambda local_rank: CPU) as world:
            parts = training_parts(small_model(), world, is_sharded=True)
            warnings: list[str] = []
            saver = ShardedSaver(tmp_path, 2, IDENTITY, warnings.append, world)
            saver.save(parts, TrainState(step=1))
            assert saver.finish()
            real = disk.disk_operation

            def die(operation: Any, *args: Any) -> Any:
                if world.rank == killed and operation is disk._fsync and "shard-" in str(args[0]):
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(operation, *args)

            disk.disk_operation = die  # type: ignore[assignment]
            saver.save(parts, TrainState(step=2))
            whole = saver.finish()
            world.leave(failed=True)
            return [whole, *warnings]

    ended = run_ranks(2, work, tmp_path / "ranks", timeout=60)
    assert ended[killed].code == -signal.SIGKILL
    assert ended[1 - killed].result[0] is False, ended[1 - killed].stderr
    assert "step-00000002 could not be written" in ended[1 - killed].result[1]
    found = newest_valid(tmp_path, print)
    assert found is not None
    assert found[0].name == "step-00000001"
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]  # the half one is gone
