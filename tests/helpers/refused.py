"""What the tests of refused input share: a tally for the summary, an alarm, the command line.

A plugin of tests/conftest.py, so that its fixtures can be used by name. The tally goes as one
JSON line per test into the file that the environment variable RELIABILITY_REPORT names.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trainer.config.presets import PRESETS
from trainer.run import main

EARLIER = ("decoding ", "warning: ", *(f"{preset} -> " for preset in PRESETS), "  reads ", " " * 13)
"""How the lines begin that may stand before an error; the last is a line of the first screen that goes on."""
ONE_STEP = ["--train.epochs", "1", "--train.max-steps", "1", "--optim.warmup-steps", "0"]


@dataclass
class Tally:
    """Bad (or odd) inputs of one test: each was refused, or accepted with the right content, or accepted wrongly."""

    test: str
    tried: int = 0
    refused: int = 0
    accepted: int = 0

    @property
    def accepted_wrongly(self) -> int:
        """What is neither refused nor known to be right: also where the test failed half-way."""
        return self.tried - self.refused - self.accepted

    @contextmanager
    def refuses(self, error: type[Exception], match: str) -> Iterator[pytest.ExceptionInfo]:
        """pytest.raises, counted; and the message is one line."""
        self.tried += 1
        with pytest.raises(error, match=match) as caught:
            yield caught
        assert "\n" not in str(caught.value)
        self.refused += 1

    @contextmanager
    def accepts(self) -> Iterator[None]:
        """Odd input with a defined meaning, which the block checks."""
        self.tried += 1
        yield
        self.accepted += 1

    def write(self) -> None:
        """Append the line, if a report is wanted and there is something to tell."""
        if self.tried and (path := os.environ.get("RELIABILITY_REPORT")):
            line = {"kind": "bad-input", "test": self.test, "tried": self.tried, "refused": self.refused,
                    "accepted": self.accepted, "accepted_wrongly": self.accepted_wrongly}  # fmt: skip
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """The test's own tally, written at its end."""
    counts = Tally(request.node.nodeid)
    yield counts
    counts.write()


class Hangs(BaseException):
    """No Exception, lest the code under test take it for an error of a file (TimeoutError is an OSError)."""


@pytest.fixture
def deadline() -> Iterator[Callable[[int], object]]:
    """deadline(5): Hangs is raised in 5 seconds, unless another deadline is set by then; 0 is none."""

    def ring(number: int, frame: object) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, ring)
    yield signal.alarm
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def no_hang(deadline: Callable[[int], object]) -> Iterator[None]:
    """The test fails after 30 seconds. After 90 the whole session ends: a thread that waits for a FIFO hears no
    alarm, and its pool waits for it."""
    deadline(30)
    faulthandler.dump_traceback_later(90, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """runs/ and cache/ go to the test's folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def refused(tally: Tally, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """refused(argv) -> the one error line of a command: exit code 2, no traceback, no folder of a run.

    Before it stand what the run is about to read, warnings, and that audio is being decoded, or nothing.
    """

    def refused(*argv: str) -> str:
        tally.tried += 1
        had_runs = Path("runs").exists()
        assert main(argv) == 2
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        *before, last = err.splitlines()
        assert [line for line in before if not line.startswith(EARLIER)] == []
        assert last.startswith("error: ")
        assert len(last) < 700
        assert last.endswith((".", "?"))
        assert Path("runs").exists() == had_runs, "a run that never began leaves no folder"
        tally.refused += 1
        return last.removeprefix("error: ")

    return refused


@pytest.fixture
def trained(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, dict[str, Any]]]:
    """trained(argv) -> (stderr, results.json) of a run of one step that must succeed."""

    def trained(*argv: str) -> tuple[str, dict[str, Any]]:
        assert main([*argv, *ONE_STEP, "--name", "run"]) == 0
        return capsys.readouterr().err, json.loads(Path("runs/run/results.json").read_text())

    return trained
