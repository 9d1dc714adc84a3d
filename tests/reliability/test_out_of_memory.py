"""torch.OutOfMemoryError at every place of a run: it is worked around, or the run ends saved and in one line.

pytest tests/reliability/test_out_of_memory.py
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import trainer.closing
import trainer.loop.gradients
import trainer.loop.step
import trainer.prepare.build
import trainer.prepare.features.filling
import trainer.scoring.transcripts
from models.ctc import CTCModel
from scripts.transcribe import main as transcribe
from tests.helpers.runs import train_on_noise
from tests.helpers.steps import EXAMPLES, loader_of, make_batch, make_parts, run_fit, small_model
from trainer.config.schema import TrainConfig
from trainer.errors import TrainingStopped
from trainer.loop.optim import allocate_moments
from trainer.loop.state import TrainState
from trainer.loop.step import train_step
from trainer.rundir.checkpoints.restore import newest_valid, restore
from trainer.rundir.checkpoints.saving import Saver
from trainer.rundir.results import read_hypotheses


def no_memory(*args: object, **options: object) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore lines follow.")


def failing_from(number: int, original: Callable) -> Callable:
    """`original`, which has no memory from its call `number` on."""
    calls = iter(range(10**6))
    return lambda *args, **options: (no_memory if next(calls) >= number else original)(*args, **options)


PLACES = {
    "the norms of the parts": (trainer.loop.gradients, "norms_by_part"),
    "clipping": (torch.nn.utils, "clip_grad_norm_"),
    "the moments": (trainer.loop.step, "allocate_moments"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("step", [0, 3])
def test_no_memory_after_the_gradient_saves_the_step_before_and_says_so(
    place: str, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, moments and schedule are those of the last whole step, which goes on as if nothing had happened."""
    parts, loader, state = make_parts(small_model()), loader_of(EXAMPLES), TrainState()
    config = TrainConfig(eval_every=0, save_every=0, log_every=1)
    whole, whole_state = make_parts(small_model()), TrainState()
    run_fit(whole, loader_of(EXAMPLES), config, 6, state=whole_state, save=lambda: None)
    saver = Saver(tmp_path, 3, {"options": {}, "content": {}, "tokens": []}, pytest.fail)
    module, name = PLACES[place]
    with monkeypatch.context() as patch:
        patch.setattr(module, name, failing_from(step, getattr(module, name)))
        with pytest.raises(TrainingStopped, match=rf"^out of memory after step {step}, .*2\.00 GiB\.\)[^\n]*$"):
            run_fit(parts, loader, config, 6, state=state, save=lambda: saver.save(parts, state))
    assert saver.finish()
    assert all(p.grad is None for p in parts.model.parameters())
    found = newest_valid(tmp_path, pytest.fail)
    assert found is not None
    again = make_parts(small_model(seed=1))
    restored = restore(*found, again)
    assert restored.step == step
    run_fit(again, loader, config, 6, state=restored, save=lambda: None)
    ours, theirs = again.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_moments_are_made_for_all_parameters_or_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """And they are those that AdamW makes itself."""
    parts = make_parts(small_model())
    train_step(parts, [make_batch([0])], 0.0, lambda: None)  # a gradient of norm 0: the moments stay zero
    for p in parts.optimizer.state:
        p.grad = torch.zeros_like(p)
    expected = {p: {key: t.clone() for key, t in s.items()} for p, s in parts.optimizer.state.items()}
    parts.optimizer.state.clear()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "zeros_like", failing_from(5, torch.zeros_like))
        with pytest.raises(torch.OutOfMemoryError):
            allocate_moments(parts.optimizer)
    assert not parts.optimizer.state
    fresh = torch.optim.AdamW(parts.optimizer.param_groups, fused=True)
    fresh.step()
    allocate_moments(parts.optimizer)
    assert parts.optimizer.state.keys() == expected.keys() == fresh.state.keys()
    for p, own in parts.optimizer.state.items():
        assert {key: (t.shape, t.dtype, t.stride()) for key, t in own.items()} == {
            key: (t.shape, t.dtype, t.stride()) for key, t in fresh.state[p].items()
        }
        assert not any(t.any() for t in own.values())


@pytest.fixture(scope="module")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("memory")


def test_an_evaluation_without_memory_for_a_batch_reads_it_in_halves(
    finished_run: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transcripts and losses of the closing evaluation are those of a run that had memory."""
    original = trainer.scoring.transcripts._launch

    def launch(model: CTCModel, features: Any, batch: Any, **options: Any) -> Any:
        return (no_memory if len(batch.ids) > 2 else original)(model, features, batch, **options)

    monkeypatch.setattr(trainer.scoring.transcripts, "_launch", launch)
    run = train_on_noise(corpus_folder, "--no-report", "--train.eval-every", "2")
    ours, theirs = (read_hypotheses(folder / "hypotheses.jsonl")["eval"] for folder in (run, finished_run))
    assert [(h.id, h.hypothesis) for h in ours] == [(h.id, h.hypothesis) for h in theirs]
    assert [h.loss for h in ours] == pytest.approx([h.loss for h in theirs], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("closing evaluation", "out of memory in the closing evaluation or the export (CUDA out of memory."),
        ("export", "out of memory in the closing evaluation or the export (CUDA out of memory."),
        ("model to the device", "out of memory on the device (CUDA out of memory."),
    ],
)
def test_no_memory_outside_the_loop_is_one_line_and_resume_goes_on(
    place: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module, name = {
        "closing evaluation": (trainer.closing, "evaluate"),
        "export": (trainer.closing, "save_huggingface"),
        "model to the device": (CTCModel, "to"),
    }[place]
    with monkeypatch.context() as patch:
        patch.setattr(module, name, no_memory)
        train_on_noise(tmp_path, "--no-report", code=3)
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {said}")
    run = train_on_noise(tmp_path, "--no-report", "--resume")
    assert (run / "results.json").exists()


def test_the_table_of_features_is_left_out_when_the_device_has_no_memory_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trainer.prepare.features.filling, "extract_features", no_memory)
    run = train_on_noise(tmp_path, "--no-report")
    assert (
        "output cannot be computed (CUDA out of memory. Tried to allocate 2.00 GiB.); it is computed in every step"
        in (" ".join(capsys.readouterr().err.split()))
    )
    assert (run / "results.json").exists()


def test_a_command_without_memory_ends_in_one_line(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(CTCModel, "forward", no_memory)
    assert transcribe([str(finished_run), str(finished_run.parents[1] / "eval-0.wav")]) == 3
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("error: out of memory on the device (CUDA out of memory. Tried to allocate 2.00 GiB.).")
