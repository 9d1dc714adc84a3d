"""The closing evaluation (trainer.closing): which weights it scores and exports, and in which arithmetic."""

from __future__ import annotations

import gc
import json
import shutil
import threading
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import trainer.closing
import trainer.rundir.checkpoints.saving
from data.corpora.manifest import ManifestCorpus
from models.checkpoints.export import save_huggingface
from tests.helpers.graphs import with_graphs
from tests.helpers.models import eval_set, example, make_talkative, small_model
from tests.helpers.resumed import run
from tests.helpers.steps import make_batch, make_parts
from tests.helpers.steps import small_model as model_of_steps
from trainer.card.card import write_card
from trainer.cli.console import Console
from trainer.closing import after_training, is_closed, score_closing
from trainer.loop.state import TrainState
from trainer.loop.step import train_step
from trainer.rundir.disk import verify, write_sealed
from trainer.rundir.reading import read_records
from trainer.scoring.evaluate import evaluate
from trainer.scoring.scores import Scores

CPU = torch.device("cpu")


def test_graphs_and_their_memory_are_gone_when_the_closing_evaluation_begins() -> None:
    """The stand-in for a graph is a cycle, which Python has to collect."""
    parts = make_parts(model_of_steps())
    with_graphs(parts)
    parts.model.train()
    for _ in range(2):
        train_step(parts, [make_batch([0, 2])], 1.0, lambda: None)
    assert parts.graphs is not None
    (recorded,) = parts.graphs._recorded.values()
    kept = weakref.ref(recorded)
    del recorded
    after_training(parts)
    gc.collect()
    assert kept() is None


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("selects", "weights", "step"), [(True, "best", 4), (False, "last", 10)])
def test_the_weights_that_are_exported_are_those_that_are_scored(
    selects: bool, weights: str, step: int, run_inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best of the evaluations at 4, 8 and 10, where a corpus has a split to select by, else the last.

    Reference: the checkpoint of that step, and what training's own evaluation of that step found.
    """
    monkeypatch.setattr(ManifestCorpus, "splits", replace(ManifestCorpus.splits, selects=selects))
    original, wers = TrainState.record, {4: 0.5, 8: 0.7, 10: 0.6}
    monkeypatch.setattr(TrainState, "record", lambda state, wer, seconds: original(state, wers[state.step], seconds))
    run_dir = run(tmp_path, run_inputs)
    results = json.loads((run_dir / "results.json").read_text())
    assert (results["weights"], results["best"]["step"], results["steps"]) == (weights, 4, 10)
    exported, best, last = (
        load_file(run_dir / name / "model.safetensors")
        for name in ("model", "checkpoints/best", "checkpoints/step-00000010")
    )
    expected, other = (best, last) if selects else (last, best)
    assert {f"hf.{name}" for name in exported} == expected.keys()
    assert all(torch.equal(tensor, expected[f"hf.{name}"]) for name, tensor in exported.items())
    assert any(not torch.equal(tensor, other[f"hf.{name}"]) for name, tensor in exported.items())
    by_step = {r["step"]: r for r in read_records(run_dir / "metrics.jsonl") if "eval/loss" in r}
    for name in ("wer", "cer", "loss"):
        assert results[name] == pytest.approx(by_step[step][f"eval/{name}"], rel=1e-6)
    assert len({r["eval/loss"] for r in by_step.values()}) == 3


@pytest.mark.usefixtures("one_thread")
def test_the_last_checkpoint_and_the_export_are_written_while_the_closing_evaluation_computes(
    run_inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both wait here for the evaluation to begin; and nothing is told of the run before both are whole."""
    evaluating, waited, whole = threading.Event(), [], []

    def after_it_began(name: str, action: Callable[..., Any]) -> Callable[..., Any]:
        def act(*args: Any, **kwargs: Any) -> Any:
            if name == "export" or args[0].name == "step-00000010":
                waited.append((name, evaluating.wait(30)))
            return action(*args, **kwargs)

        return act

    def score(*args: Any) -> Any:
        evaluating.set()
        return score_closing(*args)

    def tell(run_dir: Path, *args: Any) -> None:
        verify(run_dir / "checkpoints" / "step-00000010")
        whole.append(load_file(run_dir / "model" / "model.safetensors"))
        write_card(run_dir, *args)

    monkeypatch.setattr(trainer.rundir.checkpoints.saving, "write_sealed", after_it_began("save", write_sealed))
    monkeypatch.setattr(trainer.closing, "save_huggingface", after_it_began("export", save_huggingface))
    monkeypatch.setattr(trainer.closing, "score_closing", score)
    monkeypatch.setattr(trainer.closing, "write_card", tell)
    run_dir = run(tmp_path, run_inputs)
    assert sorted(waited) == [("export", True), ("save", True)]
    assert len(whole) == 1
    assert (run_dir / "results.json").exists()


@pytest.fixture
def tf32_on() -> Any:
    """As training with TF32 leaves the switches."""
    switches = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = True
    yield
    for switch, value in zip(switches, before, strict=True):
        switch.allow_tf32 = value


def test_the_closing_evaluation_is_in_fp32_without_tf32_from_the_audio_itself(
    tf32_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever switches, autocast and table of features training had. What TF32 does: tests/gpu/test_training.py."""
    seen: list[tuple[bool, bool, bool, object]] = []

    def spy(model: Any, split: Any, device: Any, autocast: Any, *rest: Any, **others: Any) -> Scores:
        with autocast():
            seen.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32,
                         torch.is_autocast_enabled("cpu"), split.features))  # fmt: skip
        return evaluate(model, split, device, autocast, *rest, **others)

    monkeypatch.setattr(trainer.closing, "evaluate", spy)
    model = make_talkative(small_model())
    split = eval_set(model, [example(6000, "abba cab")])
    with torch.autocast("cpu", enabled=False):
        scores = score_closing(model, split, CPU, Console())
    assert seen == [(False, False, False, None)]
    assert scores.hypotheses == evaluate(model, split, CPU, nullcontext).hypotheses


def test_a_run_is_closed_at_the_step_that_its_results_tell_of(finished_run: Path, tmp_path: Path) -> None:
    """And not where results.json is half written, or of a shorter plan."""
    assert is_closed(finished_run, 4)
    assert not is_closed(finished_run, 8)
    assert not is_closed(tmp_path, 4)
    shutil.copy(finished_run / "results.json", tmp_path)
    (tmp_path / "results.json").write_text((tmp_path / "results.json").read_text()[:40])
    assert not is_closed(tmp_path, 4)
