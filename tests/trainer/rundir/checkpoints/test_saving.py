"""Saving in the background: the loop does not wait, failures are heard, and one save never meets another."""

from __future__ import annotations

import errno
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch.amp import GradScaler

import trainer.rundir.disk
from tests.helpers.damage import flip_a_bit
from tests.helpers.steps import loader_of, make_batch, make_example, make_parts, run_fit, small_model
from trainer.config.schema import TrainConfig
from trainer.errors import CheckpointError, DamagedError
from trainer.loop.state import TrainState
from trainer.loop.step import TrainingParts, train_step
from trainer.rundir.checkpoints.restore import newest_valid, restore
from trainer.rundir.checkpoints.saving import Saver
from trainer.rundir.disk import verify
from trainer.rundir.reading import checkpoints

IDENTITY = {"options": {}, "content": {}, "tokens": ["a"]}


@pytest.fixture
def trained() -> TrainingParts:
    """Three steps into training, so that there are moments."""
    parts = make_parts(small_model())
    parts.model.train()
    for _ in range(3):
        train_step(parts, [make_batch([0, 1])], 1.0, lambda: None)
        parts.scheduler.step()
    return parts


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Every operation of a save waits for the event."""
    go, original = threading.Event(), trainer.rundir.disk.disk_operation

    def disk_operation(operation: Callable, *args: object) -> object:
        assert go.wait(30)
        return original(operation, *args)

    monkeypatch.setattr(trainer.rundir.disk, "disk_operation", disk_operation)
    yield go
    go.set()


def saver_in(folder: Path, said: list[str] | None = None, keep: int = 3) -> Saver:
    return Saver(folder, keep, IDENTITY, (said if said is not None else []).append)


def test_save_returns_before_anything_is_written(
    trained: TrainingParts, slow_disk: threading.Event, tmp_path: Path
) -> None:
    saver = saver_in(tmp_path)
    saver.save(trained, TrainState(step=3))
    assert not list(tmp_path.glob("checkpoints/*"))
    slow_disk.set()
    assert saver.finish()
    verify(tmp_path / "checkpoints" / "step-00000003")


def test_what_is_saved_is_the_state_at_the_call_however_late_it_is_written(
    trained: TrainingParts, slow_disk: threading.Event, tmp_path: Path
) -> None:
    """Training goes on while the disk sleeps; weights, moments, schedule and counts come back as they were."""
    expected = [v.clone() for v in trained.model.state_dict().values()]
    moments = [v.clone() for s in trained.optimizer.state.values() for v in s.values()]
    state = TrainState(step=3, losses=[1.0])
    saver = saver_in(tmp_path)
    saver.save(trained, state)
    train_step(trained, [make_batch([2])], 1.0, lambda: None)
    trained.scheduler.step()
    state.step, state.losses = 4, [1.0, 2.0]
    state.losses.append(3.0)
    slow_disk.set()
    saver.finish()
    found = newest_valid(tmp_path, print)
    assert found is not None
    parts = make_parts(small_model(seed=1))
    assert restore(*found, parts) == TrainState(step=3, losses=[1.0])
    assert all(torch.equal(a, b) for a, b in zip(expected, parts.model.state_dict().values(), strict=True))
    restored = [v for s in parts.optimizer.state.values() for v in s.values()]
    assert all(torch.equal(a, b) for a, b in zip(moments, restored, strict=True))
    assert parts.scheduler.last_epoch == 3


def test_moments_of_what_is_not_trained_here_are_refused(trained: TrainingParts, tmp_path: Path) -> None:
    """A run that freezes what the checkpoint trained would leave out moments and say nothing."""
    saver = saver_in(tmp_path)
    saver.save(trained, TrainState(step=3))
    saver.finish()
    found = newest_valid(tmp_path, print)
    assert found is not None
    model = small_model(seed=1)
    model.hf.lm_head.bias.requires_grad_(False)
    with pytest.raises(CheckpointError, match=r"moments of parameters that are not trained here: .*lm_head\.bias"):
        restore(*found, make_parts(model))


def test_a_third_save_waits_for_the_first(trained: TrainingParts, slow_disk: threading.Event, tmp_path: Path) -> None:
    """Two may be under way: the best weights and the checkpoint of one step, which come together."""
    saver = saver_in(tmp_path)
    saver.save_best(trained.model, TrainState(step=3, best_wer=0.5))
    saver.save(trained, TrainState(step=3))
    assert not list(tmp_path.glob("checkpoints/*"))
    threading.Timer(0.2, slow_disk.set).start()
    begin = time.perf_counter()
    saver.save_best(trained.model, TrainState(step=4, best_wer=0.4))
    assert time.perf_counter() - begin >= 0.15
    assert saver.finish()
    verify(tmp_path / "checkpoints" / "step-00000003")
    verify(tmp_path / "checkpoints" / "best")
    assert json.loads((tmp_path / "checkpoints" / "best" / "state.json").read_text())["step"] == 4


def test_best_weights_and_checkpoint_of_a_step_share_one_file(trained: TrainingParts, tmp_path: Path) -> None:
    """One copy to the host, one file. Of another step, or replaced later, they share nothing."""
    saver, folder = saver_in(tmp_path), tmp_path / "checkpoints"
    saver.save_best(trained.model, TrainState(step=3, best_wer=0.5))
    saver.save(trained, TrainState(step=3))
    train_step(trained, [make_batch([2])], 1.0, lambda: None)
    saver.save(trained, TrainState(step=4))
    assert saver.finish()
    best, shared, other = (folder / name / "model.safetensors" for name in ("best", "step-00000003", "step-00000004"))
    assert best.samefile(shared)
    assert other.stat().st_nlink == 1
    before = shared.read_bytes()
    assert other.read_bytes() != before
    saver.save_best(trained.model, TrainState(step=4, best_wer=0.4))
    assert saver.finish()
    assert shared.stat().st_nlink == 1
    assert shared.read_bytes() == before
    assert best.read_bytes() == other.read_bytes()
    for path in (best, shared, other):
        verify(path.parent)


def test_without_hard_links_the_weights_are_written_twice(
    trained: TrainingParts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("trainer.rundir.checkpoints.saving.os.link", refuse)
    saver, folder = saver_in(tmp_path), tmp_path / "checkpoints"
    saver.save_best(trained.model, TrainState(step=3, best_wer=0.5))
    saver.save(trained, TrainState(step=3))
    assert saver.finish()
    best, own = (folder / name / "model.safetensors" for name in ("best", "step-00000003"))
    assert not best.samefile(own)
    assert best.read_bytes() == own.read_bytes()
    verify(own.parent)


def test_damage_between_the_two_saves_of_a_step_is_found(trained: TrainingParts, tmp_path: Path) -> None:
    """A seal made anew would bless the damage."""
    saver, folder = saver_in(tmp_path), tmp_path / "checkpoints"
    saver.save_best(trained.model, TrainState(step=3, best_wer=0.5))
    assert saver.finish()
    flip_a_bit(folder / "best" / "model.safetensors")
    saver.save(trained, TrainState(step=3))
    assert saver.finish()
    for name in ("best", "step-00000003"):
        with pytest.raises(DamagedError, match="SHA-256 differs"):
            verify(folder / name)


def test_no_memory_for_the_copy_is_a_failed_save_and_no_end(
    trained: TrainingParts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    saver = saver_in(tmp_path, said)
    with monkeypatch.context() as patch:
        patch.setattr(
            "trainer.rundir.checkpoints.saving._on_host", lambda tensors: (_ for _ in ()).throw(MemoryError())
        )
        saver.save(trained, TrainState(step=3))
        assert not saver.finish()
    assert said[0].startswith(f"{tmp_path}/checkpoints/step-00000003 could not be written (MemoryError")
    saver.save(trained, TrainState(step=4))
    assert saver.finish()


@pytest.mark.parametrize("error", [OSError(28, "disk full"), MemoryError("no memory"), RuntimeError("odd")])
def test_any_failure_in_the_background_is_reported_once_and_named(
    error: Exception, trained: TrainingParts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only what the disk refuses: an exception that nobody expects would otherwise pass for a success."""
    said: list[str] = []
    saver = saver_in(tmp_path, said)

    def refuse(*args: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(trainer.rundir.disk, "disk_operation", refuse)
        saver.save(trained, TrainState(step=3))
        assert not saver.finish()
    assert saver.finish()
    assert len(said) == 1
    assert said[0].startswith(f"{tmp_path}/checkpoints/step-00000003 could not be written (")
    assert str(error.args[-1]) in said[0]
    saver.save(trained, TrainState(step=4))
    assert saver.finish()
    assert [step for step, _ in checkpoints(tmp_path)] == [4]


def test_rotation_goes_by_step_and_never_counts_what_is_put_aside(trained: TrainingParts, tmp_path: Path) -> None:
    """A damaged newest checkpoint must not push out the sound one that replaces it."""
    saver = saver_in(tmp_path, keep=1)
    for step in (4, 8):
        saver.keep = 2
        saver.save(trained, TrainState(step=step))
        saver.finish()
    (tmp_path / "checkpoints" / "step-00000008" / "model.safetensors").write_bytes(b"")
    said: list[str] = []
    found = newest_valid(tmp_path, said.append)
    assert found is not None
    assert found[0].name == "step-00000004"
    assert "step-00000008/model.safetensors: 0 bytes" in said[0]
    saver.keep = 1
    saver.save(trained, TrainState(step=6))
    saver.finish()
    assert [step for step, _ in checkpoints(tmp_path)] == [6]
    assert (tmp_path / "checkpoints" / "step-00000008.damaged").is_dir()


def test_a_vanished_run_folder_is_reported_and_not_made_again(trained: TrainingParts, tmp_path: Path) -> None:
    said: list[str] = []
    saver = saver_in(tmp_path / "gone", said)
    saver.save(trained, TrainState(step=3))
    assert not saver.finish()
    assert "No such file or directory" in said[0]
    assert not (tmp_path / "gone").exists()


def test_the_loop_does_not_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves of half a second and more every fifth step: none is there when the loop goes on, all are in the end."""
    original = trainer.rundir.disk.disk_operation
    monkeypatch.setattr(trainer.rundir.disk, "disk_operation", lambda *args: (time.sleep(0.04), original(*args))[1])
    parts, saver, state, at_once = make_parts(small_model()), saver_in(tmp_path), TrainState(), []

    def save() -> None:
        saver.save(parts, state)
        at_once.append((tmp_path / "checkpoints" / f"step-{state.step:08d}").exists())

    config = TrainConfig(save_every=5, eval_every=0)
    examples = [make_example(i, 2400) for i in range(4)]
    run_fit(parts, loader_of(examples), config, 15, state=state, save=save)
    saver.finish()
    assert at_once == [False] * 3
    assert [step for step, _ in checkpoints(tmp_path)] == [5, 10, 15]


def test_a_run_without_a_scaler_goes_on_with_a_fresh_one(trained: TrainingParts, tmp_path: Path) -> None:
    """A checkpoint of fp32 or bf16 holds no scale; going on in fp16 begins with the scaler's own."""
    saver = saver_in(tmp_path)
    saver.save(trained, TrainState(step=3))
    assert saver.finish()
    found = newest_valid(tmp_path, print)
    assert found is not None
    parts = make_parts(small_model(seed=1), scaler=GradScaler("cpu", init_scale=512.0))
    assert restore(*found, parts).step == 3
    assert parts.scaler.get_scale() == 512.0
