"""Who may import whom (docs/architecture.md), read from the source and checked in a fresh interpreter.

pytest tests/test_imports.py
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

PACKAGES = ("data", "models", "trainer", "scripts")
FILES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
EVERY_FILE = pytest.mark.parametrize("path", FILES, ids=str)

ALLOWED = {
    "data": {"data"},
    "models": {"models"},
    "trainer": {"data", "models", "trainer"},
    "scripts": {"data", "models", "trainer", "scripts"},
}
ROOMS = ("errors", "hub_reach", "device", "parallel", "config", "cli", "scoring", "loop", "rundir", "decoding", "signs",
         "prepare", "diagnosis", "recognize", "align", "recognizer", "report", "doctor", "overview", "card",
         "publishing", "closing", "evaluating", "session", "seeds", "run")  # fmt: skip
"""The rooms of trainer/ in the order in which they build on one another: each imports from itself and from those
before it."""
TRAINER_FILES = [path for path in FILES if path.parts[0] == "trainer" and len(path.parts) > 1]
COMMANDS = {path for path in FILES if re.search(r"^def main\(", (ROOT / path).read_text(encoding="utf-8"), re.M)}
"""They parse the command line first, and say what to do where a package is missing."""
# What commands use before they import anything else, or what needs heavy packages in one case of many
MAY_IMPORT_LATE = {"data/corpora/hub/__init__.py", "data/corpora/shards/__init__.py", "trainer/cli/parse.py",
                   "trainer/recognize/subtitles.py", "trainer/report/curves.py", "models/checkpoints/lora.py",
                   "trainer/loop/optim.py", *map(str, COMMANDS)}  # fmt: skip
LATE = {"matplotlib", "datasets", "gradio", "onnx", "onnxruntime", "peft", "bitsandbytes"}
"""Slow to import, and not needed before the first step of a run: never at the head of a module that every run loads."""


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
    """data and models import none of ours but the errors and how the hub is asked, trainer imports both, scripts all,
    nobody else scripts."""
    modules = {module for module, _ in imported(parse(path))} - {"trainer.errors", "trainer.hub_reach"}
    ours = {module.split(".")[0] for module in modules} & set(PACKAGES)
    assert ours <= ALLOWED[path.parts[0]]


def room(module: str) -> int:
    """Where in ROOMS the room of `trainer.ROOM` or `trainer.ROOM.file` stands."""
    return ROOMS.index(module.split(".")[1])


@pytest.mark.parametrize("path", TRAINER_FILES, ids=str)
def test_a_room_imports_from_itself_and_from_those_before_it(path: Path) -> None:
    if path.name == "__init__.py":
        assert list(imported(parse(path))) == []  # a room is loaded file by file
        return
    own = room(".".join(path.with_suffix("").parts))
    modules = {m if n == "" or m != "trainer" else f"trainer.{n}" for m, n in imported(parse(path))}
    later = sorted(m for m in modules if m.startswith("trainer.") and room(m) > own)
    assert later == []


TEST_FILES = sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py"))


@pytest.mark.parametrize("path", TEST_FILES, ids=str)
def test_what_tests_share_lies_in_helpers(path: Path) -> None:
    """No test module and no conftest.py is imported, by tests or by helpers."""
    modules = {m for m, _ in imported(parse(path))}
    assert [m for m in modules if m.startswith("tests") and not m.startswith("tests.helpers.")] == []


@EVERY_FILE
def test_nobody_imports_trainer_run(path: Path) -> None:
    names = {f"{module}.{name}" for module, name in imported(parse(path))}
    assert not any(name.startswith("trainer.run.") for name in names), names


def is_for_types(node: ast.If) -> bool:
    """Whether the block is `if TYPE_CHECKING:`."""
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@EVERY_FILE
def test_imports_stand_at_the_top(path: Path) -> None:
    """What a module needs is seen in its first lines; only the command lines load heavy parts later."""
    if path.as_posix() in MAY_IMPORT_LATE:
        return
    tree = parse(path)
    blocks = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.If) and is_for_types(node))]
    at_top = [node for block in blocks for node in block if isinstance(node, ast.Import | ast.ImportFrom)]
    everywhere = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [node.lineno for node in everywhere if node not in at_top] == []


@EVERY_FILE
def test_datasets_is_imported_in_data_only(path: Path) -> None:
    modules = {module.split(".")[0] for module, _ in imported(parse(path))}
    # but for the rival that benchmarks run: it is written as its own users write it, on `datasets`
    assert "datasets" not in modules or path.parts[0] == "data" or path.name == "hf_trainer.py"


LIGHT = [
    "data.config",
    "data.corpora",
    "data.utterance",
    "models.config",
    "trainer.cli.parse",
    "trainer.config.as_json",
    "trainer.config.presets",
    "trainer.config.schema",
    "trainer.errors",
    "trainer.recognize.formats",
    "trainer.run",
]


def test_no_run_waits_for_a_package_that_it_does_not_need_yet() -> None:
    """Whoever does need it is in a module of its own, or imports it when it is called."""
    own = {"data/corpora/hub/corpus.py", "data/corpora/hub/loading.py", "data/corpora/hub/audio.py",
           "data/corpora/hub/streaming.py", "data/corpora/hub/fields.py",
           "trainer/recognize/page.py", "trainer/recognize/onnx_check.py",
           "models/checkpoints/onnx_graph.py"}  # fmt: skip
    heads = {
        (
            str(path),
            alias.name.partition(".")[0] if isinstance(node, ast.Import) else str(node.module).partition(".")[0],
        )
        for path in FILES
        if path.parts[0] != "scripts"
        for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert {(path, name) for path, name in heads if name in LATE and path not in own} == set()
    assert any(name in LATE for _, name in heads), "the search finds none at all"


@pytest.mark.parametrize("module", LIGHT)
def test_module_needs_neither_torch_nor_transformers(module: str) -> None:
    """Checked on what is really loaded, whoever asked for it."""
    code = f"import sys, {module}; print([m for m in ('torch', 'transformers', 'datasets') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
