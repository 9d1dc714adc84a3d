"""How the project is installed: in a checkout that one works in, and in no other way.

pytest tests/test_install.py
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

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
