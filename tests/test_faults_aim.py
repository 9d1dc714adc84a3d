"""Faults that tests inject are aimed at functions by file and name. Most of these tests run only on request, so that a
function which moves would leave them behind unnoticed.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

AIM = re.compile(r'"((?:trainer|data|models)/[\w/]+\.py):([\w.]+)"')
AIMS = sorted({aim for path in (ROOT / "tests").rglob("*.py") for aim in AIM.findall(path.read_text(encoding="utf-8"))})


def test_there_are_aims() -> None:
    assert len(AIMS) > 3


@pytest.mark.parametrize(("file", "function"), AIMS, ids=map(":".join, AIMS))
def test_function_that_a_fault_is_aimed_at_is_there(file: str, function: str) -> None:
    tree = ast.parse(Path(ROOT / file).read_text(encoding="utf-8"))
    assert function.rpartition(".")[2] in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
