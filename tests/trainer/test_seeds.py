"""One recipe with several seeds (trainer.seeds): the runs, what stops them, what they are summed up to.

pytest tests/trainer/test_seeds.py
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.resumed import differences, everything, options, run, run_stopped
from trainer.config.presets import PRESETS
from trainer.run import main
from trainer.seeds import command_of, describe
from trainer.session import train

pytestmark = pytest.mark.usefixtures("one_thread")


def summary(folder: Path) -> dict:
    return json.loads((folder / "run-seeds.json").read_text())


@pytest.mark.slow
def test_a_stopped_series_goes_on_and_each_run_is_that_of_its_seed_alone(
    run_inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C in step 2 of the second run, then --resume: the first one is not trained again, and the second one ends
    as `--seed 2` does by itself. Reference: that run, to the last bit."""
    series, short = tmp_path / "series", ("--train.max-steps", "3", "--optim.warmup-steps", "1")
    run_stopped(series, run_inputs, 5, monkeypatch, *short, "--seeds", "1,2")
    assert "1 of 2 runs are finished; the same command with --resume goes on with seed 2" in capsys.readouterr().err
    assert [r["seed"] for r in summary(series)["runs"]] == [1]
    first = (series / "run-seed1" / "results.json").read_bytes()
    monkeypatch.undo()
    assert main(options(series, run_inputs, *short, "--seeds", "1,2", "--resume")) == 0
    assert (series / "run-seed1" / "results.json").read_bytes() == first
    said = capsys.readouterr().err
    assert "run-seed1: complete after 3 steps; nothing to do" in said
    assert "run: n = 2 runs (seed 1, 2)" in said
    alone = run(tmp_path / "alone", run_inputs, *short, "--seed", "2")
    assert differences(everything(series / "run-seed2", 3), everything(alone, 3)) == []

    found, each = summary(series), [json.loads((series / f"run-seed{i}" / "results.json").read_text()) for i in (1, 2)]
    of_split = found["splits"]["eval"]["cer"]
    assert of_split["values"] == [each[0]["cer"], each[1]["cer"]]
    assert of_split["mean"] == pytest.approx((each[0]["cer"] + each[1]["cer"]) / 2)
    assert of_split["high"] - of_split["mean"] == pytest.approx(
        12.7062 * abs(each[0]["cer"] - each[1]["cer"]) / 2, rel=1e-4
    )
    assert each[1]["command"][-4:] == ["--seed", "2", "--name", "run-seed2"]


def test_a_folder_that_holds_a_run_is_told_before_anything_is_trained(
    run_inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run-seed2").mkdir()
    (tmp_path / "run-seed2" / "config.json").write_text("{}")
    assert main(options(tmp_path, run_inputs, "--seeds", "1,2")) == 2
    assert "run-seed2 holds a run of 0 steps: --resume continues it" in capsys.readouterr().err
    assert not (tmp_path / "run-seed1").exists()


def test_a_check_trains_nothing(run_inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(options(tmp_path, run_inputs, "--seeds", "1,2", "--check")) == 0
    assert "one check for 2 runs" in capsys.readouterr().err
    assert not list(tmp_path.glob("*/config.json"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "1,x"], "--seeds 1,x: give whole numbers with commas between them"),
        (["--seeds", "1,,2"], "give whole numbers with commas"),
        (["--seeds", "0,3,0"], "0 stands there twice"),
        (["--seeds", "1,2", "--seed", "3"], "--seed 3 and --seeds 1,2 exclude each other"),
        (["--seeds", "1,2", "--push-to-hub", "me/model"], "leave out --push-to-hub"),
    ],
)
def test_what_cannot_be_is_refused(
    words: list[str], message: str, run_inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options(tmp_path, run_inputs, *words)) == 2
    assert message in capsys.readouterr().err


def test_a_program_that_asks_for_seeds_is_told_which_function_trains_them(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"trainer\.seeds\.train_seeds"):
        train(replace(PRESETS["demo"](), seeds="1,2", runs_dir=str(tmp_path)))


def test_the_command_of_one_run_is_that_of_all_with_its_own_seed_and_name() -> None:
    config = replace(PRESETS["demo"](), seed=7, name="a-seed7")
    argv = ["demo", "--seeds", "7,8", "--optim.lr", "1e-3", "--name=a", "--seeds=7,8"]
    assert command_of(argv, config) == ["demo", "--optim.lr", "1e-3", "--seed", "7", "--name", "a-seed7"]


def test_one_run_has_a_mean_and_no_interval() -> None:
    record = {"n": 1, "mean": 0.5, "deviation": None, "low": None, "high": None, "least": 0.5, "most": 0.5}
    found = {"name": "a", "metric": "wer", "runs": [{"seed": 1}], "splits": {"eval": {"wer": record}}}
    lines = describe(found, Path("a-seeds.json"))
    assert "which needs two" in lines[0]
    assert lines[2].split() == ["eval", "50.00", "%", "none", "none", "50.00", "%", "50.00", "%"]


def test_rule_of_phones_stands_above_the_table() -> None:
    record = {"n": 1, "mean": 0.5, "deviation": None, "low": None, "high": None, "least": 0.5, "most": 0.5}
    splits = {split: {"per": record, "scoring": "39 classes, silences kept"} for split in ("core", "dev")}
    lines = describe({"name": "a", "metric": "per", "runs": [{"seed": 1}], "splits": splits}, Path("a-seeds.json"))
    assert lines[1] == "  PER [39 classes, silences kept]"
