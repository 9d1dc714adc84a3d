"""Where a run's time goes: every second from the start of the process is counted for exactly one phase.

    clock = Clock.of_process()
    with clock.phase("training"):
        ...
        with clock.phase("evaluations"):  # these seconds do not count for training
            ...
    clock.seconds()  # {"start": 0.04, "imports": 3.2, ...}; their sum is the age of the process

The clock reads the time and nothing else: it never waits for a device. A phase ends when the program has ended it, even
if a GPU still works on what it was given.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, get_args

FIRST_LINE = time.perf_counter()
"""When this module was loaded, which `trainer.run` does before it loads any other of ours."""

Phase = Literal[
    "start", "imports", "corpus", "decoding", "model", "plan", "estimate", "table", "training", "evaluations", "saves",
    "closing_evaluation", "export", "card", "report", "upload", "other",
]  # fmt: skip
"""In the order in which a run comes to them; docs/run-folder.md says what each covers."""
PHASES: tuple[Phase, ...] = get_args(Phase)
SMALL = 0.01
"""Phases below this share of the whole are told together."""


class Clock:
    """The seconds of each phase. Only one thread may change the phase: the one that runs the run."""

    def __init__(self, began: float | None = None, phase: Phase = "other") -> None:
        """Counts for `phase` from `began`, a reading of time.perf_counter; from now on unless it is given."""
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._phase: Phase = phase
        self._mark = time.perf_counter() if began is None else began

    @classmethod
    def of_process(cls) -> Clock:
        """A clock that began with this process. It is in the phase "other" now; all before is "start" and "imports"."""
        clock = cls(process_start(), "start")
        clock._turn("imports", FIRST_LINE)
        clock._turn("other", time.perf_counter())
        return clock

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Count what happens within this context for `phase`, and for no phase around it."""
        around = self._phase
        self._turn(phase, time.perf_counter())
        try:
            yield
        finally:
            self._turn(around, time.perf_counter())

    def seconds(self) -> dict[Phase, float]:
        """Phase -> seconds so far, every phase in its order. The sum is the time since the clock began."""
        self._turn(self._phase, time.perf_counter())
        return dict(self._seconds)

    def _turn(self, phase: Phase, now: float) -> None:
        self._seconds[self._phase] += now - self._mark
        self._phase, self._mark = phase, now


def process_start() -> float:
    """When this process began, as a reading of time.perf_counter. Linux tells it to a hundredth of a second.

    Where the system does not tell it, FIRST_LINE. A shell that became this process (`exec python ...`, or the last
    command of `sh -c`) is the same process: what it did before counts too.
    """
    try:
        with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()  # the name before it may hold spaces and parentheses
        since_boot = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # proc(5): the 22nd field, the third is fields[0]
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot  # both count the time that the machine slept
    except (OSError, ValueError, IndexError, AttributeError):
        return FIRST_LINE
    began = time.perf_counter() - age
    return began if began <= FIRST_LINE else FIRST_LINE  # a sandbox may count from another moment


def describe(seconds: Mapping[Phase, float]) -> str:
    """The whole, then each phase in seconds, the longest first; those below a hundredth of the whole together.

    >>> describe({"start": 0.1, "training": 90.0, "closing_evaluation": 10.0, "other": 0.2})
    '100.3 s, of which training 90.0, closing evaluation 10.0, all else 0.3'
    >>> describe({"training": 9000.0, "report": 120.4})
    '9,120 s, of which training 9,000, report 120, all else 0'
    """
    whole = sum(seconds.values())
    digits = 1 if whole < 1000 else 0
    shown = {p: s for p, s in seconds.items() if p != "other" and s >= SMALL * whole}
    parts = [f"{name(p)} {shown[p]:,.{digits}f}" for p in sorted(shown, key=lambda p: -shown[p])]
    rest = f"all else {whole - sum(shown.values()):.{digits}f}"
    return f"{whole:,.{digits}f} s, of which {', '.join([*parts, rest])}"


def name(phase: Phase) -> str:
    """A phase's name for a person."""
    return phase.replace("_", " ")
