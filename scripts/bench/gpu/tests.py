"""Run the tests below tests/gpu, and note the result of each as soon as it is known."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from scripts.bench.gpu.record import Record, parse_part
from trainer.cli.parse import report_errors
from trainer.errors import ConfigError

TESTS = Path(__file__).parents[3] / "tests" / "gpu"
MOST_CHARACTERS = 4000
"""Of a failure's text, from its end."""


class Results:
    """A pytest plugin that records each test: its outcome, its seconds with setup and teardown, and why it failed."""

    def __init__(self, record: Record) -> None:
        self.record, self.tests = record, dict[str, dict[str, Any]]()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """What takes longest comes last, for the time may not suffice for it."""
        items.sort(key=lambda item: item.get_closest_marker("slow") is not None)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Called before a test: should it never end, its name is there."""
        self.tests[nodeid.removeprefix("tests/")] = {"outcome": "not finished", "seconds": 0.0}
        self._add()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called after setup, call and teardown of each test; the worst outcome counts."""
        test = self.tests[report.nodeid.removeprefix("tests/")]
        test["seconds"] = round(test["seconds"] + report.duration, 2)
        if report.outcome != "passed":
            test |= {"outcome": report.outcome, "why": report.longreprtext[-MOST_CHARACTERS:]}
        elif report.when == "call":
            test["outcome"] = "passed"
        self._add()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be read is a failure too."""
        if report.failed:
            self.tests[report.nodeid] = {"outcome": "failed", "why": report.longreprtext[-MOST_CHARACTERS:]}
            self._add()

    def _add(self) -> None:
        counts = dict(Counter(test["outcome"] for test in self.tests.values()))
        seconds = round(sum(test.get("seconds", 0.0) for test in self.tests.values()), 1)
        found = {**counts, "seconds": seconds, "failures": self._names("failed")}
        if begun := self._names("not finished"):  # the one that runs now; or, in a part that was stopped, that hung
            found["not finished"] = begun
        self.record.add(headline=found, tests=self.tests)

    def _names(self, outcome: str) -> list[str]:
        return [name for name, test in self.tests.items() if test["outcome"] == outcome]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 all passed, 1 a test failed, 2 an option is wrong."""
    return report_errors(lambda: run_tests(parse_part(argv, "tests", __doc__ or "")))


def run_tests(options: Namespace, folder: Path = TESTS) -> int:
    """Run the tests below `folder` that are marked gpu. That there is none is a failure."""
    arguments = ["-m", "gpu", "-v", "-n0", "-p", "no:cacheprovider", "--durations=10", "--basetemp"]
    arguments += [str(options.scratch / "pytest"), str(folder)]
    status = pytest.main(arguments, plugins=[Results(Record(options.out))])
    if status == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise ConfigError(f"{folder}: no test here is marked gpu.")
    return int(status != 0)


if __name__ == "__main__":
    sys.exit(main())
