"""What is told beforehand of time, memory and disk (trainer.prepare.timing, preflight): right, and without a trace."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import trainer.loop.step
import trainer.prepare.check.preflight
import trainer.prepare.intro
import trainer.prepare.timing
from data.utterance import SAMPLE_RATE
from tests.helpers.graphs import with_graphs
from tests.helpers.resumed import differences, everything, run
from trainer.cli.console import Console
from trainer.cli.parse import parse
from trainer.config.validate import resolve, validate
from trainer.prepare.build import PreparedRun, prepare
from trainer.prepare.features.table import open_table, table_examples
from trainer.prepare.timing import estimate_training
from trainer.run import main

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS = ["manifest", "--model.size", "tiny", "--model.hidden-dropout", "0.1", "--batching.batch-size", "2",
           "--train.epochs", "3", "--optim.warmup-steps", "0", "--device", "cpu"]  # fmt: skip
FROZEN = ["--model.freeze-feature-encoder"]


@pytest.fixture
def options(tone_corpus: Any, tmp_path: Path) -> list[str]:
    where = ["--runs-dir", str(tmp_path / "runs"), "--cache-dir", str(tmp_path / "cache")]
    return [*OPTIONS, *tone_corpus.options, *where]


def prepared(options: list[str]) -> PreparedRun:
    return prepare(resolve(validate(parse(options))), Console(io.StringIO()))


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), (*FROZEN, "--augment.speeds")], ids=["whole", "frozen"])
def test_the_estimate_changes_no_bit_of_a_run(
    more: tuple[str, ...], run_inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reference: a run that estimates nothing; weights, moments, every loss and transcript."""
    estimated = everything(run(tmp_path / "with", run_inputs, *more))
    monkeypatch.setattr(trainer.prepare.intro, "estimate_training", lambda run, steps_left: None)
    assert differences(everything(run(tmp_path / "without", run_inputs, *more)), estimated) == []


def test_the_estimate_leaves_weights_gradients_mode_and_random_state_alone(options: list[str]) -> None:
    run = prepared([*options, *FROZEN])
    model = run.parts.model.eval()
    weights, random_state = [p.detach().clone() for p in model.parameters()], torch.get_rng_state()
    assert estimate_training(run, 9)
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(p.grad is None for p in model.parameters())
    assert not run.parts.optimizer.state
    assert not model.training
    assert run.parts.features is None


@pytest.mark.parametrize("accumulated", ["1", "2"])
def test_the_estimate_is_the_rate_times_all_that_is_left(
    accumulated: str, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a second for each padded second; reference: the padded seconds of three epochs like the first."""
    run = prepared([*options, "--train.grad-accum-steps", accumulated])
    lengths = run.plan.epoch_lengths(0)
    padded = [len(b) * max(lengths[i] for i in b) / SAMPLE_RATE for b in run.plan.batches(0)]

    def timed(action: Callable[[], Any], device: torch.device) -> float:
        ids = action().ids
        (seconds,) = [s for s, b in zip(padded, run.plan.batches(0), strict=True)
                      if {run.data.train[i].utterance.id for i in b} == set(ids)]  # fmt: skip
        return 0.5 * seconds

    monkeypatch.setattr(trainer.prepare.timing, "timed", timed)
    assert estimate_training(run, run.total_steps) == pytest.approx(0.5 * 3 * sum(padded))


def test_without_memory_for_the_estimate_there_is_none(options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def backward(*args: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    run = prepared(options)
    monkeypatch.setattr(trainer.loop.step, "backward", backward)
    assert estimate_training(run, 9) is None


def test_the_estimate_stands_before_the_first_step(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*options, "--no-report"]) == 0
    said = capsys.readouterr().err
    assert 0 < said.index("  time       about ") < said.index("step 9/9")
    assert " s for 9 steps" in said


@pytest.fixture
def timed_steps(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each step that --check times: whether its features come from a table, and no audio is loaded."""
    original, from_table = trainer.prepare.check.preflight.train_step, []

    def train_step(parts: Any, batches: Any, *rest: Any) -> Any:
        from_table.append(parts.features is not None and batches[0].waveforms.numel() == 0)
        return original(parts, batches, *rest)

    monkeypatch.setattr(trainer.prepare.check.preflight, "train_step", train_step)
    return from_table


def test_a_check_does_not_time_the_capture_of_graphs(options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A capture takes much longer than a replay; here by a clock that knows which is which."""
    run = prepared(options)
    recorder = with_graphs(run.parts)

    def timed(action: Callable[[], object], device: torch.device) -> float:
        before = recorder.num_recorded
        action()
        return 1.0 if recorder.num_recorded == before else 100.0

    monkeypatch.setattr(trainer.prepare.check.preflight, "timed", timed)
    rate, _, _ = trainer.prepare.check.preflight._time_steps(run, [2.0 + i for i in range(len(run.plan.batches(0)))])
    assert recorder.num_recorded > 0
    assert rate < 1.0


def test_a_check_times_what_the_run_would_do(
    options: list[str], timed_steps: list[bool], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*options, "--check"]) == 0
    assert timed_steps == [False] * 4
    said = capsys.readouterr().err
    assert "cache:  " not in said
    for label in ("text:      of ", "units:     ", "written:   ", "learned:   "):
        assert f"\n{label}" in said
    assert main([*options, *FROZEN, "--check"]) == 0
    assert timed_steps[4:] == [True] * 4
    said = capsys.readouterr().err
    assert " for features, " in said
    assert "GB for the frozen feature encoder's output" in said
    assert not list(tmp_path.glob("cache/features/*/"))
    run = prepared([*options, *FROZEN])
    open_table(run.parts.model, table_examples(run.data), tmp_path / "cache", do_normalize=True, precision="fp32",
               device=run.parts.device, autocast=run.parts.autocast, log=print,
               progress=lambda items, total: items)  # fmt: skip
    capsys.readouterr()
    assert main([*options, *FROZEN, "--check"]) == 0
    said = capsys.readouterr().err
    assert " for features, " not in said
    assert said[said.index("cache:  ") :].splitlines()[0].endswith(": it is there")


def test_a_check_without_room_for_features_times_the_run_without_them(
    options: list[str], timed_steps: list[bool], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Room for checkpoints is checked beside it, and is not there either."""
    monkeypatch.setattr(trainer.prepare.check.preflight, "fits_device", lambda num_bytes, device: False)
    monkeypatch.setattr(trainer.prepare.check.preflight.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    assert main([*options, *FROZEN, "--check"]) == 2
    said = capsys.readouterr().err
    assert "NOT ENOUGH: features are computed in every step" in said
    assert "NOT ENOUGH: lower --train.save-total-limit" in said
    assert timed_steps == [False] * 4


@pytest.mark.parametrize(("asked", "in_memory", "code"), [((), False, 0), (("--model.cache-features",), False, 2),
                                                          (("--model.cache-features",), True, 0)])  # fmt: skip
def test_a_check_fails_without_room_for_features_that_were_asked_for(
    asked: tuple[str, ...], in_memory: bool, code: int, options: list[str], tmp_path: Path,
    timed_steps: list[bool], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """They need no disk where they fit into memory."""
    (tmp_path / "cache").mkdir()

    def disk_usage(path: Path) -> SimpleNamespace:
        return SimpleNamespace(free=1000 if path == tmp_path / "cache" else 10**12)

    monkeypatch.setattr(trainer.prepare.check.preflight.shutil, "disk_usage", disk_usage)
    monkeypatch.setattr(trainer.prepare.check.preflight, "fits_device", lambda num_bytes, device: in_memory)
    assert main([*options, *FROZEN, *asked, "--check"]) == code
    assert timed_steps == [in_memory] * 4
    assert ("NOT ENOUGH to keep it: every run computes it anew" in capsys.readouterr().err) == in_memory


def test_checkpoints_and_features_on_one_disk_need_room_for_both(
    options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Room for each alone."""
    run = prepared([*options, *FROZEN])
    num_bytes = trainer.prepare.check.preflight.num_table_bytes(run.parts.model, run.data.train)
    monkeypatch.setattr(trainer.prepare.check.preflight, "num_table_bytes", lambda model, examples: 10**8)
    assert num_bytes < 10**8
    for free, code in ((1.2e8, 2), (2e8, 0)):
        usage = SimpleNamespace(free=free)
        monkeypatch.setattr(trainer.prepare.check.preflight.shutil, "disk_usage", lambda path, usage=usage: usage)
        assert main([*options, *FROZEN, "--check"]) == code
        assert "beside the cache" in capsys.readouterr().err


def test_on_a_gpu_no_gradient_is_computed_for_the_first_screen(
    options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = prepared(options)
    run.parts.device = torch.device("cuda")
    monkeypatch.setattr(trainer.prepare.intro, "estimate_training", lambda run, steps_left: pytest.fail("computed"))
    assert trainer.prepare.intro._time(run, 9).startswith("9 steps; how long they take is told after the second log")
    assert trainer.prepare.intro._time(run, 0) == "no step is left, only the closing evaluation"
