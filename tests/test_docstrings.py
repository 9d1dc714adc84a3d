"""The examples in docstrings say what the code does: each `>>>` is run.

pytest tests/test_docstrings.py
"""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in ("data", "models", "trainer", "scripts")
    for path in (ROOT / package).rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


def test_there_are_examples() -> None:
    assert len(MODULES) > 50


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # an example may write files
    done = doctest.testmod(importlib.import_module(name.removesuffix(".__init__")))
    assert done.attempted > 0
    assert done.failed == 0
