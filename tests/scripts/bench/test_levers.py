"""Levers are measured one by one, and one that fails costs only itself.

pytest tests/scripts/bench/test_levers.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.bench import lever_work
from scripts.bench.lever_work import LEVERS, Lever
from scripts.bench.levers import TITLES, main

SMALL = ["--size", "tiny", "--rounds", "1", "--batch-size", "2", "--seconds", "0.5"]


def test_every_title_is_a_levers() -> None:
    assert list(TITLES) == list(LEVERS)


def test_a_lever_that_fails_is_recorded_and_the_next_one_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is written when the second begins holds the first; "table" needs another model than "mask" does."""
    out, seen = tmp_path / "levers.json", list[dict[str, Any]]()

    def broken(parts: Any, batch: Any) -> Any:
        seen.append(json.loads(out.read_text()))
        raise RuntimeError("planted")

    monkeypatch.setitem(lever_work.LEVERS, "turns", Lever(broken, broken))
    assert main(["--only", "mask,table,turns", *SMALL, "--out", str(out)]) == 1
    assert [list(some) for some in seen] == [["mask"]]
    found = json.loads(out.read_text())
    assert list(found) == ["mask", "turns", "table"]
    assert found["turns"]["failed"] == "RuntimeError: planted"
    for name in ("mask", "table"):
        assert found[name]["ratio"] == found[name]["before_ms"][0] / found[name]["after_ms"][0]
    assert "failed: RuntimeError: planted" in capsys.readouterr().out
