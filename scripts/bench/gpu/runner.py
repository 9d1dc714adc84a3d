"""Run parts one after the other, each in a process of its own that has a share of the time left.

A part that outlives its share is killed with all processes that it started; one that crashes ends by itself. Both leave
what they had found until then, and the next part begins.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from scripts.bench.gpu.record import write_json
from trainer.errors import WRONG_INPUT, ConfigError

MOST_LINES = 400
"""Lines of a part's output that its JSON keeps, from the end."""
LEAST_SECONDS = 2.0
"""A part that would get less is not begun."""


@dataclass(frozen=True)
class Part:
    """One thing to find out."""

    name: str
    seconds: float
    """Its share of the time, in seconds where the default parts run within the default budget."""
    about: str
    is_vital: bool = False
    """Whether its exit code 2, for a wrong option or a device that is not there, ends gpu_check."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that hold unless the user has set them."""
    command: tuple[str, ...] = ()
    """Arguments for Python; the module of the same name in this package where it is empty."""

    def argv(self, arguments: Sequence[str], out: Path, scratch: Path) -> list[str]:
        """The command line that writes `out`."""
        own = self.command or ("-m", f"scripts.bench.gpu.{self.name}", *arguments)
        return [sys.executable, *own, "--out", str(out), "--scratch", str(scratch)]


def share(parts: Sequence[Part], seconds_left: float) -> float:
    """The seconds that the first of `parts` may take: those left are shared in proportion to what each part is given.

    >>> share([Part("a", 10, ""), Part("b", 30, "")], 80)
    20.0
    """
    return seconds_left * parts[0].seconds / sum(part.seconds for part in parts)


def run_part(
    part: Part, limit: float, out: Path, arguments: Sequence[str], environment: Mapping[str, str], scratch: Path,
    say: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """What became of `part`; `out` holds it too, with all that the part found and the end of its output."""
    begin = time.perf_counter()
    lines: deque[str] = deque(maxlen=MOST_LINES)
    out.unlink(missing_ok=True)
    # a group, not a session: whoever ends this process' session ends the part too
    with tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as own:
        process = subprocess.Popen(
            part.argv(arguments, out, Path(own)), env={**part.environment, **os.environ, **environment},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0, text=True, encoding="utf-8",
            errors="replace",
        )  # fmt: skip
        assert process.stdout is not None
        reader = threading.Thread(target=_copy_lines, args=(process.stdout, lines, say), daemon=True)
        reader.start()
        try:
            code = process.wait(timeout=limit)
            outcome = {0: "done"}.get(code, f"failed with {f'signal {-code}' if code < 0 else f'exit code {code}'}")
        except subprocess.TimeoutExpired:
            outcome = f"stopped after its {limit:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):  # also what a part leaves behind
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        reader.join(timeout=5)  # a process that left the group may still hold the pipe
    result = {"part": part.name, "outcome": outcome, "seconds": round(time.perf_counter() - begin, 2),
              "limit_seconds": round(limit, 1)}  # fmt: skip
    found = read_found(out)
    write_json(out, {**result, "found": found, "output": list(lines)})
    out.with_name(f".{out.name}.partial").unlink(missing_ok=True)  # if it was killed while it wrote
    return {**result, "headline": found.get("headline", {})}


def _copy_lines(stream: IO[str], lines: deque[str], say: Callable[[str], None]) -> None:
    for line in stream:
        lines.append(line.rstrip("\n"))
        say(lines[-1])


def read_found(out: Path) -> dict[str, Any]:
    """What a part has written until now; nothing if it did not come so far."""
    try:
        return dict(json.loads(out.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def run_parts(
    parts: Sequence[Part], folder: Path, budget: float, arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None, say: Callable[[str], None] = print,
) -> dict[str, Any]:  # fmt: skip
    """Run all `parts` within `budget` seconds. Returns the summary, which is also rewritten after each part.

    `folder` gets summary.json, and NAME.json for each part that is not vital. ConfigError if a vital part says that
    nothing can run here.
    """
    begin = time.perf_counter()
    summary: dict[str, Any] = {"budget_seconds": budget, "seconds": 0.0, "parts": {}}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gpu_check-", ignore_cleanup_errors=True) as scratch:
        for i, part in enumerate(parts):
            limit = share(parts[i:], budget - (time.perf_counter() - begin))
            if limit < LEAST_SECONDS:
                summary["parts"][part.name] = {"part": part.name, "outcome": "not begun: no time was left"}
            else:
                say(f"--- {part.name}: up to {limit:.0f} s")
                # what comes first is part of the summary: few files are easier to carry away
                out = (Path(scratch) if part.is_vital else folder) / f"{part.name}.json"
                result = run_part(part, limit, out, arguments, environment or {}, Path(scratch), say)
                summary["parts"][part.name] = {**result, **(read_found(out) if part.is_vital else {})}
            outcome = summary["parts"][part.name]["outcome"]
            say(f"--- {part.name}: {outcome}")
            summary["seconds"] = round(time.perf_counter() - begin, 2)
            write_json(folder / "summary.json", summary)
            if part.is_vital and outcome == f"failed with exit code {WRONG_INPUT}":
                raise ConfigError("no part can run here, for the reason given above.")
    return summary
