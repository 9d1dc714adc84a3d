"""The files of a run's folder as an overview reads them: what is wrong with one is noted, and the rest is read.

Checkpoints are hashed only if asked for: a table of all runs must not read hundreds of gigabytes.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data import strict_json
from trainer.config.as_json import flatten, read_config
from trainer.config.schema import Config
from trainer.errors import ConfigError, DamagedError
from trainer.rundir.disk import MANIFEST, read_manifest, verify
from trainer.rundir.lock import is_held
from trainer.rundir.reading import checkpoints, read_records


@dataclass(frozen=True)
class Files:
    """What the files of a run say. A file that is not there is None or empty, and so is one that cannot be read."""

    path: Path
    holds_lock: bool
    """Whether a process holds the run's lock."""
    options: Mapping[str, str] | None
    """Name -> value of every option, from config.json."""
    records: Sequence[Mapping[str, Any]]
    """Of metrics.jsonl."""
    results: Mapping[str, Any]
    saved: int | None
    """The step of the newest checkpoint whose files are all there."""
    state: Mapping[str, Any]
    """What that checkpoint says of the run's progress."""
    aside: Sequence[str]
    """Checkpoints that a resume has put aside because they were damaged."""
    damage: Sequence[str]
    """What is not as it was written, a clause each."""


def read_files(path: Path, *, is_verified: bool = False) -> Files:
    """The files of the folder `path`. With `is_verified` every file of its checkpoints is hashed as well."""
    holds_lock, damage = is_held(path), list[str]()
    options = _options(path, damage) if (path / "config.json").exists() else None
    records = _records(path, damage, is_written=holds_lock)
    results = _results(path, damage)
    saved, state = _newest_checkpoint(path, damage, is_verified=is_verified)
    if is_verified and (path / "checkpoints" / "best").is_dir():
        with _noting(path, damage):
            verify(path / "checkpoints" / "best")
    aside = sorted(folder.name for folder in path.glob("checkpoints/step-*.damaged"))
    return Files(path, holds_lock, options, records, results, saved, state, aside, damage)


@contextlib.contextmanager
def _noting(run_dir: Path, damage: list[str]) -> Iterator[None]:
    """Add to `damage` what is found wrong, with the path as seen from the run's folder."""
    try:
        yield
    except (DamagedError, ConfigError, OSError) as error:
        said = str(error) if not isinstance(error, OSError) else f"{error.filename}: {error.strerror or error}"
        said = said.removesuffix(" Start another run with --name.").removesuffix(".")
        damage.append(said.replace(f"{run_dir}/", ""))


def _options(run_dir: Path, damage: list[str]) -> dict[str, str] | None:
    with _noting(run_dir, damage):
        return options_of(read_config(run_dir / "config.json", lenient=True))
    return None


def options_of(config: Config) -> dict[str, str]:
    """Name -> value of every option as text; `none` for an empty one."""
    flat = {"preset": config.preset, **flatten(config)}
    return {name: (" ".join(map(str, v)) if isinstance(v, tuple) else str(v)) or "none" for name, v in flat.items()}


def _records(run_dir: Path, damage: list[str], *, is_written: bool) -> list[dict[str, Any]]:
    """The records of metrics.jsonl; a line that cannot be read is damage, unless it is the last one, cut off."""
    path = run_dir / "metrics.jsonl"
    if not path.exists():
        return []
    with _noting(run_dir, damage):
        records = read_records(path)
        whole = path.read_bytes().count(b"\n")
        if len(records) < whole and not is_written:  # while a run goes on, lines come between the two looks
            damage.append(f"metrics.jsonl:{len(records) + 1}: not a record; {whole - len(records)} lines are not shown")
        return records
    return []


def _results(run_dir: Path, damage: list[str]) -> dict[str, Any]:
    path = run_dir / "results.json"
    if not path.exists():
        return {}
    with _noting(run_dir, damage):
        try:
            results = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise DamagedError(f"{path}: not readable ({error})") from None
        if not isinstance(results, dict) or not isinstance(results.get("splits", {}), dict):
            raise DamagedError(f"{path}: not the results of a run")
        return results
    return {}


def _newest_checkpoint(run_dir: Path, damage: list[str], *, is_verified: bool) -> tuple[int | None, Mapping[str, Any]]:
    """(step, state) of the newest checkpoint whose files are all there; those before it are looked at if asked for."""
    newest: tuple[int | None, Mapping[str, Any]] = None, {}
    for step, folder in reversed(checkpoints(run_dir)):
        with _noting(run_dir, damage):
            (verify if is_verified else look_at_sizes)(folder)
            state = _state(folder)
            if newest[0] is None:
                newest = step, state
        if newest[0] is not None and not is_verified:
            break
    return newest


def look_at_sizes(folder: Path) -> None:
    """DamagedError unless every file that the manifest names is there with its size. What is in them is not read."""
    for name, entry in read_manifest(folder).items():
        path = folder / name
        try:
            found = path.stat().st_size
        except OSError as error:
            raise DamagedError(f"{path}: {error.strerror or error}") from None
        if found != entry["size"]:
            raise DamagedError(f"{path}: {found} bytes, {entry['size']} were written")
    if not (folder / "state.json").is_file():
        raise DamagedError(f"{folder / MANIFEST}: names no state.json")


def _state(folder: Path) -> Mapping[str, Any]:
    path = folder / "state.json"
    try:
        state = strict_json.loads(path.read_text(encoding="utf-8"))["state"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedError(f"{path}: not readable ({type(error).__name__})") from None
    if not isinstance(state, dict):
        raise DamagedError(f"{path}: not the state of a run")
    return state


def begun(run_dir: Path) -> float | None:
    """TensorBoard's files have the time in their names, which a copy keeps; else the time of config.json."""
    stamps = [
        int(match[1])
        for path in run_dir.glob("events.out.tfevents.*")
        if (match := re.match(r"events\.out\.tfevents\.(\d{9,11})\.", path.name))
    ]
    return float(min(stamps)) if stamps else changed(run_dir, ("config.json", "lock"))


def changed(run_dir: Path, names: Sequence[str] = ("metrics.jsonl", "results.json", "config.json")) -> float | None:
    times = list[float]()
    for name in names:
        with contextlib.suppress(OSError):
            times.append((run_dir / name).stat().st_mtime)
    return max(times, default=None)
