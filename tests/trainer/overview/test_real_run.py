"""A real run, looked at while it trains and after its end.

pytest -m slow tests/trainer/overview/test_real_run.py
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.runs import train_on_noise
from trainer.overview.find import find_runs
from trainer.overview.run import Run
from trainer.rundir.logs.log import RunLog

pytestmark = pytest.mark.slow


def test_run_is_seen_running_with_its_last_step_and_then_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Run] = []
    flush = RunLog.flush

    def look_too(self: RunLog) -> None:
        flush(self)
        seen.extend(find_runs([tmp_path / "runs"])[0])

    monkeypatch.setattr(RunLog, "flush", look_too)
    train_on_noise(tmp_path, "--train.save-every", "2", "--no-report")
    assert [run.status for run in seen] == ["running"] * len(seen)
    assert (seen[0].step, seen[0].total_steps) == (2, 4)
    assert seen[0].rate is not None
    (run,) = find_runs([tmp_path / "runs"], is_verified=True)[0]
    assert (run.name, run.status, run.note, run.step) == ("tiny noise", "finished", "", 4)
    assert run.rate is not None
    assert run.rate.interval is not None
    assert run.audio_seconds is not None
    assert run.audio_seconds > 0
