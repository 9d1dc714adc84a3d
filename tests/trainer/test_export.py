"""Which weights a run exports, what is said of them, and a model folder from any checkpoint.

pytest tests/trainer/test_export.py
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCTC

from scripts.export import main as export
from tests.helpers.damage import flip_a_bit
from tests.helpers.models import noise
from tests.helpers.runs import train_on_noise
from trainer.config.presets import PRESETS
from trainer.errors import ModelError
from trainer.loop.state import TrainState
from trainer.rundir.model_source import find_model, model_name


@pytest.fixture(scope="module")
def selecting_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Four steps, evaluated after 2 and 4, with a test split; the WER during training is lower after step 2."""
    folder = tmp_path_factory.mktemp("selecting")
    soundfile.write(folder / "test-0.wav", noise(9000, seed=7), 16_000, subtype="PCM_16")
    (folder / "test.jsonl").write_text(json.dumps({"audio_filepath": "test-0.wav", "text": "abba"}))
    original = TrainState.record
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainState, "record", lambda state, wer, s: original(state, {2: 0.25}.get(state.step, 0.5), s))
        yield train_on_noise(folder, "--corpus.test", str(folder / "test.jsonl"), "--train.save-every", "1",
                             "--optim.lr", "1e-3", "--no-report")  # fmt: skip


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """Under transformers' names, of a checkpoint or a model folder."""
    return {name.removeprefix("hf."): t for name, t in load_file(folder / "model.safetensors").items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_test_split_is_reported_with_the_weights_that_the_evaluation_split_selects(selecting_run: Path) -> None:
    results = json.loads((selecting_run / "results.json").read_text())
    assert (results["headline"], results["weights"], results["best"]["step"]) == ("test", "best", 2)
    assert list(results["splits"]) == ["test", "eval"]
    assert same(weights_of(selecting_run / "model"), weights_of(selecting_run / "checkpoints" / "best"))
    assert not same(weights_of(selecting_run / "model"), weights_of(selecting_run / "checkpoints" / "step-00000004"))


def test_a_selection_on_a_scored_split_is_called_optimistic(selecting_run: Path) -> None:
    splits = json.loads((selecting_run / "results.json").read_text())["splits"]
    assert splits["eval"]["note"] == "optimistic: the weights were selected on it"
    assert "note" not in splits["test"]
    card = (selecting_run / "model" / "README.md").read_text()
    assert "with the weights of step 2, which had the lowest WER on eval during training:" in card
    assert "| eval (optimistic: the weights were selected on it) |" in card


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ([], "last"),
        (["--train.export", "best"], "best"),
        (["--train.patience", "1"], "best"),
        (["--train.patience", "1", "--train.export", "last"], "last"),
    ],
)
def test_best_weights_are_exported_with_patience_or_on_request(
    options: list[str], weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TrainState.record
    monkeypatch.setattr(TrainState, "record", lambda state, wer, s: original(state, {2: 0.25}.get(state.step, 0.5), s))
    run = train_on_noise(tmp_path, *options, "--optim.lr", "1e-3", "--no-report")
    results = json.loads((run / "results.json").read_text())
    assert results["weights"] == weights
    expected = {"best": "best", "last": "step-00000004"}[weights]
    assert same(weights_of(run / "model"), weights_of(run / "checkpoints" / expected))
    assert json.loads((run / "config.json").read_text())["train"]["export"] == weights
    optimistic = "The same split selected the weights, so these figures are optimistic"
    assert (optimistic in (run / "model" / "README.md").read_text()) == (weights == "best")


def test_the_timit_preset_exports_the_best_weights_and_the_faithful_one_does_not() -> None:
    assert PRESETS["timit"]().train.export == "best"
    assert PRESETS["timit-hf"]().train.export is None


@pytest.mark.parametrize(("step", "folder"), [("best", "best"), ("3", "step-00000003"), ("step-4", "step-00000004")])
def test_any_checkpoint_becomes_a_model_folder_with_a_card(
    step: str, folder: str, selecting_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """transformers reads it, and its configuration is the one that the run itself exported."""
    assert export([str(selecting_run), "--step", step, "--out", str(tmp_path / "model")]) == 0
    assert f"holds the weights of {selecting_run / 'checkpoints' / folder} and a model card" in capsys.readouterr().out
    model, info = AutoModelForCTC.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(info.values())
    assert same(model.state_dict(), weights_of(selecting_run / "checkpoints" / folder))
    for name in ("config.json", "vocab.json", "tokenizer_config.json", "preprocessor_config.json"):
        ours, theirs = ((run / name).read_text() for run in (tmp_path / "model", selecting_run / "model"))
        assert json.loads(ours) == json.loads(theirs)
    card = (tmp_path / "model" / "README.md").read_text()
    number = {"best": 2, "3": 3, "step-4": 4}[step]
    assert f"The weights of step {number} of the run tiny noise." in card
    assert ("No evaluation was made at this step" in card) == (number == 3)
    assert ("selected by the first of these rates, so it is optimistic" in card) == (step == "best")


def test_a_run_that_is_not_over_can_be_exported_and_used(selecting_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(selecting_run, tmp_path / "run", ignore=shutil.ignore_patterns("model", "results.json")))
    said: list[str] = []
    assert find_model(str(run), said.append) == str(run / "checkpoints" / "best")
    assert said == [f"{run} has no model/ yet: using {run / 'checkpoints' / 'best'}"]
    shutil.rmtree(run / "checkpoints" / "best")
    assert find_model(str(run), said.append) == str(run / "checkpoints" / "step-00000004")
    assert export([str(run)]) == 0
    assert same(weights_of(run / "model-step-4"), weights_of(run / "checkpoints" / "step-00000004"))
    assert export([str(run)]) == 2  # nothing is written over


def test_names_follow_the_run_s_folder(selecting_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(selecting_run, tmp_path / "renamed"))
    parts = ["model", "checkpoints/best", "checkpoints/step-00000004"]
    assert [model_name(str(run / part)) for part in parts] == ["renamed", "renamed-best", "renamed-step-4"]


def test_a_damaged_checkpoint_is_not_used(selecting_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(selecting_run, tmp_path / "run"))
    flip_a_bit(run / "checkpoints" / "step-00000003" / "model.safetensors")
    with pytest.raises(ModelError, match="SHA-256 differs"):
        find_model(str(run / "checkpoints" / "step-3"))


@pytest.mark.parametrize(
    ("source", "remedy"),
    [
        ("nosuch", r"nosuch: no such folder, and a hub id is OWNER/NAME\. There are runs/demo\."),
        ("demo", r"demo: no such folder\. Did you mean runs/demo\?"),
        ("runs/demi", r"runs/demi: no such folder.* Did you mean runs/demo\?"),
        ("runs/demo/checkpoints/step-9", r"no such folder.* There are runs/demo/checkpoints/best, "),
        ("./facebook/x", "no such folder"),
    ],
)
def test_a_model_that_is_not_there_is_told_with_what_is(
    source: str, remedy: str, selecting_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(selecting_run, tmp_path / "runs" / "demo")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=remedy):
        find_model(source)


def test_a_hub_id_is_left_alone_even_beside_a_folder_of_its_owners_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "facebook" / "other").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert find_model("facebook/wav2vec2-base") == "facebook/wav2vec2-base"


def test_a_folder_of_another_program_with_results_is_a_model_and_no_run(finished_run: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(finished_run / "model", tmp_path / "other"))
    (model / "results.json").write_text("{}")
    assert find_model(str(model)) == str(model)
