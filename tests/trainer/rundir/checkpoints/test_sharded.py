"""Saves of a model that is spread over processes, where one of them is gone. tests/distributed has the others."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.models import small_model
from trainer.loop.state import TrainState
from trainer.parallel.world import World
from trainer.rundir.checkpoints.sharded import ShardedSaver


def test_a_save_without_all_processes_says_so_and_writes_nothing(tmp_path: Path) -> None:
    """The layers may be half gathered then, under names that no longer fit the optimizer's."""
    warnings: list[str] = []
    world = World()
    saver = ShardedSaver(tmp_path, 2, {}, warnings.append, world)
    world.is_broken = True
    saver.save_best(small_model(), TrainState(step=3, best_wer=0.5))
    assert not saver.finish()
    assert "best could not be written (a process is gone, with its shares)" in warnings[0]
    assert list(tmp_path.iterdir()) == []
