"""docs/notebook.ipynb in a real Jupyter kernel, whose streams, signals and main thread are not those of a terminal.

pytest -m slow tests/test_notebook.py
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

nbformat = pytest.importorskip("nbformat", reason='not installed: pip install --editable ".[dev]"')

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def test_notebook_is_a_valid_one_without_outputs() -> None:
    """Outputs of somebody's machine would be read as part of it, and changed by every run."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert [t for t in re.findall(r"\]\(([^)#:]+)\)", text) if not (NOTEBOOK.parent / t).exists()] == []


@pytest.mark.slow
def test_notebook_goes_from_recordings_to_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model learns: of 90 held-out words it gets most right. Random guesses of ten words would get 9 right."""
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    results = json.loads((tmp_path / "runs" / "first" / "results.json").read_text())
    assert results["num_reference_words"] == 90
    assert results["wer"] < 0.6
    assert (tmp_path / "runs" / "first" / "report.html").stat().st_size > 100_000
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert f"WER {100 * results['wer']:.1f} %, 95 % interval" in printed
    assert "done: " in printed
    assert re.search(r"^ *\d\.\d\d s  \w+ +confidence [01]\.\d\d$", printed, re.M)
    assert not re.search(r"^Traceback|\x1b\[", printed, re.M)
