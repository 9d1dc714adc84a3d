"""The clock of a run's phases: every second counts once, from the start of the process to the last line.

pytest tests/trainer/cli/test_clock.py
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import trainer.closing
import trainer.publishing
from tests.helpers.paths import ROOT
from tests.helpers.resumed import options, run, run_stopped
from tests.helpers.runs import write_noise_corpus
from trainer.cli import clock as module
from trainer.cli.clock import FIRST_LINE, PHASES, Clock, process_start
from trainer.cli.console import Console
from trainer.closing import tell_time
from trainer.run import main


class Hands:
    """A time that a test sets."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    hands = Hands()
    monkeypatch.setattr(module, "time", hands)
    return hands


def passed(clock: Clock) -> dict[str, float]:
    """The phases that took time."""
    return {phase: seconds for phase, seconds in clock.seconds().items() if seconds}


def test_a_phase_within_another_counts_for_itself_alone(hands: Hands) -> None:
    clock = Clock()
    hands.now += 1
    with clock.phase("training"):
        hands.now += 2
        with clock.phase("evaluations"):
            hands.now += 4
            with clock.phase("saves"):
                hands.now += 8
        with clock.phase("saves"):
            hands.now += 16
        hands.now += 32
    hands.now += 64
    assert passed(clock) == {"training": 34.0, "evaluations": 4.0, "saves": 24.0, "other": 65.0}
    hands.now += 128
    assert sum(clock.seconds().values()) == 255.0
    assert tuple(clock.seconds()) == PHASES


def test_a_phase_ends_with_an_error_and_the_one_around_it_goes_on(hands: Hands) -> None:
    clock = Clock(began=90.0, phase="start")

    def fails() -> None:
        with clock.phase("report"):
            hands.now += 1
            raise ValueError("in between")

    with pytest.raises(ValueError, match="in between"):
        fails()
    hands.now += 2
    assert passed(clock) == {"start": 12.0, "report": 1.0}


def test_seconds_are_read_in_the_middle_of_a_phase(hands: Hands) -> None:
    clock = Clock()
    with clock.phase("training"):
        hands.now += 3
        assert passed(clock) == {"training": 3.0}
        hands.now += 3
    assert passed(clock) == {"training": 6.0}


TELLS_ITS_START = """
import sys, time
{first}
sys.path.insert(0, sys.argv[1])
from trainer.cli.clock import process_start
print(process_start())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells it")
@pytest.mark.parametrize("name", ["python", "a) 1 2 (b"])
def test_a_process_knows_when_it_was_started(name: str) -> None:
    """Against this process' clock around the start; Linux counts in hundredths. A name may look like more fields."""
    first = f"open('/proc/self/comm', 'w').write({name!r}); time.sleep(0.1)"
    before = time.perf_counter()  # CLOCK_MONOTONIC, the same for all processes
    with subprocess.Popen(
        [sys.executable, "-S", "-c", TELLS_ITS_START.format(first=first), str(ROOT)], stdout=subprocess.PIPE, text=True
    ) as process:
        after = time.perf_counter()
        told = float(process.communicate()[0])
    assert before - 0.02 <= told <= after + 0.02


@pytest.mark.parametrize("stat", [None, "", "12 (python) S 1", "7 (x) " + "S " * 40, "7 (x) S " + "99999999999 " * 40])
def test_a_start_that_the_system_does_not_tell_is_the_first_line(
    stat: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No such file, not enough fields, no number, a moment that is still to come."""

    def opened(*args: object, **kwargs: object) -> io.StringIO:
        if stat is None:
            raise FileNotFoundError
        return io.StringIO(stat)

    monkeypatch.setattr(module, "open", opened, raising=False)
    assert process_start() == FIRST_LINE


def texts(run_dir: Path) -> dict[str, list[tuple[int, str]]]:
    """TensorBoard's texts through its own reader: tag -> (step, text)."""
    events = EventAccumulator(str(run_dir), size_guidance={"tensors": 0}).Reload()
    return {
        tag: [(e.step, e.tensor_proto.string_val[0].decode(errors="replace")) for e in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
    }


@pytest.mark.usefixtures("one_thread")
def test_a_resumed_run_tells_where_the_time_of_its_last_process_went(
    run_inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped in step 5 and resumed: in results.json, on the terminal and in TensorBoard, with one sum."""
    run_stopped(tmp_path, run_inputs, 5, monkeypatch)
    stopped = capsys.readouterr().err.splitlines()
    assert any(line.startswith("time: ") for line in stopped)
    begin = time.perf_counter()
    assert main(options(tmp_path, run_inputs, "--resume")) == 0
    seconds = time.perf_counter() - begin
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["clock_from_step"] == 5
    clock = results["clock"]
    assert tuple(clock) == PHASES
    whole = sum(clock.values())
    assert whole == pytest.approx(seconds, rel=0.02, abs=0.05)
    assert all(clock[phase] > 0 for phase in ("corpus", "model", "estimate", "training", "evaluations", "saves",
                                              "closing_evaluation", "export", "card", "other"))  # fmt: skip
    assert clock["start"] == 0, "main was called: this process had begun before"
    assert clock["closing_evaluation"] >= 0.9 * results["splits"]["eval"]["eval_seconds"]
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("time")]
    assert line.startswith("time since step 5: ")
    assert float(line.split(": ")[1].split(" s")[0]) == pytest.approx(whole, abs=0.3)
    ((step, table),) = texts(tmp_path / "run")["trained/clock/text_summary"]
    rows = {row.split(" | ")[0].strip("| "): row.split(" | ") for row in table.splitlines()}
    assert step == 10
    assert float(rows["sum"][1]) == pytest.approx(whole, abs=0.3)
    assert float(rows["closing evaluation"][1]) == pytest.approx(clock["closing_evaluation"], abs=0.06)


@pytest.mark.usefixtures("one_thread")
def test_the_report_counts_though_results_stand_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_inputs: Path
) -> None:
    """The report is slow here. The first results.json has the clock without it."""
    found = []

    def slow_report(run_dir: Path, *args: object) -> None:
        found.append(json.loads((run_dir / "results.json").read_text()))
        time.sleep(0.3)

    monkeypatch.setattr(trainer.publishing, "report_or_warn", slow_report)
    run_dir = run(tmp_path, run_inputs, "--train.max-steps", "3", "--report")
    results = json.loads((run_dir / "results.json").read_text())
    (first,) = found
    assert first.pop("clock")["report"] == 0
    assert 0.3 <= results.pop("clock")["report"] < 0.6
    assert first == results


def test_a_disk_that_refuses_the_last_seconds_costs_only_these(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second writing of results.json fails: a warning, no error, and the first one stays."""

    def refused(*args: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "results.json").write_text("as it was")
    runlog = Mock(console=Console(), first_step=0)
    monkeypatch.setattr(trainer.closing, "write_json", refused)
    tell_time(tmp_path, {"steps": 3}, runlog, 3)
    said = capsys.readouterr().err
    assert "results.json: its clock stops before the report (No space left on device)" in said
    assert "\ntime: 0.0 s, of which all else 0.0\n" in said
    assert (tmp_path / "results.json").read_text() == "as it was"
    runlog.close.assert_called_once_with()


@pytest.mark.slow  # the whole command in a process of its own
def test_the_clock_of_the_command_is_the_wall_time_of_its_process(tmp_path: Path) -> None:
    """Against the time measured from outside, within 2 %; 0.25 s more for the interpreter's end, which comes later."""
    inputs = write_noise_corpus(tmp_path, num_train=8, num_eval=6)
    command = [
        sys.executable, "-m", "trainer.run", "manifest", *inputs, "--batching.batch-size", "4", "--train.epochs", "20",
        "--train.eval-every", "10", "--device", "cpu", "--runs-dir", str(tmp_path / "runs"), "--name", "run",
        "--cache-dir", str(tmp_path / "cache"),
    ]  # fmt: skip
    begin = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    assert done.returncode == 0, done.stderr
    clock = json.loads((tmp_path / "runs" / "run" / "results.json").read_text())["clock"]
    assert -0.02 <= seconds - sum(clock.values()) <= 0.02 * seconds + 0.25
    assert clock["imports"] > 1
    assert {phase for phase in PHASES if clock[phase] == 0} <= {"upload"}
    assert clock["other"] < 0.2 * seconds
