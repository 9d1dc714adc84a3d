"""What every command of scripts/ answers to a wrong command line: one line, exit code 2.

pytest tests/scripts/test_arguments.py
"""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT

COMMANDS = sorted(
    ".".join(path.relative_to(ROOT / "scripts").with_suffix("").parts)
    for path in (ROOT / "scripts").rglob("*.py")
    if "def main(" in path.read_text()
)
LIGHT = ["evaluate", "export", "export_onnx", "report", "serve", "transcribe"]
"""For users: they say what is wrong before torch is imported."""


def answer(command: str, argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert importlib.import_module(f"scripts.{command}").main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_every_command_is_looked_at() -> None:
    assert len(COMMANDS) >= 14
    assert set(LIGHT) < set(COMMANDS)


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


@pytest.mark.parametrize("command", LIGHT)
def test_wrong_command_line_needs_no_torch(command: str) -> None:
    code = (
        f"import sys, scripts.{command} as command\n"
        "assert command.main(['--no-such']) == 2\n"
        "sys.exit(bool({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("command", "argv", "words"),
    [
        ("bench.benchmark", ["tiny", "--manifest", "none/a.jsonl", "none/b.jsonl"], "none/a.jsonl: no such file"),
        ("bench.benchmark", ["tiny", "--weights", "none"], "none/config.json: no such file"),
        ("bench.benchmark", ["tiny", "--rounds", "0"], "--rounds: 0: give a whole number of 1 or more"),
        ("bench.levers", ["--size", "huge"], "invalid choice: 'huge'"),
        ("bench.scaling", ["--steps", "-1"], "--steps: -1: give a whole number"),
        ("bench.gpu_check", ["--device", "quantum"], "--device quantum"),
        ("report", ["a", "b", "c"], "a/results.json: not readable"),
        ("report", [*"abcdefghi"], "9 runs: at most 8 can be read side by side"),
        ("report", ["a", "--meda", "all"], "Did you mean --media?"),
        ("evaluate", [], "no MODEL"),
        ("evaluate", ["model", "demoo"], "Did you mean demo?"),
        ("verify_run", [], "required: runs/NAME"),
        ("checks.reliability_summary", ["none.jsonl"], "none.jsonl: No such file"),
    ],
)
def test_value_that_cannot_be_is_one_line(
    command: str, argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in answer(command, argv, capsys)
