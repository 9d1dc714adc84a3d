"""Losses of each utterance at each visit: what is written, against losses computed one utterance at a time.

That a resumed run's files end as those of a whole one is shown in tests/trainer/loop/test_resume.py and
tests/trainer/test_resume.py, and with several processes in tests/distributed/test_runs.py.
"""

from __future__ import annotations

import base64
import errno
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F

import trainer.loop.step
from data.text.normalised import ArrowTexts
from tests.helpers.steps import EXAMPLES, loader_of, make_batch, make_parts, run_fit, small_model
from trainer.config.schema import TrainConfig
from trainer.errors import ConfigError, DamagedError
from trainer.loop.state import TrainState
from trainer.loop.step import train_step
from trainer.parallel.world import ALONE, World
from trainer.rundir.dynamics.files import (
    MAX_WHOLE,
    VISIT,
    by_pass,
    check_ids,
    digest_of_ids,
    ids_column,
    is_kept,
    read_dynamics,
)
from trainer.rundir.dynamics.record_file import RecordFile, check_records, header
from trainer.rundir.dynamics.recorder import LossFiles, LossRecorder, as_losses
from trainer.scoring.metrics import EditCounts
from trainer.scoring.scores import Hypothesis, Scores

pytestmark = pytest.mark.usefixtures("one_thread")
IDS = {"train": [e.utterance.id for e in EXAMPLES], "evaluations": ["a", "b"]}
CONFIG = TrainConfig(log_every=3, eval_every=4, save_every=4)


def scores_of(*losses: float) -> Scores:
    """An evaluation of two utterances."""
    words, characters = EditCounts(1, 2, 0, 0), EditCounts(3, 1, 0, 2)
    return Scores("dev", tuple(Hypothesis(n, "x", "y", words, characters, loss) for n, loss in zip("ab", losses,
                  strict=True)), 1.0, 1.0, {})  # fmt: skip


def train(folder: Path, steps: int, **options: Any) -> LossFiles:
    """A run whose weights stay as they are; every save is recorded as a checkpoint's state.json would be."""
    parts = make_parts(small_model())
    for group in parts.optimizer.param_groups:
        group["lr"] = 0.0
    parts.scheduler.base_lrs = [0.0] * len(parts.scheduler.base_lrs)
    files = LossFiles(folder, IDS, 0, pytest.fail)
    dynamics = LossRecorder(ALONE, files, len(EXAMPLES), CONFIG.eval_every, pytest.fail)
    state = TrainState()
    run_fit(parts, loader_of(EXAMPLES, **options), CONFIG, steps, state=state, dynamics=dynamics,
            score=lambda: scores_of(0.5, math.inf), save=lambda: save(folder, state.step, dynamics))  # fmt: skip
    return files


def save(folder: Path, step: int, dynamics: LossRecorder) -> None:
    checkpoint = folder / "checkpoints" / f"step-{step:08d}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.json").write_text(json.dumps({"dynamics": dynamics.collect()}))


def true_loss(i: int) -> float:
    """Of EXAMPLES[i] alone, by torch's ctc_loss."""
    model, batch = small_model(), make_batch([i])
    with torch.no_grad():
        logits = model.eval()(batch.waveforms, batch.frame_lengths)
    log_probs = logits[0, :, None].log_softmax(-1)
    nats = F.ctc_loss(log_probs, batch.targets, batch.frame_lengths, batch.target_lengths, blank=5, reduction="sum")
    return float(nats / batch.target_lengths)


@pytest.mark.parametrize("accum", [1, 2])
def test_the_loss_of_each_utterance_stands_at_each_visit(accum: int, tmp_path: Path) -> None:
    """Reference: each utterance alone, in weights that do not change; batches of two round otherwise in fp32."""
    train(tmp_path, 7, accum=accum)
    kept, plan = read_dynamics(tmp_path), loader_of(EXAMPLES, accum=accum).plan
    planned = [(e, i) for e, step, _ in plan.remaining(0, 0) for batch in step for i in batch]
    steps = [sum(len(batch) for batch in step) for _, step, _ in plan.remaining(0, 0)][:7]
    planned = planned[: sum(steps)]
    assert sorted(zip(kept.visits["epoch"], kept.visits["row"], strict=True)) == sorted(planned)
    assert np.bincount(kept.visits["step"])[1:].tolist() == steps
    assert kept.visits["loss"] == pytest.approx([true_loss(i) for i in kept.visits["row"]], rel=1e-4)
    assert list(kept.ids) == IDS["train"]


def test_each_evaluation_has_the_loss_and_the_errors_of_each_utterance(tmp_path: Path) -> None:
    train(tmp_path, 7)
    kept = read_dynamics(tmp_path)
    assert [tuple(r) for r in kept.scores.tolist()] == [
        (step, row, loss, 2, 3) for step in (4, 7) for row, loss in ((0, 0.5), (1, math.inf))
    ]
    assert list(kept.scored_ids) == ["a", "b"]


def test_a_step_in_halves_knows_whose_losses_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory runs out for more than one utterance at a time."""

    def backward(parts: object, batch: Any, *rest: object) -> object:
        if len(batch.ids) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(parts, batch, *rest)

    original = trainer.loop.step.backward
    monkeypatch.setattr(trainer.loop.step, "backward", backward)
    result = train_step(make_parts(small_model()), [make_batch([3, 0]), make_batch([4, 2])], 1.0, lambda: None)
    _, *nats = result.outcome.wait()
    assert result.is_halved
    assert torch.cat(nats).tolist() == pytest.approx([true_loss(i) for i in result.positions], rel=1e-4)
    assert sorted(result.positions) == [0, 2, 3, 4]


def test_numpy_alone_reads_the_file_while_it_grows(tmp_path: Path) -> None:
    file, rows = RecordFile(tmp_path / "a.npy", VISIT), np.zeros(3, VISIT)
    file.begin()
    assert len(np.load(file.path)) == 0
    for n in (1, 2, 3):
        rows["row"] = n
        file.append(rows)
        mapped = np.load(file.path, mmap_mode="r")
        assert mapped["row"].tolist() == [k for k in range(1, n + 1) for _ in range(3)]


def test_the_header_has_room_for_any_number() -> None:
    assert len(header(VISIT, 0)) == len(header(VISIT, 10**15))


def resumed(folder: Path, step: int, ids: dict[str, Any] = IDS) -> tuple[LossFiles, list[str]]:
    told: list[str] = []
    return LossFiles(folder, ids, step, told.append), told


def test_what_lies_behind_a_checkpoint_is_cut_off(tmp_path: Path) -> None:
    train(tmp_path, 7)
    seal = json.loads((tmp_path / "checkpoints" / "step-00000004" / "state.json").read_text())["dynamics"]
    files, told = resumed(tmp_path, 4)
    assert told == []
    assert read_dynamics(tmp_path).visits["step"].max() == 4
    assert files.seal() == seal


@pytest.mark.parametrize("name", ["train", "evaluations"])
def test_a_damaged_file_is_named_and_put_aside_and_the_run_goes_on(name: str, tmp_path: Path) -> None:
    train(tmp_path, 7)
    path = tmp_path / "dynamics" / f"{name}.npy"
    content = path.read_bytes()[:-5] + b"?" + path.read_bytes()[-4:]
    path.write_bytes(content)
    files, (told,) = resumed(tmp_path, 7)
    assert told == (
        f"{tmp_path}/dynamics/{name}.npy: its content is not what was written (SHA-256 differs). It is put aside as "
        f"{name}-until-00000007.npy; losses are kept from step 7 on. Training itself goes on as it would."
    )
    assert (tmp_path / "dynamics" / f"{name}-until-00000007.npy").read_bytes() == content
    assert files.files[name].num_records == 0
    path.write_bytes(b"")
    assert resumed(tmp_path, 7)[1] != []
    assert (tmp_path / "dynamics" / f"{name}-until-00000007-2.npy").exists()  # none takes the place of the first


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.write_bytes(b""), "not readable"),
        (lambda path: np.save(path, np.zeros(100)), "holds other records"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "ends before the last of the"),
    ],
)
def test_each_kind_of_damage_is_named(spoil: Any, said: str, tmp_path: Path) -> None:
    files = train(tmp_path, 7)
    path, seal = files.files["train"].path, files.files["train"].seal()
    spoil(path)
    with pytest.raises(DamagedError, match=said):
        check_records(path, VISIT, seal)


def test_records_that_a_power_cut_took_do_not_hide_the_others(tmp_path: Path) -> None:
    files = train(tmp_path, 7)
    path = files.files["train"].path
    path.write_bytes(path.read_bytes()[:-9])
    assert len(read_dynamics(tmp_path).visits) == files.files["train"].num_records - 1


def test_losses_of_other_utterances_are_not_mixed(tmp_path: Path) -> None:
    """A corpus that grew at its front, with --allow-changes."""
    train(tmp_path, 7)
    before = read_dynamics(tmp_path).visits.tobytes()
    _, (told,) = resumed(tmp_path, 7, {**IDS, "train": ["new", *IDS["train"]]})
    assert "train.npy: its rows count other utterances than those of this run" in told
    assert np.load(tmp_path / "dynamics" / "train-until-00000007.npy").tobytes() == before
    assert (tmp_path / "dynamics" / "train-ids-until-00000007.arrow").exists()
    assert read_dynamics(tmp_path).ids[0] == "new"
    assert len(read_dynamics(tmp_path).scores) == 4


def test_ids_that_are_damaged_are_written_again(tmp_path: Path) -> None:
    train(tmp_path, 7)
    (tmp_path / "dynamics" / "train-ids.arrow").write_bytes(b"ARROW1")
    _, told = resumed(tmp_path, 7)
    assert told == []
    assert list(read_dynamics(tmp_path).ids) == IDS["train"]


def test_a_checkpoint_of_an_older_version_begins_the_files(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoints" / "step-00000007"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.json").write_text("{}")
    files, told = resumed(tmp_path, 7)
    assert told == []
    assert files.files["train"].num_records == 0


def test_what_a_full_disk_refuses_is_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of it was written; the file stays whole."""
    told: list[str] = []
    files = LossFiles(tmp_path, IDS, 0, told.append)
    rows = np.zeros(4, VISIT)

    def refuse(operation: Any, *args: Any) -> Any:
        if getattr(operation, "__name__", "") == "write":
            operation(args[0][: len(args[0]) // 2])
            if args[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
        return operation(*args)

    with monkeypatch.context() as patch:
        patch.setattr("trainer.rundir.dynamics.record_file.disk_operation", refuse)
        for n in range(3):
            rows["row"] = n
            files.append("train", rows.copy())
    assert told == [f"{tmp_path}/dynamics/train.npy: not written (No space left on device); the next save tries again"]
    assert len(read_dynamics(tmp_path).visits) == 0
    files.append("train", rows[:0])
    assert read_dynamics(tmp_path).visits["row"].tolist() == [k for k in range(3) for _ in range(4)]
    check_records(tmp_path / "dynamics" / "train.npy", VISIT, files.seal()["train"])


class Others(World):
    """A run of two, whose other process gives what it is told to."""

    is_alone = False
    other = ""

    def gather(self, value: Any) -> list[Any]:
        return [value, self.other]


def test_rank_0_brings_the_shares_of_all_in_one_order(tmp_path: Path) -> None:
    """Reference: the records of one process."""
    (tmp_path / "alone").mkdir()
    train(tmp_path / "alone", 6)
    whole = np.array(read_dynamics(tmp_path / "alone").visits)
    world = Others()
    files = LossFiles(tmp_path, IDS, 0, pytest.fail)
    recorder = LossRecorder(world, files, len(EXAMPLES), 0, pytest.fail)
    first = whole["row"] % 2 == 0
    recorder.noted = [whole[first]]
    world.other = base64.b64encode(whole[~first].tobytes()).decode()
    recorder.collect()
    assert read_dynamics(tmp_path).visits.tobytes() == whole.tobytes()


def test_of_processes_that_are_gone_nothing_is_waited_for(tmp_path: Path) -> None:
    told: list[str] = []
    world = Others()
    world.is_broken = True
    recorder = LossRecorder(world, LossFiles(tmp_path, IDS, 0, pytest.fail), len(EXAMPLES), 0, told.append)
    recorder.noted = [np.zeros(2, VISIT)]
    assert recorder.collect()["train"]["records"] == 2
    assert told == ["the losses that other processes noted since the last save are lost with them (dynamics/train.npy)"]


def test_a_loss_that_is_no_number_is_infinite() -> None:
    assert as_losses(np.array([1.0, np.nan, np.inf], np.float32)).tolist() == [1.0, math.inf, math.inf]


@pytest.mark.parametrize("size", [1, 4620, 10**7, 2**28, 10**9])
def test_what_is_kept_is_bounded(size: int) -> None:
    """All up to MAX_WHOLE records or the first pass; each doubling of the passes adds half as many again at most."""
    whole = max(1, MAX_WHOLE // size)
    passes = min(whole, 100)
    assert all(is_kept(k, size) for k in range(passes))
    for doublings in range(1, 6 if whole < 1000 else 1):
        kept = sum(is_kept(k, size) for k in range(whole * 2**doublings))
        assert kept <= whole + doublings * (whole / 2 + 1)


def test_losses_by_pass_are_those_of_a_loop_over_all_records() -> None:
    rng = np.random.default_rng(0)
    records = np.zeros(40, VISIT)
    records["epoch"], records["row"] = np.sort(rng.integers(3, 7, 40)), rng.integers(0, 9, 40)
    records["loss"] = rng.random(40)
    expected = {e: [math.nan] * 9 for e in sorted(set(records["epoch"].tolist()))}
    for epoch, _, row, loss in records.tolist():
        expected[epoch][row] = loss
    epochs, losses = by_pass(records, "epoch", 9)
    assert epochs.tolist() == list(expected)
    np.testing.assert_allclose(losses, list(expected.values()))


def test_a_digest_of_ids_is_that_of_the_ids_however_they_lie_in_memory() -> None:
    names = ["a", "bc", "", "d\u00e9", "e"]
    chunked = pa.chunked_array([pa.array(["x", *names[:2], "y"]).slice(1, 2), pa.array(names[2:])])
    digests = {digest_of_ids(ids_column(given)) for given in (names, ArrowTexts(chunked))}
    assert len(digests) == 1
    assert digest_of_ids(ids_column(["ab", "c", *names[2:]])) not in digests
    assert digest_of_ids(ids_column(names[::-1])) not in digests


def test_ids_of_names_that_are_not_utf_8_are_kept(tmp_path: Path) -> None:
    files = LossFiles(tmp_path, {**IDS, "train": ["a\udcff", "b"]}, 0, pytest.fail)
    assert list(read_dynamics(tmp_path).ids) == ["a\\udcff", "b"]
    check_ids(tmp_path / "dynamics" / "train-ids.arrow", files.seal()["train"]["ids"])
    with pytest.raises(DamagedError, match="its content is not what was written"):
        check_ids(tmp_path / "dynamics" / "train-ids.arrow", files.seal()["evaluations"]["ids"])


def test_a_run_without_losses_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no losses"):
        read_dynamics(tmp_path)
