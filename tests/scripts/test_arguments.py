"""What every command of scripts/ answers to a wrong command line: one line, exit code 2.

pytest tests/scripts/test_arguments.py
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

COMMANDS = sorted(
    ".".join(path.relative_to(ROOT / "scripts").with_suffix("").parts)
    for path in (ROOT / "scripts").rglob("*.py")
    if "def main(" in path.read_text()
)
WITHOUT_PACKAGES = """
import importlib, os, sys

class Missing:
    "Finds no module but the standard library's and ours."
    def find_spec(self, name, path=None, target=None):
        root = name.partition(".")[0]
        if root not in {*sys.stdlib_module_names, "data", "models", "scripts", "trainer"} and not root.startswith("_"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
for command in sys.argv[1].split(","):
    module, *argv = command.split()
    try:
        code = importlib.import_module(module).main(argv)
    except SystemExit as end:
        code = end.code
    print("exit code of", command, code, flush=True)
"""
"""Calls commands in a Python that has no packages."""


def answer(command: str, argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert importlib.import_module(f"scripts.{command}").main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_every_command_is_looked_at() -> None:
    assert len(COMMANDS) >= 16


@pytest.mark.parametrize("command", COMMANDS)
def test_unknown_option_is_one_line_that_tells_of_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = answer(command, ["--no-such"], capsys)
    assert said.startswith("error: ")
    assert f"python -m scripts.{command}" in said
    assert "--help" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_shown(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where a docstring holds what argparse would format, such as a per cent sign."""
    with pytest.raises(SystemExit) as end:
        importlib.import_module(f"scripts.{command}").main(["--help"])
    assert end.value.code == 0
    assert f"python -m scripts.{command}" in capsys.readouterr().out


def call_without_packages(*commands: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_PACKAGES, ",".join(commands)], cwd=ROOT, capture_output=True, text=True
    )


def test_help_and_wrong_options_need_no_package() -> None:
    """So they come at once, too: importing torch alone takes seconds."""
    called = [command for command in COMMANDS if not command.startswith("bench.gpu.")]  # those gpu_check starts
    commands = [f"scripts.{command} {option}" for command in called for option in ("--help", "--no-such")]
    done = call_without_packages(*commands)
    ends = re.findall(r"^exit code of (\S+) (\S+) (\d+)$", done.stdout, re.M)
    assert len(ends) == len(commands), done.stderr
    assert [end for end in ends if end[2] != ("0" if end[1] == "--help" else "2")] == []


def test_missing_package_is_one_line_that_says_where_it_is(tmp_path: Path) -> None:
    """As `python3 -m trainer.run` outside of the environment has it."""
    calls = ["trainer.run demo", f"scripts.verify_run {tmp_path}", "scripts.transcribe runs/a a.wav",
             "scripts.evaluate runs/a", "scripts.report runs/a", "scripts.serve runs/a"]  # fmt: skip
    (tmp_path / "config.json").touch()
    done = call_without_packages(*calls)
    assert [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("exit code")] == ["2"] * len(calls)
    assert done.stderr.count("\n") == len(calls)
    for line in done.stderr.splitlines():
        assert re.match(rf"error: {re.escape(sys.executable)} has no package \w+\. Run: ", line), line
        assert "make venv" in line or "source " in line


@pytest.mark.parametrize(
    ("command", "argv", "words"),
    [
        ("bench.benchmark", ["tiny", "--manifest", "none/a.jsonl", "none/b.jsonl"], "none/a.jsonl: no such file"),
        ("bench.benchmark", ["tiny", "--weights", "none"], "none/config.json: no such file"),
        ("bench.benchmark", ["tiny", "--rounds", "0"], "--rounds: 0: give a whole number of 1 or more"),
        ("bench.memory", ["--seconds", "0"], "--seconds: 0: give seconds, more than 0"),
        ("bench.memory", ["--seconds", "nan"], "--seconds: nan: give seconds, more than 0"),
        ("bench.memory", ["--batch-size", "-1"], "--batch-size: -1: give a whole number of 1 or more"),
        ("bench.save_cost", ["--seconds", "x"], "--seconds: x: give seconds, more than 0"),
        ("bench.against.hf_side", [], "required: SPEC"),
        ("bench.against.hf_side", ["{"], "SPEC: not JSON"),
        ("bench.against.hf_side", ["[]"], "SPEC: not a JSON object"),
        ("bench.against.hf_side", ['{"tuned": true}'], "SPEC: lacks batch_size, device,"),
        ("bench.levers", ["--size", "huge"], "invalid choice: 'huge'"),
        ("bench.scale.scaling", ["--steps", "-1"], "--steps: -1: give a whole number"),
        ("bench.levers", ["--only", "table,compiled"], "'compiled' is none of front-end, "),
        ("bench.gpu_check", ["--device", "quantum"], "--device quantum"),
        ("bench.gpu_check", ["--only", "tests,steps"], "Did you mean step?"),
        ("bench.gpu_check", ["--only", ""], "'' is none of tests, levers, step, "),
        ("bench.gpu_check", ["--options", "--name 'a"], "No closing quotation"),
        ("report", ["a", "b", "c"], "3 runs: python -m scripts.compare a b c"),
        ("compare", ["a", "b", "c"], "a/results.json: not readable"),
        ("compare", [*"abcdefghi"], "9 runs: give 2 to 8 to compare"),
        ("compare", ["a", "a"], "a is given twice"),
        ("report", ["a", "--meda", "all"], "Did you mean --media?"),
        (
            "transcribe",
            ["model", "-a.wav"],
            "required: FILE_OR_FOLDER. A name that begins with a dash is written with its folder: ./-a.wav.",
        ),
        ("evaluate", [], "no MODEL"),
        ("evaluate", ["model", "demoo"], "Did you mean demo?"),
        ("evaluate", ["model", "manifest"], "Preset manifest needs --corpus.eval MANIFEST."),
        ("verify_run", [], "required: runs/NAME"),
        ("checks.reliability_summary", ["none.jsonl"], "none.jsonl: No such file"),
    ],
)
def test_value_that_cannot_be_is_one_line(
    command: str, argv: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-a.wav").touch()
    assert words in answer(command, argv, capsys)
