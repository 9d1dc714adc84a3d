"""What lies in a run's folder, read without torch, so that a command which only looks answers at once."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any


def checkpoints(run_dir: Path) -> list[tuple[int, Path]]:
    """(step, folder) of every checkpoint, oldest first. Their order is that of steps, never of the clock."""
    found = []
    for folder in (run_dir / "checkpoints").glob("step-*"):
        if match := re.fullmatch(r"step-(\d{8,})", folder.name):
            found.append((int(match[1]), folder))
    return sorted(found)


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of metrics.jsonl; a last line cut off by a crash is left out."""
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            break
        if not isinstance(record, dict) or not isinstance(record.get("step"), int):
            break
        records.append(record)
    return records
