"""Training from the frozen feature encoder's output, computed once, against computing it again."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import trainer.prepare.features.file
import trainer.prepare.features.filling
import trainer.prepare.features.table
import trainer.rundir.disk
import trainer.session
from data.batches.collate import BatchDataset, Frontend
from data.examples.prepare import Example
from models.ctc import CTCModel
from models.feature_table import FeatureTable
from models.layers.frontend import extract_features
from tests.helpers.models import example, padded_batch, small_model
from trainer.config.presets import PRESETS
from trainer.prepare.features.filling import NUM_SLOTS, Call
from trainer.prepare.features.table import open_table, seconds_to_fill, training_share
from trainer.run import main

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
LENGTHS = (5200, 3333, 4100, 400)
OPTIONS = ["--model.size", "tiny", "--model.freeze-feature-encoder", "--batching.batch-size", "2",
           "--train.epochs", "3",
           "--train.eval-every", "0", "--train.log-every", "1", "--optim.warmup-steps", "0", "--no-report"]  # fmt: skip


@pytest.fixture(autouse=True)
def short_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Utterances are cut, and lie beside each other."""
    monkeypatch.setitem(NUM_SLOTS, "cpu", 12)


@pytest.fixture
def no_room_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table must lie on the disk."""
    monkeypatch.setattr(trainer.prepare.features.table, "free_memory", lambda device: 0)


def examples() -> list[Example]:
    return [replace(example(n, "abc", seed=i), digest=f"digest-{i}") for i, n in enumerate(LENGTHS)]


def table(model: CTCModel, folder: Path, lines: list[str], **changes: object) -> FeatureTable:
    options: dict = dict(
        examples=examples(),
        do_normalize=True,
        precision="fp32",
        device=CPU,
        autocast=torch.no_grad,
        progress=lambda calls, total: calls,
    )
    return open_table(model, cache_dir=folder, log=lines.append, **(options | changes))  # fmt: skip


@pytest.mark.parametrize("place", ["memory", "disk"])
@pytest.mark.parametrize("origin", ["computed", "found"])
def test_a_rows_features_are_those_of_its_utterance_alone_bit_for_bit(
    place: str, origin: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Reference: our feature encoder on each normalised waveform alone; and rows of padding are zero."""
    model = small_model(freeze_feature_encoder=True)
    if origin == "found":
        table(model, tmp_path, [])
    if place == "disk":
        request.getfixturevalue("no_room_in_memory")
    cached = table(model, tmp_path, lines := list[str]())
    assert len(lines) == (origin == "computed")
    frontend = Frontend(model.num_frames, first_rows=cached.first_rows)
    batch = BatchDataset(examples(), frontend)[0, (2, 0, 3, 1)]
    assert batch.waveforms.numel() == 0
    assert batch.feature_rows is not None
    features = cached.gather(batch.feature_rows, CPU)
    for row, (i, frames) in enumerate(zip((2, 0, 3, 1), batch.frame_lengths.tolist(), strict=True)):
        alone = BatchDataset(examples(), Frontend(model.num_frames))[0, (i,)]
        with torch.no_grad():
            expected = extract_features(model.base.feature_extractor, alone.waveforms)[0]
        assert torch.equal(features[row, :frames], expected)
        assert not features[row, frames:].any()


def test_logits_and_gradients_from_the_table_are_those_from_waveforms() -> None:
    """Reference: the same model on the same waveforms, in fp64, padding and masks included."""
    model = small_model(freeze_feature_encoder=True).double().train()
    batch = padded_batch(model, LENGTHS)
    mask = torch.rand(len(LENGTHS), int(batch.frame_lengths.max()), generator=torch.Generator().manual_seed(0)) < 0.2
    with torch.no_grad():
        features = extract_features(model.base.feature_extractor, batch.waveforms.double())
    real = torch.arange(features.shape[1]) < batch.frame_lengths[:, None]
    results = []
    for inputs in (batch.waveforms.double(), features * real[..., None]):
        model.zero_grad()
        logits = model(inputs, batch.frame_lengths, time_mask=mask)[real]
        logits.square().sum().backward()
        results.append([logits.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    assert len(results[0]) > 10
    for waveform, cached in zip(*results, strict=True):
        torch.testing.assert_close(cached, waveform, atol=1e-9, rtol=1e-9)


def test_a_table_is_reused_and_made_again_when_anything_that_shapes_it_changes(tmp_path: Path) -> None:
    model, lines = small_model(freeze_feature_encoder=True), list[str]()
    first = table(model, tmp_path, lines)
    assert len(lines) == 1
    assert lines[0].startswith("computing the frozen feature encoder's output of 4 utterances once")
    again = table(model, tmp_path, lines)
    assert len(lines) == 1
    assert torch.equal(again.rows, first.rows)
    for change in ({"do_normalize": False}, {"precision": "bf16"}):
        table(model, tmp_path, lines, **change)
    with torch.no_grad():
        model.base.feature_extractor.conv_layers[6].conv.weight[0, 0, 0] += 1e-3
    table(model, tmp_path, lines)
    assert len(lines) == 4


def test_a_table_of_other_audio_is_another_table(tmp_path: Path) -> None:
    """Of the same ids and lengths: the audio's own bytes decide."""
    model, lines = small_model(freeze_feature_encoder=True), list[str]()
    table(model, tmp_path, lines)
    first, *others = examples()
    table(model, tmp_path, lines, examples=[replace(first, digest="other"), *others])
    assert len(lines) == 2


def test_a_damaged_table_is_named_and_made_again(tmp_path: Path) -> None:
    model, lines = small_model(freeze_feature_encoder=True), list[str]()
    expected = table(model, tmp_path, lines).rows.clone()
    (path,) = tmp_path.glob("features/*/frames.bin")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert torch.equal(table(model, tmp_path, lines).rows, expected)
    assert lines[1].endswith("(SHA-256 differs); computing it again")


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_a_table_whose_making_was_cut_short_is_not_there(
    place: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if place == "disk":
        request.getfixturevalue("no_room_in_memory")
    model, taken = small_model(freeze_feature_encoder=True), list[Call]()

    def interrupted(calls: Iterable[Call], total: int) -> Iterator[Call]:
        for call in calls:
            if len(taken) == 2:
                raise KeyboardInterrupt
            taken.append(call)
            yield call

    with pytest.raises(KeyboardInterrupt):
        table(model, tmp_path, [], progress=interrupted)
    assert [path.suffix for path in tmp_path.glob("features/*")] == [".lock"]
    assert len(table(model, tmp_path, []).rows) == 1 + sum(model.num_frames(n) for n in LENGTHS)


def test_a_table_can_be_used_before_it_is_written_and_is_locked_until_then(tmp_path: Path) -> None:
    """Two processes are two open files: flock does not care who opened them."""
    model, left = small_model(freeze_feature_encoder=True), list[Callable[[], None]]()
    computed = table(model, tmp_path, lines := list[str](), later=left.append)
    assert not list(tmp_path.glob("features/*/"))
    (lock,) = tmp_path.glob("features/*.lock")
    with open(lock, "w") as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        left.pop()()
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert torch.equal(table(model, tmp_path, lines, later=left.append).rows, computed.rows)
    assert (len(lines), left) == (1, [])


def test_a_worker_that_was_forked_meanwhile_does_not_keep_the_lock(tmp_path: Path) -> None:
    children = []

    def forking(calls: Iterable[Call], total: int) -> Iterator[Call]:
        if (pid := os.fork()) == 0:
            time.sleep(60)
            os._exit(0)
        children.append(pid)
        yield from calls

    try:
        table(small_model(freeze_feature_encoder=True), tmp_path, [], progress=forking)
        with open(next(tmp_path.glob("features/*.lock")), "w") as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def test_a_table_that_fits_into_memory_is_not_begun_on_a_disk_without_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reference: a table that has room."""
    model, warnings = small_model(freeze_feature_encoder=True), list[str]()
    expected = table(model, tmp_path / "roomy", []).rows
    monkeypatch.setattr(trainer.prepare.features.table.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    rows = table(model, tmp_path / "full", [], warn=warnings.append, later=pytest.fail).rows
    assert torch.equal(rows, expected)
    (warning,) = warnings
    assert "is not kept on the disk (it takes 0.00 GB, and 0.00 GB are free); this run trains from it" in warning


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_a_table_that_cannot_be_written_is_used_and_one_warning_says_why(
    place: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reference: a table that could be written."""
    model, warnings = small_model(freeze_feature_encoder=True), list[str]()
    expected = table(model, tmp_path / "sound", []).rows
    if place == "disk":
        request.getfixturevalue("no_room_in_memory")

    def full(operation: Callable[..., object], *args: object) -> object:
        if operation is os.rename:
            raise OSError(errno.EIO, "Input/output error")
        return operation(*args)

    monkeypatch.setattr(trainer.rundir.disk, "disk_operation", full)
    rows = table(model, tmp_path / "full", [], warn=warnings.append).rows
    assert torch.equal(rows, expected)
    (warning,) = warnings
    assert "is not kept on the disk (Input/output error); this run trains from it all the same" in warning
    assert [path.suffix for path in (tmp_path / "full").glob("features/*")] == [".lock"]


def test_training_has_its_own_share_of_the_tables_frames() -> None:
    """Reference: the rows of a batch of each utterance alone."""
    model, some = small_model(freeze_feature_encoder=True), examples()
    evaluated = {"eval": some[2:], "other": some}
    data = SimpleNamespace(
        train=some[:2], evaluation=evaluated, corpus=SimpleNamespace(splits=SimpleNamespace(monitor="eval"))
    )
    frames = [extract_features(model.base.feature_extractor, torch.zeros(1, e.num_samples)).shape[1] for e in some]
    assert len(set(frames)) > 1
    assert training_share(model, data) == sum(frames[:2]) / sum(frames)  # type: ignore[arg-type]


def test_the_estimate_is_that_of_all_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that moves a second per encoder call: as many seconds as the table has calls."""
    model, calls = small_model(freeze_feature_encoder=True), [0]

    def counted(*args: object, **options: object) -> torch.Tensor:
        calls[0] += 1
        return extract_features(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer.prepare.features.filling, "extract_features", counted)
    monkeypatch.setattr(trainer.prepare.features.table.time, "perf_counter", lambda: calls[0])
    estimate = seconds_to_fill(model, examples(), True, CPU, torch.no_grad)
    calls[0] = 0
    table(model, tmp_path, [])
    assert estimate == calls[0] == 4


def losses(run_dir: Path, tag: str = "train/loss") -> list[float]:
    records = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
    return [record[tag] for record in records if tag in record]


def test_a_run_from_the_table_has_the_losses_of_one_without(
    tone_corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reference: --model.no-cache-features; 1e-4 relative after nine steps, for shapes round differently.

    The evaluations of training come from the table, the closing one from audio.
    """
    by_kind, evaluated, asked = {}, {}, list[int]()

    def gather(table: FeatureTable, index: torch.Tensor, device: torch.device) -> torch.Tensor:
        asked.append(len(table.first_rows))
        return original(table, index, device)

    original = FeatureTable.gather
    monkeypatch.setattr(FeatureTable, "gather", gather)
    for kind in ("cache", "no-cache"):
        options = [*tone_corpus.options, *OPTIONS, "--runs-dir", str(tmp_path), "--cache-dir", str(tmp_path / "cache")]
        assert main(["manifest", *options, f"--model.{kind}-features", "--name", f"run-{kind}"]) == 0
        by_kind[kind] = losses(tmp_path / f"run-{kind}")
        evaluated[kind] = losses(tmp_path / f"run-{kind}", "eval/loss")
        closing = json.loads((tmp_path / f"run-{kind}" / "results.json").read_text())
        assert closing["loss"] == pytest.approx(evaluated[kind][-1], rel=1e-4)
    assert len(by_kind["cache"]) == 9
    assert by_kind["cache"] == pytest.approx(by_kind["no-cache"], rel=1e-4)
    assert evaluated["cache"] == pytest.approx(evaluated["no-cache"], rel=1e-4)
    assert {6, 3} <= set(asked)  # as many utterances as training has, and as the monitored split
    assert len(list(tmp_path.glob("cache/features/*/frames.bin"))) == 1


def test_a_frozen_run_caches_by_itself_and_says_so(tone_corpus, tmp_path: Path, capsys) -> None:
    options = [*tone_corpus.options, *OPTIONS, "--runs-dir", str(tmp_path), "--cache-dir", str(tmp_path / "cache")]
    assert main(["manifest", *options]) == 0
    assert json.loads((tmp_path / "manifest" / "config.json").read_text())["model"]["cache_features"] is True
    assert "computing the frozen feature encoder's output of 9 utterances once" in capsys.readouterr().err


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """ "said": as the system tells beforehand; "found": another process has taken the room meanwhile."""

    def refuse(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if request.param == "said":
        monkeypatch.setattr(
            trainer.prepare.features.table.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000)
        )
    else:
        monkeypatch.setattr(trainer.prepare.features.file, "_write_fully", refuse)


FULL_DISK = pytest.mark.parametrize("full_disk", ["said", "found"], indirect=True)


@pytest.mark.slow
@FULL_DISK
def test_a_full_disk_makes_a_run_that_did_not_ask_for_a_table_go_without(
    full_disk: None, no_room_in_memory: None, tone_corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Reference: --model.no-cache-features. It stays without when it is resumed, room or not."""
    options = ["manifest", *tone_corpus.options, *OPTIONS, "--runs-dir", str(tmp_path),
               "--cache-dir", str(tmp_path / "cache")]  # fmt: skip
    assert main([*options, "--name", "reference", "--model.no-cache-features"]) == 0
    stopping = ("--name", "full", "--train.save-every", "3")
    with monkeypatch.context() as patch:
        patch.setattr(trainer.session, "close_run", lambda *args: os.kill(os.getpid(), signal.SIGTERM))
        assert main([*options, *stopping]) == 75
    assert "the feature encoder's output cannot be written" in capsys.readouterr().err
    monkeypatch.undo()
    shutil.rmtree(tmp_path / "full" / "checkpoints" / "step-00000009")
    assert main([*options, *stopping, "--resume"]) == 0
    assert losses(tmp_path / "full") == losses(tmp_path / "reference")
    assert not list(tmp_path.glob("cache/features/*/"))
    assert json.loads((tmp_path / "full" / "config.json").read_text())["model"]["cache_features"] is False


@FULL_DISK
def test_a_full_disk_refuses_a_table_that_was_asked_for_and_the_advice_can_be_taken(
    full_disk: None, no_room_in_memory: None, tone_corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["manifest", *tone_corpus.options, *OPTIONS, "--runs-dir", str(tmp_path),
               "--cache-dir", str(tmp_path / "cache")]  # fmt: skip
    assert main([*options, "--model.cache-features"]) == 2
    assert "or --model.no-cache-features to compute it in every step" in capsys.readouterr().err
    assert main([*options, "--model.no-cache-features"]) == 0


@pytest.mark.parametrize("full_disk", ["found"], indirect=True)
def test_a_full_disk_does_not_keep_a_run_from_a_table_that_fits_into_memory(
    full_disk: None, tone_corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*tone_corpus.options, *OPTIONS, "--runs-dir", str(tmp_path), "--cache-dir", str(tmp_path / "cache")]
    assert main(["manifest", *options, "--model.cache-features"]) == 0
    assert " ".join(capsys.readouterr().err.split()).count("is not kept on the disk (No space left on device)") == 1
    assert not list(tmp_path.glob("cache/features/*/"))
    assert json.loads((tmp_path / "manifest" / "config.json").read_text())["model"]["cache_features"] is True


def test_a_run_of_which_only_the_closing_is_left_opens_no_table(
    tone_corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["manifest", *tone_corpus.options, *OPTIONS, "--runs-dir", str(tmp_path),
               "--cache-dir", str(tmp_path / "cache")]  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(trainer.session, "close_run", lambda *args: os.kill(os.getpid(), signal.SIGTERM))
        assert main(options) == 75
    monkeypatch.setattr(trainer.session, "use_features", pytest.fail)
    assert main([*options, "--resume"]) == 0


@pytest.mark.slow
def test_a_longer_plan_goes_on_without_a_table_if_it_began_so(tone_corpus, tmp_path: Path) -> None:
    """One epoch has no use for a table, three have; the plan's length may be changed."""
    options = ["manifest", *tone_corpus.options, *OPTIONS, "--runs-dir", str(tmp_path),
               "--cache-dir", str(tmp_path / "cache")]  # fmt: skip
    assert main([*options, "--train.max-steps", "3"]) == 0
    assert main([*options, "--resume", "--allow-changes", "train.max_steps"]) == 0
    assert not list(tmp_path.glob("cache/features/*/"))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--model.no-freeze-feature-encoder"], "changes with every step"),
        (["--augment.speeds", "0.9", "1.1"], "--augment.speeds changes the waveform"),
        (["--corpus.no-store"], "--corpus.no-store leaves out"),
    ],
)
def test_a_table_that_cannot_be_exact_is_refused_with_the_reason(
    tone_corpus, tmp_path: Path, capsys, options: list[str], reason: str
) -> None:
    where = ["--runs-dir", str(tmp_path), "--cache-dir", str(tmp_path / "cache")]
    assert main(["manifest", *tone_corpus.options, *OPTIONS, *where, *options, "--model.cache-features"]) == 2
    err = capsys.readouterr().err
    assert "--model.cache-features: " in err
    assert reason in err


def test_group_norm_is_refused_because_it_sees_the_padding() -> None:
    model = small_model("wav2vec2", "group", freeze_feature_encoder=True)
    assert "group norm sees the batch's padding" in str(
        trainer.prepare.features.table.why_not(PRESETS["manifest"](), model)
    )
