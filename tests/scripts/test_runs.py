"""`python -m scripts.runs` as it is typed: table, page, JSON, watching, exit codes.

pytest tests/scripts/test_runs.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts import runs as command
from tests.helpers.overview import write_finished
from trainer.errors import INTERRUPTED


def test_best_run_stands_on_top_unless_another_order_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, wer in (("a", 0.3), ("b", 0.1), ("c", 0.2)):
        write_finished(tmp_path / name, wer=wer)

    def shown(*options: str) -> list[str]:
        assert command.main([str(tmp_path), *options]) == 0
        return [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:4]]

    assert shown() == ["b", "c", "a"]
    assert shown("--sort", "name") == ["a", "b", "c"]


def test_json_is_one_object_a_line_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_finished(tmp_path / "a")
    write_finished(tmp_path / "b")
    assert command.main([str(tmp_path), "--json", "--html", str(tmp_path / "index.html")]) == 0
    out, err = capsys.readouterr()
    assert [json.loads(line)["name"] for line in out.splitlines()] == ["a", "b"]
    assert "index.html: 2 runs" in err
    assert (tmp_path / "index.html").exists()


def test_folder_without_runs_is_no_error_and_a_missing_one_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == "no runs\n"
    assert command.main([str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_verify_exits_with_1_where_something_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_finished(tmp_path / "a")
    assert command.main([str(tmp_path), "--verify"]) == 0
    (run / "checkpoints" / "step-00000040" / "model.safetensors").write_bytes(b"weighte")
    assert command.main([str(tmp_path)]) == 0
    assert command.main([str(tmp_path), "--verify"]) == 1
    assert "SHA-256 differs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--watch", "--verify"], "Give one of them"),
        (["--project", "x"], "--track, which is not given"),
        (["--watch", "0"], "more than 0"),
        (["--html", "/nowhere/index.html"], "/nowhere"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([str(tmp_path), *options]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1


def test_watching_shows_a_run_that_comes_and_leaves_a_page_that_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, pages = tmp_path / "index.html", []

    def next_look(seconds: float) -> None:
        """What happens between two looks: the first run comes; after the second look the user has seen enough."""
        assert seconds == 3.0
        pages.append(data(page))
        if len(pages) == 2:
            raise KeyboardInterrupt
        write_finished(tmp_path / "a")

    monkeypatch.setattr(command.time, "sleep", next_look)
    assert command.main([str(tmp_path), "--html", str(page), "--watch", "3"]) == INTERRUPTED
    assert [(len(shown["runs"]), shown["next"]) for shown in pages] == [(0, 3.0), (1, 3.0)]
    assert data(page)["next"] is None
    assert "1 run: 1 finished" in capsys.readouterr().out


def data(page: Path) -> Any:
    text = page.read_text(encoding="utf-8")
    return json.loads(text.partition('id="data">')[2].partition("</script>")[0])
