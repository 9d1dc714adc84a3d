"""The part `tests` notes each result when it is known.

pytest tests/scripts/bench/gpu/test_tests.py
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

from scripts.bench.gpu.tests import TESTS as FOLDER
from tests.helpers.paths import ROOT

CODE = """
import sys
from argparse import Namespace
from pathlib import Path
from scripts.bench.gpu.tests import run_tests
folder = Path(sys.argv[1])
sys.exit(run_tests(Namespace(out=folder / "tests.json", scratch=folder), folder))
"""
TESTS = """
import os, pytest

@pytest.mark.slow
@pytest.mark.gpu
def test_end(): os._exit(7)

@pytest.mark.gpu
def test_well(): pass

@pytest.mark.gpu
def test_wrong(): assert 1 == 2, "planted"

@pytest.mark.gpu
@pytest.mark.skipif(True, reason="two GPUs")
def test_skipped(): pass

def test_of_another_kind(): raise SystemError

@pytest.mark.gpu
def test_broken(no_such_fixture): pass

"""


def test_each_result_is_written_at_once(tmp_path: Path) -> None:
    """The slow test ends the process: it comes last, and nothing can be written after it."""
    (tmp_path / "test_planted.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu: needs CUDA\n    slow: takes long\n")
    done = subprocess.run([sys.executable, "-c", CODE, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 7, done.stdout + done.stderr
    found = json.loads((tmp_path / "tests.json").read_text())
    outcomes = {name.partition("::")[2]: test["outcome"] for name, test in found["tests"].items()}
    assert outcomes == {
        "test_well": "passed", "test_wrong": "failed", "test_skipped": "skipped", "test_broken": "failed",
        "test_end": "not finished",
    }  # fmt: skip
    reasons = " ".join(test.get("why", "") for test in found["tests"].values())
    assert all(word in reasons for word in ("planted", "two GPUs", "no_such_fixture"))
    assert found["headline"]["failed"] == 2
    assert [name.partition("::")[2] for name in found["headline"]["not finished"]] == ["test_end"]


def test_every_test_marked_gpu_lies_where_the_part_looks() -> None:
    marked = {
        path.relative_to(ROOT)
        for path in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr == "gpu" and ast.unparse(node.value).endswith("mark"))
        or (isinstance(node, ast.alias) and node.name == "ON_CUDA")
    }
    files = {path.relative_to(ROOT) for path in FOLDER.glob("test_*.py")}
    assert len(files) >= 5
    assert marked == files | {Path("tests/helpers/gpu.py")}


def test_a_folder_without_such_a_test_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text("def test_of_another_kind(): pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu: needs CUDA\n")
    done = subprocess.run([sys.executable, "-c", CODE, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "no test here is marked gpu" in done.stderr
