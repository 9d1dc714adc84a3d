"""How the project is installed: in a checkout that one works in, and in no other way.

pytest tests/test_install.py
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT


def build(folder: Path, hook: str) -> subprocess.CompletedProcess[str]:
    """What pip asks of the build backend: `hook` is build_wheel for a plain install, build_editable for --editable."""
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for package in ("trainer", "data", "models", "scripts"):
        (folder / package).mkdir()
        (folder / package / "__init__.py").touch()
    code = f"import setuptools.build_meta as backend; print(backend.{hook}('out'))"
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)


def test_a_plain_install_is_refused_with_what_to_type_instead(tmp_path: Path) -> None:
    done = build(tmp_path, "build_wheel")
    assert done.returncode != 0
    assert "make venv" in done.stderr
    assert not list(tmp_path.rglob("*.whl"))


def test_an_editable_install_is_built(tmp_path: Path) -> None:
    done = build(tmp_path, "build_editable")
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.rglob("*.whl"))) == 1


def test_every_room_is_a_package() -> None:
    """A folder of modules without __init__.py would be left out of an install, without a word."""
    folders = {path.parent for name in ("trainer", "data", "models", "scripts") for path in (ROOT / name).rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_make_leaves_what_lies_beside_a_checkout_whose_name_has_a_space(tmp_path: Path) -> None:
    """The report that `make test-reliability` removes at its start is named by the checkout's whole path."""
    beside, checkout = tmp_path / "my", tmp_path / "my checkout"
    beside.write_text("a file of the user's")
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$RELIABILITY_REPORT|$*" >>calls\n')
    python.chmod(0o755)
    for name in ("Makefile", "setup.cfg", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, checkout)
    (checkout / ".venv" / ".ready").touch()
    done = subprocess.run(["make", "test-reliability"], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert beside.exists()
    report = checkout / "build" / "reliability.jsonl"
    calls = (checkout / "calls").read_text().splitlines()
    assert len([call for call in calls if call.startswith(f"{report}|-m pytest")]) == 2
    assert [call for call in calls if call.endswith(f"reliability_summary {report}")]
