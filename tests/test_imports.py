"""Who may import whom (design.md section 2), read from the source and checked in a fresh interpreter.

pytest tests/test_imports.py
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("data", "models", "trainer", "scripts")
FILES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
EVERY_FILE = pytest.mark.parametrize("path", FILES, ids=str)

ALLOWED = {
    "data": {"data"},
    "models": {"models"},
    "trainer": {"data", "models", "trainer"},
    "scripts": {"data", "models", "trainer", "scripts"},
}
# They parse the command line first, or need heavy packages in one case of many: these take seconds
MAY_IMPORT_LATE = {"data/corpora/__init__.py", "trainer/run.py", "scripts/evaluate.py", "scripts/gpu_check.py",
                  "scripts/golden_curve.py", "scripts/transcribe.py", "scripts/serve.py",
                  "scripts/export_onnx.py", "scripts/report.py"}  # fmt: skip


def imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(Module, name taken from it or "") of every import statement below `tree`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import, which this test would not follow"
            yield from ((node.module or "", alias.name) for alias in node.names)


def parse(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def test_there_is_something_to_check() -> None:
    assert {path.parts[0] for path in FILES} == set(PACKAGES)
    assert len(FILES) > 25


@EVERY_FILE
def test_imports_run_one_way(path: Path) -> None:
    """data and models import none of ours, trainer imports both, scripts import all, nobody else imports scripts."""
    ours = {module.split(".")[0] for module, _ in imported(parse(path))} & set(PACKAGES)
    assert ours <= ALLOWED[path.parts[0]]


@EVERY_FILE
def test_nobody_imports_trainer_run(path: Path) -> None:
    names = {f"{module}.{name}" for module, name in imported(parse(path))}
    assert not any(name.startswith("trainer.run.") for name in names), names


@EVERY_FILE
def test_imports_stand_at_the_top(path: Path) -> None:
    """What a module needs is seen in its first lines; only the command lines load heavy parts later."""
    if path.as_posix() in MAY_IMPORT_LATE:
        return
    tree = parse(path)
    at_top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    everywhere = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [node.lineno for node in everywhere if node not in at_top] == []


@EVERY_FILE
def test_datasets_is_imported_in_data_only(path: Path) -> None:
    modules = {module.split(".")[0] for module, _ in imported(parse(path))}
    # but for the rival that benchmarks run: it is written as its own users write it, on `datasets`
    assert "datasets" not in modules or path.parts[0] == "data" or path.name == "hf_side.py"


LIGHT = ["data.config", "models.config", "trainer.config", "trainer.config_json", "trainer.presets", "trainer.cli",
         "trainer.run", "data.utterance"]  # fmt: skip


@pytest.mark.parametrize("module", LIGHT)
def test_module_needs_neither_torch_nor_transformers(module: str) -> None:
    """Checked on what is really loaded, whoever asked for it."""
    code = f"import sys, {module}; print([m for m in ('torch', 'transformers', 'datasets') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
