"""The parts of gpu_check run one by one within their time, and one that hangs or crashes costs only itself.

pytest tests/scripts/bench/gpu/test_runner.py
"""

from __future__ import annotations

import doctest
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from scripts.bench.gpu import runner
from scripts.bench.gpu.runner import Part, run_parts, share
from trainer.errors import ConfigError

WRITE = (
    "import json, sys; out = sys.argv[sys.argv.index('--out') + 1]; "
    "json.dump({'headline': {'x': 1}, 'kept': 'yes'}, open(out, 'w')); "
)


def planted(name: str, code: str, seconds: float = 5.0, *, is_vital: bool = False) -> Part:
    return Part(name, seconds, "", is_vital=is_vital, command=("-S", "-c", WRITE + code))


def run(folder: Path, *parts: Part, budget: float = 20.0) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """(Outcome of each part, its file's content, what was said)."""
    said: list[str] = []
    summary = run_parts(parts, folder, budget, say=said.append)
    assert json.loads((folder / "summary.json").read_text()) == summary
    files = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json") if path.stem != "summary"}
    return {name: part["outcome"] for name, part in summary["parts"].items()}, files, said


def test_docstring_examples_hold() -> None:
    assert doctest.testmod(runner).failed == 0


def test_a_part_that_hangs_is_killed_with_its_children_and_keeps_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "LEAST_SECONDS", 0.1)
    child = tmp_path / "child"
    hang = planted(
        "hang",
        "import subprocess, time; print('before', flush=True); "
        f"p = subprocess.Popen(['sleep', '60']); open({str(child)!r}, 'w').write(str(p.pid)); time.sleep(60)",
        seconds=0.1,
    )
    begin = time.perf_counter()
    outcomes, files, said = run(tmp_path / "out", hang, planted("next", "print('after')", 0.9), budget=10.0)
    assert time.perf_counter() - begin < 6.0
    assert outcomes == {"hang": "stopped after its 1 s", "next": "done"}
    assert files["hang"]["found"]["kept"] == "yes"
    assert files["hang"]["output"] == ["before"]
    assert {"before", "after"} < set(said)
    assert is_gone(int(child.read_text()))


def is_gone(pid: int) -> bool:
    """Whether the process ends within 5 s; one that nobody has waited for counts as ended."""
    deadline, stat = time.monotonic() + 5, Path(f"/proc/{pid}/stat")
    while time.monotonic() < deadline:
        try:
            if stat.read_text().rpartition(") ")[2].startswith("Z"):
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.01)
    return False


def test_a_part_that_crashes_leaves_its_file_and_the_next_one_runs(tmp_path: Path) -> None:
    outcomes, files, _ = run(
        tmp_path,
        planted("raises", "raise SystemError('planted')"),
        planted("dies", "import os; os.kill(os.getpid(), 11)"),
        planted("well", ""),
    )
    assert outcomes == {
        "raises": "failed with exit code 1", "dies": "failed with signal 11", "well": "done",
    }  # fmt: skip
    assert "SystemError: planted" in files["raises"]["output"]
    assert files["dies"]["found"] == files["well"]["found"] == {"headline": {"x": 1}, "kept": "yes"}


def test_a_part_that_writes_nothing_or_no_json_has_found_nothing(tmp_path: Path) -> None:
    silent = Part("silent", 5, "", command=("-S", "-c", ""))
    broken = Part("broken", 5, "", command=("-S", "-c", "import sys; open(sys.argv[2], 'w').write('{')"))
    outcomes, files, _ = run(tmp_path, silent, broken)
    assert outcomes == {"silent": "done", "broken": "done"}
    assert files["silent"]["found"] == files["broken"]["found"] == {}


def test_a_result_of_an_earlier_call_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    run(tmp_path, planted("part", ""))
    _, files, _ = run(tmp_path, Part("part", 5, "", command=("-S", "-c", "")))
    assert files["part"]["found"] == {}


def test_the_time_left_is_shared_in_proportion(tmp_path: Path) -> None:
    """By hand: 100 s for 70 + 30; and what the first did not need is there for the second."""
    parts = [Part("a", 70, ""), Part("b", 30, "")]
    assert share(parts, 100) == 70
    assert share(parts[1:], 95) == 95
    _, files, _ = run(tmp_path, planted("a", "", 10), planted("b", "", 10))
    assert files["a"]["limit_seconds"] == 10
    assert 15 < files["b"]["limit_seconds"] <= 20


def test_parts_that_get_no_time_are_not_begun_and_say_so(tmp_path: Path) -> None:
    outcomes, files, _ = run(tmp_path, planted("a", "", 1), planted("b", "", 1), budget=1.0)
    assert set(outcomes.values()) == {"not begun: no time was left"}
    assert files == {}


def test_the_first_part_can_end_all_and_stands_in_the_summary(tmp_path: Path) -> None:
    vital = planted("prepare", "print('error: no such device'); sys.exit(2)", is_vital=True)
    with pytest.raises(ConfigError, match="no part can run here"):
        run_parts([vital, planted("next", "")], tmp_path, 20, say=lambda line: None)
    assert os.listdir(tmp_path) == ["summary.json"]
    prepare = json.loads((tmp_path / "summary.json").read_text())["parts"]["prepare"]
    assert (prepare["outcome"], prepare["found"]["kept"]) == ("failed with exit code 2", "yes")
    _, files, _ = run(tmp_path, planted("prepare", "sys.exit(1)", is_vital=True), planted("next", ""))
    assert set(files) == {"next"}, "another failure of it costs only itself"
