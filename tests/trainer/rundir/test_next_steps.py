"""What a finished run offers to do next (trainer.rundir.next_steps): commands that a shell takes as they are.

pytest tests/trainer/rundir/test_next_steps.py
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from data.corpora.given import GivenConfig
from tests.helpers.paths import ROOT
from trainer.cli.console import Console
from trainer.config.presets import PRESETS
from trainer.rundir.next_steps import conclude, next_commands


def next_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a run without a report is told, in a folder whose names have spaces."""
    monkeypatch.chdir(tmp_path)
    Path("my audio.wav").touch()
    config = replace(PRESETS["manifest"](), runs_dir="my runs", name="a")
    return next_commands(config, str(tmp_path / "my audio.wav"))


def test_next_commands_are_words_of_a_shell_and_their_scripts_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board, report, transcribe, doctor, verify = map(shlex.split, next_of_a_run(tmp_path, monkeypatch))
    assert board[-2:] == ["--logdir", "my runs"]
    assert report[1:] == ["-m", "scripts.report", "my runs/a"]
    assert transcribe[1:] == ["-m", "scripts.transcribe", "my runs/a/model", "my audio.wav"]
    assert doctor[1:] == ["-m", "scripts.doctor", "my runs/a"]
    assert verify[1:] == ["-m", "scripts.verify_run", "my runs/a"]
    for command in (report, transcribe, doctor, verify):
        assert (ROOT / f"{command[2].replace('.', '/')}.py").exists()


def test_next_commands_do_not_offer_what_was_just_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report is there, and the evaluation of this model on this corpus is what the run ended with."""
    (tmp_path / "my runs" / "a").mkdir(parents=True)
    (tmp_path / "my runs" / "a" / "report.html").touch()
    said = "\n".join(next_of_a_run(tmp_path, monkeypatch))
    assert "scripts.report" not in said
    assert "scripts.evaluate" not in said
    assert "scripts.transcribe" in said


def test_next_commands_call_the_python_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reference: the shell. Of an environment that is not active the path is told, of an active one `python`."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "tensorboard"):
        (programs / name).write_text("#!/bin/sh\necho this one\n")
        (programs / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    for path, prefix in ((os.environ["PATH"], ".venv/bin/"), (f"{programs}{os.pathsep}{os.environ['PATH']}", "")):
        monkeypatch.setenv("PATH", path)
        commands = next_of_a_run(tmp_path, monkeypatch)
        assert commands[0] == f"{prefix}tensorboard --logdir 'my runs'"
        assert commands[1].startswith(f"{prefix}python -m ")
        for command in commands:
            assert subprocess.run(command, shell=True, capture_output=True, text=True).stdout == "this one\n"


def test_without_a_file_of_audio_its_place_is_kept() -> None:
    assert next_commands(PRESETS["manifest"](), "train, row 3")[-3].endswith(" FILE")


def test_a_side_of_a_call_is_transcribed_as_the_model_has_heard_it(tmp_path: Path) -> None:
    (tmp_path / "call.wav").touch()
    transcribe = next_commands(PRESETS["manifest"](), str(tmp_path / "call.wav"), 1)[-3]
    assert transcribe.endswith("call.wav --channel 2")


def test_the_doctor_is_not_offered_for_a_corpus_that_no_command_can_open() -> None:
    """scripts.doctor refuses a data set that a Python program handed over."""
    config = replace(PRESETS["manifest"](), corpus=GivenConfig())
    assert not any("scripts.doctor" in command for command in next_commands(config, "train, row 3"))


def test_a_run_with_findings_names_the_command_that_says_them_again(capsys: pytest.CaptureFixture[str]) -> None:
    config = PRESETS["manifest"]()
    for findings in ([], ["learning rate too high (likely): ..."]):
        conclude(config, "FILE", findings, Console(sys.stdout))
        said = capsys.readouterr().out
        assert said.endswith(f"scripts.verify_run {config.run_dir}\n")
        assert (f"-m scripts.diagnose {config.run_dir}\n" in said) == bool(findings)
