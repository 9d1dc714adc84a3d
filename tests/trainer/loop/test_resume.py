"""Resume, in this process, on a model of milliseconds: stopped at every step of a plan, and killed between saves.

Dropout, LayerDrop, SpecAugment, speeds, accumulation, a loss scale that moves and a step that is skipped are all
on. tests/trainer/test_resume.py does the same through the command line.
"""

from __future__ import annotations

import dataclasses
import itertools
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.amp import GradScaler

from data.batches.collate import BatchDataset, Frontend
from data.batches.loading import TrainLoader
from data.batches.plan import BatchPlan
from data.batches.specaugment import SpecAugment
from data.config import BatchingConfig
from tests.helpers.steps import EXAMPLES, NUM_FRAMES, Recorder, make_parts, poisoned, run_fit, small_model
from trainer.config.schema import TrainConfig
from trainer.loop.state import TrainState
from trainer.loop.step import TrainingParts
from trainer.parallel.world import ALONE
from trainer.rundir.checkpoints.restore import newest_valid, restore
from trainer.rundir.checkpoints.saving import Saver
from trainer.rundir.dynamics.files import read_dynamics
from trainer.rundir.dynamics.recorder import LossFiles, LossRecorder

pytestmark = pytest.mark.usefixtures("one_thread", "written_at_once")

NUM_STEPS = 8
CONFIG = TrainConfig(log_every=1, eval_every=0, save_every=3)
SPEC = SpecAugment(hidden_size=16, time_prob=0.2, time_length=2, time_min_masks=1,
                   feature_prob=0.1, feature_length=2, feature_min_masks=1)  # fmt: skip
IDENTITY: dict[str, Any] = {"options": {}, "content": {}, "tokens": ["a"]}


@pytest.fixture
def written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses reach their file with every step, so that a run that is killed leaves some behind its last save."""
    monkeypatch.setattr("trainer.rundir.dynamics.recorder.HELD", 1)


class Killed(BaseException):
    """A process that ends at once, without a chance to save."""


def fresh_parts() -> TrainingParts:
    """Model, optimizer, schedule and a scaler whose scale doubles every second step, as a new process builds them."""
    torch.manual_seed(next(PROCESSES))  # another process has another global random state
    model = small_model(hidden_dropout=0.2, attention_dropout=0.1, layerdrop=0.3, mask_time_prob=0.2)
    return make_parts(model, NUM_STEPS, GradScaler("cpu", init_scale=4.0, growth_interval=2))


PROCESSES = itertools.count(1)


def loader() -> TrainLoader:
    """Five utterances in batches of two, two batches a step: epochs of two steps, of which one has one batch.

    One utterance makes its step be skipped: schedule and scale then lag behind the steps.
    """
    examples = [*EXAMPLES[:3], poisoned(EXAMPLES[3]), EXAMPLES[4]]
    lengths, ids = [e.num_samples for e in examples], [e.utterance.id for e in examples]
    plan = BatchPlan(lengths, ids, BatchingConfig(batch_size=2), 7, 4, 2, speeds=(0.9, 1.1))
    return TrainLoader(BatchDataset(examples, Frontend(NUM_FRAMES, True, SPEC), plan), plan, num_workers=0,
                       pin_memory=False)  # fmt: skip


def bits(value: float) -> bytes:
    """Of a float, so that not-a-number equals itself."""
    return struct.pack("d", value)


def train(folder: Path, *, stop_at: int = 0, kill_at: int = 0) -> dict[str, Any]:
    """Train in `folder` from its newest checkpoint, if there is one; all that was computed, tensors as bytes."""
    parts, state = fresh_parts(), TrainState()
    if (found := newest_valid(folder, pytest.fail)) is not None:
        state = restore(*found, parts)
    log, saver = Recorder(), Saver(folder, 3, IDENTITY, pytest.fail)
    ids = [e.utterance.id for e in EXAMPLES]
    files = LossFiles(folder, {"train": ids, "evaluations": ids[:2]}, state.step, pytest.fail)
    dynamics = LossRecorder(ALONE, files, len(ids), 0, pytest.fail)

    def must_stop() -> bool:
        if kill_at and state.step == kill_at:  # asked before the first batch too, when no step is taken
            raise Killed
        return bool(stop_at) and state.step == stop_at

    first = state.step
    try:
        run_fit(parts, loader(), CONFIG, NUM_STEPS, state=state, must_stop=must_stop, runlog=log,
                save=lambda: saver.save(parts, state, dynamics.collect()), dynamics=dynamics)  # fmt: skip
    finally:
        assert saver.finish()
    by_step = {first + i + 1: (bits(a), bits(b)) for i, (a, b) in enumerate(zip(log.losses, log.lrs, strict=True))}
    moments = {f"{i}.{key}": value for i, of_one in parts.optimizer.state_dict()["state"].items()
               for key, value in of_one.items()}  # fmt: skip
    tensors = {**parts.model.state_dict(), **moments}
    progress = dataclasses.asdict(dataclasses.replace(state, train_seconds=0.0, losses=[]))
    return {
        "tensors": {name: tensor.numpy().tobytes() for name, tensor in tensors.items()},
        "rest": (parts.scheduler.last_epoch, parts.scaler.state_dict(), progress, list(map(bits, state.losses))),
        "by step": by_step,
        "dynamics": {path.name: path.read_bytes() for path in (folder / "dynamics").iterdir()},
    }


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All that a run computed which nothing stopped."""
    torch.set_num_threads(1)
    return train(new_folder(tmp_path_factory.mktemp("whole")))


def new_folder(folder: Path) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    return folder


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found["rest"] == expected["rest"]
    assert found["by step"] == expected["by step"]
    assert found["dynamics"] == expected["dynamics"]
    odd = [name for name in expected["tensors"] if found["tensors"].get(name) != expected["tensors"][name]]
    assert odd == []
    assert found["tensors"].keys() == expected["tensors"].keys()


@pytest.mark.parametrize("stop_at", range(1, NUM_STEPS))
def test_a_run_stopped_at_any_step_resumes_bit_for_bit(
    stop_at: int, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    """Reference: the run that nothing stopped; weights, moments, schedule, scale, counters, every loss and rate."""
    before = train(new_folder(tmp_path), stop_at=stop_at)
    after = train(tmp_path)
    assert (len(before["by step"]), len(after["by step"])) == (stop_at, NUM_STEPS - stop_at)
    assert_same(after | {"by step": before["by step"] | after["by step"]}, uninterrupted)


@pytest.mark.parametrize(("kill_at", "resumed_from"), [(2, 0), (5, 3), (7, 6)])
def test_a_run_killed_between_saves_takes_the_lost_steps_again(
    kill_at: int, resumed_from: int, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        train(new_folder(tmp_path), kill_at=kill_at)
    assert read_dynamics(tmp_path).visits["step"].max() >= max(1, kill_at - 1)  # which the resumed run cuts off
    after = train(tmp_path)
    assert min(after["by step"]) == resumed_from + 1
    early = {step: values for step, values in uninterrupted["by step"].items() if step <= resumed_from}
    assert_same(after | {"by step": early | after["by step"]}, uninterrupted)


def test_the_run_that_is_resumed_has_everything_on(uninterrupted: dict[str, Any]) -> None:
    """A control on the tests above: the scale moved, and steps were skipped where they should be."""
    last_epoch, scaler, state, _ = uninterrupted["rest"]
    assert scaler["scale"] != 4.0
    assert 0 < state["num_skipped"] < NUM_STEPS
    assert last_epoch == NUM_STEPS - state["num_skipped"]


def test_another_random_state_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A control: with the step's own seed taken away, two runs differ."""
    monkeypatch.setattr("trainer.loop.step.torch.manual_seed", lambda seed: None)
    first, second = (train(new_folder(tmp_path / name)) for name in ("a", "b"))
    assert first["by step"] != second["by step"]
