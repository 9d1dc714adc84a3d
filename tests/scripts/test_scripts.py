"""The scripts, run as a user runs them."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from scripts.evaluate import main as evaluate
from scripts.evaluate import parse_all
from scripts.export_onnx import main as export_onnx
from scripts.report import main as report
from scripts.transcribe import main as transcribe
from trainer.config.as_json import read_config
from trainer.config.presets import PRESETS
from trainer.run import main as train
from trainer.rundir.disk import verify

PARTS_OF_A_RUN = [".", "model", "checkpoints/best", "checkpoints/step-4"]
"""All that a command takes of a run, as a model."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, synthetic_cache: Path) -> Path:
    """A run of a few steps on the tiny corpus under the `hf` protocol."""
    folder = tmp_path_factory.mktemp("runs")
    options = ["demo", "--corpus.size", "tiny", "--corpus.protocol", "hf", "--train.max-steps", "6", "--name", "run",
               "--optim.warmup-steps", "1", "--cache-dir", str(synthetic_cache), "--runs-dir", str(folder)]  # fmt: skip
    assert train(options) == 0
    return folder / "run"


@pytest.mark.slow
def test_evaluate_gives_the_files_that_training_gave(trained: Path, synthetic_cache: Path, tmp_path: Path) -> None:
    """The exported folder through scripts/evaluate.py: the closing evaluation's hypotheses, byte for byte."""
    options = ["demo", "--corpus.size", "tiny", "--corpus.protocol", "hf", "--cache-dir", str(synthetic_cache),
               "--runs-dir", str(tmp_path)]  # fmt: skip
    assert evaluate([str(trained / "model"), *options]) == 0
    scored = tmp_path / "evaluate-run"
    assert (scored / "hypotheses.jsonl").read_text() == (trained / "hypotheses.jsonl").read_text()
    ours, theirs = (json.loads((d / "results.json").read_text()) for d in (scored, trained))
    for key in ("wer", "cer", "loss", "num_errors", "num_reference_words"):
        assert ours[key] == theirs[key]


@pytest.mark.slow
def test_evaluate_under_timit_hf_prints_the_reference_beside_what_it_found(
    trained: Path, tiny_timit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["timit-hf", "--corpus.root", str(tiny_timit), "--runs-dir", str(tmp_path), "--cache-dir", str(tmp_path)]
    assert evaluate([str(trained / "model"), *options]) == 0
    found = json.loads((tmp_path / "evaluate-run" / "results.json").read_text())
    out = capsys.readouterr()
    assert "3,186 errors of 14,511 words" in out.out
    assert f"found here: {found['num_errors']:,} of {found['num_reference_words']:,}" in out.out


def test_evaluate_of_a_run_alone_takes_the_runs_own_corpus(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reference: the run's config.json. What is given here holds before it; a corpus that is named, alone."""
    earlier = read_config(finished_run / "config.json")
    checkpoint = next((finished_run / "checkpoints").glob("step-*"))
    for source in (finished_run, finished_run / "model", checkpoint):
        _, config, _ = parse_all([str(source), "--name", "x"])
        assert (config.corpus, config.eval, config.cache_dir) == (earlier.corpus, earlier.eval, earlier.cache_dir)
        assert config.name == "x"
        assert f"no PRESET is given: the corpus is that of {finished_run}" in capsys.readouterr().err
    _, config, _ = parse_all([str(finished_run), "--corpus.max-seconds", "7"])
    assert config.corpus == dataclasses.replace(earlier.corpus, max_seconds=7.0)
    assert parse_all([str(finished_run), "demo"])[1].corpus == PRESETS["demo"]().corpus
    assert evaluate([str(finished_run), "--runs-dir", str(tmp_path), "--no-report"]) == 0
    (scored,) = tmp_path.iterdir()
    ours, theirs = (json.loads((folder / "results.json").read_text()) for folder in (scored, finished_run))
    assert ours["splits"].keys() == theirs["splits"].keys()
    assert ours["num_reference_words"] == theirs["num_reference_words"]


@pytest.mark.parametrize("more", [[], ["--device", "cpu"]])
def test_evaluate_of_a_model_without_a_run_asks_for_the_corpus(
    more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    no_folder = "is no folder here, and a hub model has no run"
    for source, what in (("someone/model", no_folder), (str(tmp_path), "belongs to no run here")):
        assert evaluate([source, *more]) == 2
        said = capsys.readouterr().err
        assert f"{source} {what}, so name the corpus" in said
        assert f"scripts.evaluate {source} manifest --corpus.eval test.jsonl. Presets: demo, " in said


def test_evaluate_scores_a_runs_model_as_the_run_did(finished_run: Path, tmp_path: Path) -> None:
    """The exported folder, its tokenizer and its feature extractor: the closing evaluation's files, byte for byte."""
    options = ["--corpus.eval", str(finished_run.parents[1] / "eval.jsonl"), "--runs-dir", str(tmp_path),
               "--cache-dir", str(tmp_path / "cache"), "--device", "cpu"]  # fmt: skip
    copy = Path(shutil.copytree(finished_run / "model", tmp_path / "copy"))
    assert evaluate([str(copy), "manifest", *options]) == 0
    scored = tmp_path / "evaluate-copy"
    assert (scored / "hypotheses.jsonl").read_bytes() == (finished_run / "hypotheses.jsonl").read_bytes()
    ours, theirs = (json.loads((d / "results.json").read_text()) for d in (scored, finished_run))
    for key in ("wer", "cer", "loss", "num_errors", "num_reference_words"):
        assert ours[key] == theirs[key]


def test_report_of_an_evaluation_follows_the_model_that_was_moved_or_is_told_where_it_is(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole folder of runs gets another name; then the run that was scored gets one."""
    runs = tmp_path / "runs"
    shutil.copytree(finished_run, runs / "a")
    options = ["--corpus.eval", str(finished_run.parents[1] / "eval.jsonl"), "--runs-dir", str(runs), "--no-report",
               "--cache-dir", str(tmp_path / "cache"), "--device", "cpu"]  # fmt: skip
    assert evaluate([str(runs / "a"), "manifest", *options]) == 0
    moved = runs.rename(tmp_path / "old")

    def report_again(*argv: str) -> str:
        capsys.readouterr()
        assert report([str(moved / "evaluate-a"), *argv]) == 0
        out, err = capsys.readouterr()
        return err + out

    assert "text only" not in report_again()
    renamed = (moved / "a").rename(moved / "b")
    said = report_again()
    assert said.startswith(f"warning: text only: {runs / 'a' / 'model'} is not there any more.")
    assert "say with --model" in said
    assert "text only" not in report_again("--model", str(renamed))


def test_evaluate_of_a_folder_without_a_model_is_one_line(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--corpus.eval", str(finished_run.parents[1] / "eval.jsonl"), "--runs-dir", str(tmp_path / "runs")]
    assert evaluate([str(tmp_path), "manifest", *options]) == 2
    assert capsys.readouterr().err.splitlines()[1:] == [
        f"error: {tmp_path}: no config.json here; this is not a Hugging Face model folder."
    ]


def test_evaluate_refuses_the_folder_of_a_training_run(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its config.json and results.json would be written over."""
    run = Path(shutil.copytree(finished_run, tmp_path / "runs" / "demo"))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    options = ["--corpus.eval", str(finished_run.parents[1] / "eval.jsonl"), "--runs-dir", str(tmp_path / "runs")]
    assert evaluate([str(run / "model"), "manifest", *options, "--name", "demo"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"{run / 'model'} on {finished_run.parents[1] / 'eval.jsonl'}",
        f"error: {run} holds a training run, which is not written over. Choose another --name.",
    ]
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_an_evaluation_is_done_again_but_not_written_over_by_one_of_another_corpus(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, scored = finished_run.parents[1], tmp_path / "runs" / "mine"
    options = ["--runs-dir", str(tmp_path / "runs"), "--cache-dir", str(tmp_path / "cache"), "--device", "cpu",
               "--name", "mine", "--no-report"]  # fmt: skip
    first, other = (["manifest", "--corpus.eval", str(data / name), *options] for name in ("eval.jsonl", "train.jsonl"))
    model = str(finished_run / "model")
    for _ in range(2):
        assert evaluate([model, *first]) == 0
    kept = (scored / "hypotheses.jsonl").read_bytes()
    capsys.readouterr()
    assert evaluate([model, *other]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: {scored} holds an evaluation on another corpus, or with other options of it (preset manifest). "
        "Choose another --name, or write over it: --overwrite."
    )
    assert (scored / "hypotheses.jsonl").read_bytes() == kept
    assert evaluate([model, *other, "--overwrite"]) == 0
    assert (scored / "hypotheses.jsonl").read_bytes() != kept


def test_models_of_two_runs_are_evaluated_into_two_folders(finished_run: Path, tmp_path: Path) -> None:
    options = ["--corpus.eval", str(finished_run.parents[1] / "eval.jsonl"), "--runs-dir", str(tmp_path / "runs"),
               "--cache-dir", str(tmp_path / "cache"), "--device", "cpu"]  # fmt: skip
    for name in ("a", "b"):
        shutil.copytree(finished_run / "model", tmp_path / name / "model")
        assert evaluate([str(tmp_path / name / "model"), "manifest", *options]) == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["evaluate-a", "evaluate-b"]


def test_model_without_a_head_is_not_scored(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A head drawn at random has a word error rate too."""
    model = Path(shutil.copytree(finished_run / "model", tmp_path / "headless"))
    weights = load_file(model / "model.safetensors")
    body = {name: tensor for name, tensor in weights.items() if not name.startswith("lm_head")}
    save_file(body, model / "model.safetensors", metadata={"format": "pt"})
    options = ["--corpus.eval", str(finished_run.parents[1] / "eval.jsonl"), "--runs-dir", str(tmp_path / "runs"),
               "--cache-dir", str(tmp_path / "cache"), "--device", "cpu"]  # fmt: skip
    assert evaluate([str(model), "manifest", *options]) == 2
    assert "headless: has no lm_head" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("main", "part"),
    [
        *((transcribe, part) for part in PARTS_OF_A_RUN),
        *(pytest.param(export_onnx, part, marks=pytest.mark.slow) for part in PARTS_OF_A_RUN),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__module__,
)
def test_every_command_takes_a_run_and_its_checkpoints(
    main: Callable[[list[str]], int], part: str, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """export_onnx writes nothing into a checkpoint, which is sealed. The logits of this run's model are large."""
    monkeypatch.setattr("scripts.export_onnx.TOLERANCE", 0.01)
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    audio = str(finished_run.parents[1] / "eval-0.wav")
    assert main([str(run / part), *({transcribe: [audio], export_onnx: ["--utterances", "1"]}[main])]) == 0
    for folder in (run / "checkpoints").iterdir():
        verify(folder)


def test_an_evaluation_of_a_checkpoint_is_named_after_run_and_step(finished_run: Path, tmp_path: Path) -> None:
    options = ["--corpus.test", str(finished_run.parents[1] / "eval.jsonl"), "--runs-dir", str(tmp_path / "runs"),
               "--cache-dir", str(tmp_path / "cache"), "--device", "cpu"]  # fmt: skip
    run = Path(shutil.copytree(finished_run, tmp_path / "noise"))
    for part in ("", "checkpoints/step-4", "checkpoints/best"):
        assert evaluate([str(run / part), "manifest", *options]) == 0
    scored = sorted((tmp_path / "runs").iterdir())
    assert [path.name for path in scored] == ["evaluate-noise", "evaluate-noise-best", "evaluate-noise-step-4"]
    of_model, _, of_step = ((path / "hypotheses.jsonl").read_text() for path in scored)
    assert of_model == of_step
