"""The documentation against the code: diffs apply, options exist, links lead somewhere.

pytest tests/test_docs.py
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from trainer.cli.help import options
from trainer.config.presets import PRESETS

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DIFFS = re.findall(r"^## (.+?)$.+?```diff\n(.+?)```", (ROOT / "docs" / "change-the-loop.md").read_text(), re.M | re.S)


def test_there_are_five_changes_to_the_loop() -> None:
    assert len(DIFFS) == 5


@pytest.mark.parametrize(("title", "diff"), DIFFS, ids=[title for title, _ in DIFFS])
def test_each_change_to_the_loop_applies_to_the_code_as_it_is(title: str, diff: str) -> None:
    done = subprocess.run(["git", "apply", "--check"], input=diff, text=True, cwd=ROOT, capture_output=True)
    assert done.returncode == 0, f"{title}: {done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_that_a_page_names_exist(page: Path) -> None:
    known = {name for make in PRESETS.values() for option in options(make()) for name in option.names}
    named = set(re.findall(r"--[a-z]+\.[a-z-]+[a-z]", page.read_text()))
    assert named <= known


def test_options_beside_the_hugging_face_examples_flags_exist() -> None:
    """In the table's second column, those without a group too."""
    known = {name for make in PRESETS.values() for option in options(make()) for name in option.names}
    rows = re.findall(r"^\| `--[^|]*\|([^|]*)\|", (ROOT / "docs" / "from-hf-example.md").read_text(), re.M)
    assert len(rows) > 25
    assert {name for row in rows for name in re.findall(r"--[a-z][a-z.-]*", row)} <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_table_rows_have_as_many_cells_as_their_heading(page: Path) -> None:
    heading = 0
    for line in page.read_text().splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not (heading and cells) or cells == heading, line
        heading = cells
