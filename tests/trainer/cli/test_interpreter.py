"""What is said of the Python that runs (trainer.cli.interpreter): how to call it, and how to come to a better one.

pytest tests/trainer/cli/test_interpreter.py
"""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from trainer.cli import interpreter, parse
from trainer.cli.interpreter import describe_missing, python_command
from trainer.cli.parse import report_errors


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty checkout, which is the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(interpreter, "ROOT", tmp_path)
    return tmp_path


def add_environment(checkout: Path) -> Path:
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch(mode=0o755)
    return python


def remedy(package: str, extra: str = "") -> str:
    """What is said to run, without what it says of an environment of the user's own."""
    return describe_missing(package, extra).partition("Run: ")[2].partition(" (in an")[0]


def test_without_an_environment_it_is_to_be_made(checkout: Path) -> None:
    assert remedy("torch") == "make venv && source .venv/bin/activate"
    assert f"{sys.executable} has no package torch." in describe_missing("torch")


def test_environment_that_is_there_is_to_be_activated(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_environment(checkout)
    assert remedy("torch") == "source .venv/bin/activate"
    (checkout / "runs").mkdir()
    monkeypatch.chdir(checkout / "runs")
    assert remedy("torch") == f"source {checkout}/.venv/bin/activate"


def test_environment_that_lacks_a_package_is_brought_up_to_date(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a pull that added one to setup.cfg."""
    add_environment(checkout)
    monkeypatch.setattr(sys, "prefix", str(checkout / ".venv"))
    assert remedy("torch") == "make venv"


def test_extra_is_named_for_an_environment_of_ones_own(checkout: Path) -> None:
    assert describe_missing("gradio", "serve").endswith(
        '(in an environment of your own: pip install --editable ".[serve]").'
    )


def test_python_is_called_by_its_name_where_the_shell_finds_it_there(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reference: PATH. Another python before it means that the path must be given."""
    python = add_environment(checkout)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("PATH", str(python.parent))
    assert python_command() == "python"
    monkeypatch.setenv("PATH", os.devnull)
    assert python_command() == ".venv/bin/python"
    other = checkout / "other" / "python"
    other.parent.mkdir()
    other.touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{other.parent}{os.pathsep}{python.parent}")
    assert python_command() == ".venv/bin/python"
    python.with_name("python3").touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(python.with_name("python3")))
    assert python_command() == "python3"


def test_path_with_a_space_is_a_word_of_the_shell(
    tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "my envs" / "python"))
    assert python_command() == "'my envs/python'"


def test_python_that_is_too_old_is_one_line(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(parse, "OLDEST_PYTHON", (99, 1))
    assert report_errors(lambda: 0) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        f"error: {sys.executable} is Python {sys.version.split()[0]}; 3.11 or newer is needed. Run: "
    )
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "module",
    ["trainer/run.py", "trainer/errors.py", *(f"trainer/cli/{m}.py" for m in ("parse", "interpreter", "streams"))],
)
def test_what_is_loaded_before_that_can_be_read_by_an_old_python(module: str) -> None:
    """3.8's grammar: no match statement, no parentheses around several contexts."""
    ast.parse((ROOT / module).read_text(encoding="utf-8"), feature_version=(3, 8))


def test_missing_module_of_this_project_keeps_its_traceback() -> None:
    """That is an error of ours, which no environment mends."""

    def forgotten() -> int:
        raise ModuleNotFoundError("No module named 'trainer.nowhere'", name="trainer.nowhere")

    with pytest.raises(ModuleNotFoundError):
        report_errors(forgotten)
