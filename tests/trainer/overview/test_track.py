"""Curves in trackio's own store, a SQLite file, read back with sqlite3 and with trackio.

pytest tests/trainer/overview/test_track.py
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.overview import records, write_config, write_finished, write_metrics
from trainer.errors import ConfigError
from trainer.overview.find import find_runs

pytest.importorskip("trackio", reason="needs trackio: make venv")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store of trackio, which reads its place once, at its import."""
    from trackio import sqlite_storage

    from trainer.overview import track

    for module in (sqlite_storage, track):
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "store")
    return tmp_path / "store"


def track(folder: Path, project: str = "speech") -> list[str]:
    from trainer.overview.track import track as write

    return write(find_runs([folder])[0], project)


def rows(store: Path, run: str, project: str = "speech") -> list[tuple[int, dict[str, Any]]]:
    """(Step, figures) of a run as the file has them, in the order in which they were written."""
    with closing(sqlite3.connect(store / f"{project}.db")) as connection:
        found = connection.execute("SELECT step, metrics FROM metrics WHERE run_name = ? ORDER BY id", (run,))
        return [(step, json.loads(metrics)) for step, metrics in found]


def figures(logged: list[dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    return [(r["step"], {key: value for key, value in r.items() if key != "step"}) for r in logged]


def test_every_record_is_in_the_store_with_its_step_and_the_run_with_its_options(tmp_path: Path, store: Path) -> None:
    write_finished(tmp_path / "runs" / "a", lr=5e-4)
    write_finished(tmp_path / "runs" / "group" / "b")
    (line,) = track(tmp_path / "runs")
    assert line.startswith("trackio: 12 new records in project speech")
    assert rows(store, "a") == figures(records(40, wer=0.125))

    import trackio

    by_name = {run.name: run for run in trackio.Api().runs("speech")}
    assert set(by_name) == {"a", "group/b"}
    config = by_name["a"].config
    assert config is not None
    assert config["optim.lr"] == "0.0005"


def test_store_follows_a_run_that_goes_on_and_is_the_same_after_a_second_look(tmp_path: Path, store: Path) -> None:
    run = tmp_path / "runs" / "a"
    write_config(run)
    for steps, new in ((20, 3), (20, 0), (40, 3)):
        write_metrics(run, records(steps))
        assert track(tmp_path / "runs")[0].startswith(f"trackio: {new} new records")
        assert rows(store, "a") == figures(records(steps))


def test_steps_that_a_resume_takes_again_are_told_once(tmp_path: Path, store: Path) -> None:
    run = tmp_path / "runs" / "a"
    write_config(run)
    write_metrics(run, records(60))
    track(tmp_path / "runs")
    again = [*records(40), {"step": 50, "epoch": 0.5, "train/loss": 9.0}]
    write_metrics(run, again)
    told = track(tmp_path / "runs")
    assert rows(store, "a") == figures(again)
    assert told[1:] == ["trackio: a was written anew: its records changed"]


def test_figures_that_are_not_finite_are_left_out(tmp_path: Path, store: Path) -> None:
    run = tmp_path / "runs" / "a"
    write_config(run)
    write_metrics(run, [{"step": 10, "train/loss": None, "train/lr": 0.5}])
    track(tmp_path / "runs")
    assert rows(store, "a") == [(10, {"train/lr": 0.5})]
    assert track(tmp_path / "runs")[0].startswith("trackio: 0 new records")


def test_run_of_another_program_or_folder_is_not_replaced(tmp_path: Path, store: Path) -> None:
    from trackio.sqlite_storage import SQLiteStorage

    SQLiteStorage.bulk_log("speech", "a", [{"loss": 1.0}], steps=[1])
    write_finished(tmp_path / "runs" / "a")
    with pytest.raises(ConfigError, match=r"project speech has a run a that is not .*Name another --project"):
        track(tmp_path / "runs")
    assert rows(store, "a") == [(1, {"loss": 1.0})]
    track(tmp_path / "runs", "other")
    assert rows(store, "a", "other") == figures(records(40, wer=0.125))


def test_store_that_cannot_be_written_is_told_in_one_line(tmp_path: Path, store: Path) -> None:
    write_finished(tmp_path / "runs" / "a")
    store.write_text("a file where the folder belongs")
    with pytest.raises(ConfigError, match=r"trackio's store .* cannot take the runs"):
        track(tmp_path / "runs")


def test_nothing_is_fetched_from_the_hub(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DATASET_ID", "someone/curves")
    write_finished(tmp_path / "runs" / "a")
    with pytest.raises(ConfigError, match="TRACKIO_DATASET_ID is set"):
        track(tmp_path / "runs")
    assert not store.exists()
