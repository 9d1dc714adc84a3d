"""Runs that another version of this program began: an older one, which had fewer options, and a newer one.

Their folders are made by hand from a run of this version, by taking out what the other one did not write.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.verify_run import main as verify_run
from tests.helpers.resumed import differences, everything, options, run, run_stopped
from trainer.run import main

pytestmark = pytest.mark.usefixtures("one_thread")

ADDED = ("optim.moments", "model.lora_rank", "corpus.bos_eos")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, run_inputs: Path) -> dict:
    torch.set_num_threads(1)
    return everything(run(tmp_path_factory.mktemp("whole"), run_inputs))


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    plain = json.loads(path.read_text())
    edit(plain)
    path.write_text(json.dumps(plain))


def change_checkpoint(run_dir: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change the state.json of the newest checkpoint, and seal the folder again as its version would have."""
    folder = max((run_dir / "checkpoints").glob("step-*"))
    change(folder / "state.json", edit)
    content = (folder / "state.json").read_bytes()
    entry = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    change(folder / "manifest.json", lambda manifest: manifest["files"].update({"state.json": entry}))


def without(names: tuple[str, ...]) -> Callable[[dict[str, Any]], None]:
    def edit(config: dict[str, Any]) -> None:
        for name in names:
            *groups, last = name.split(".")
            del (config[groups[0]] if groups else config)[last]

    return edit


def take_out(run_dir: Path, names: tuple[str, ...]) -> None:
    """Make of a run one of a version that had not the options `names`, and noted less."""

    def edit(state: dict[str, Any]) -> None:
        for name in names:
            state["options"].pop(name)
        del state["state"]["num_halved"], state["content"]["transformers"]

    change(run_dir / "config.json", without(names))
    change_checkpoint(run_dir, edit)


@pytest.mark.slow
def test_a_run_of_an_older_version_goes_on_and_says_once_which_options_it_did_not_know(
    uninterrupted: dict, run_inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Reference: the run that was not interrupted. Here both versions compute the same bits, which is not promised."""
    run_stopped(tmp_path, run_inputs, 5, monkeypatch)
    take_out(tmp_path / "run", ADDED)
    assert verify_run([str(tmp_path / "run")]) == 0
    capsys.readouterr()
    resumed = everything(run(tmp_path, run_inputs, "--resume"))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "older version" in line]
    assert "which had no --corpus.bos-eos no, --model.lora-rank none, --optim.moments fp32." in line
    assert "That version noted nothing to compare of: transformers" in line
    assert differences(resumed, uninterrupted) == []
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["optim"]["moments"], config["model"]["lora_rank"]) == ("fp32", None)


def test_an_option_that_the_older_version_did_not_have_must_not_be_given_unseen(
    run_inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_stopped(tmp_path, run_inputs, 5, monkeypatch)
    take_out(tmp_path / "run", ("model.hidden_dropout",))
    capsys.readouterr()
    assert main(options(tmp_path, run_inputs, "--resume")) == 2
    refused = capsys.readouterr().err
    assert "model.hidden_dropout: None before, 0.2 now" in refused
    assert "--allow-changes model.hidden_dropout" in refused


@pytest.mark.parametrize("where", ["config", "state"])
def test_a_run_of_a_newer_version_is_refused_and_left_as_it_is(
    where: str, run_inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Although an older checkpoint is sound: the newest one is not damaged."""
    run_stopped(tmp_path, run_inputs, 7, monkeypatch)
    if where == "config":
        change(tmp_path / "run" / "config.json", lambda config: config["train"].update(warp=9))
        reason = "unknown field 'warp': a run of another version of this program"
    else:
        change_checkpoint(tmp_path / "run", lambda state: state["state"].update(warp=9))
        reason = "holds 'warp', which this version of the program does not know: a newer one wrote it"
    before = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert before == ["best", "step-00000005", "step-00000007"]
    assert main(options(tmp_path, run_inputs, "--resume")) == 2
    assert reason in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == before
