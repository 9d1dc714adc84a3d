"""What a run's folder tells about it: status, progress, error rate, time. It is read, never written.

Checkpoints are hashed only if asked for: a table of all runs must not read hundreds of gigabytes. A folder may hold a
run of an older version, one that is being written, or a damaged one. What cannot be read is told in the run's note, and
the rest is read all the same.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from data import strict_json
from trainer.config.as_json import flatten, read_config
from trainer.config.schema import Config
from trainer.errors import ConfigError, DamagedError
from trainer.rundir.disk import MANIFEST, read_manifest, verify
from trainer.rundir.lock import is_held
from trainer.rundir.reading import checkpoints, read_records

Status = Literal["running", "finished", "scored", "resumable", "stopped", "damaged"]
MEANING: dict[Status, str] = {
    "running": "a process holds the run's lock",
    "finished": "training and the closing evaluation are done",
    "scored": "a model was evaluated here, and nothing trained",
    "resumable": "no process works on it, and --resume goes on from a checkpoint",
    "stopped": "no process works on it, and there is no checkpoint: --resume begins at step 0",
    "damaged": "a file is not as it was written; the note says which, and what is left",
}
MAIN_RATES = ("wer", "per")
"""The rates that a run may be judged by, the first one that its records have."""


@dataclass(frozen=True)
class Rate:
    """An error rate, as a fraction, and where it comes from."""

    name: str
    value: float
    split: str = ""
    """The split of a closing evaluation; empty for an evaluation during training."""
    interval: tuple[float, float] | None = None
    over: str = ""
    """What the interval's bootstrap draws: `24 speakers`."""
    step: int | None = None


@dataclass(frozen=True)
class Run:
    """One run as an overview shows it. A figure that is not known is None."""

    path: Path
    name: str
    status: Status
    note: str = ""
    step: int = 0
    total_steps: int | None = None
    saved_step: int | None = None
    """The step of the newest checkpoint that --resume can use."""
    rate: Rate | None = None
    best: Rate | None = None
    """The best evaluation during training."""
    train_seconds: float | None = None
    audio_seconds: float | None = None
    """Real, unpadded audio that was trained on, every epoch counted."""
    is_estimated: bool = False
    """Whether these two are those of the newest checkpoint, stretched to `step`."""
    audio_seconds_per_second: float | None = None
    begun: float | None = None
    """When it began and when it last wrote something, in seconds since 1970."""
    changed: float | None = None
    options: Mapping[str, str] | None = None
    """Name -> value of every option; None when config.json cannot be read."""
    records: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    has_transcripts: bool = False


def read_run(path: Path, name: str, *, is_verified: bool = False) -> Run:
    """What the folder `path` tells. With `is_verified` every file of its checkpoints is hashed as well."""
    holds_lock = is_held(path)
    damage, notes = list[str](), list[str]()
    options = _options(path, damage) if (path / "config.json").exists() else None
    records = _records(path, damage, is_written=holds_lock)
    results = _results(path, damage)
    saved, state = _newest_checkpoint(path, damage, is_verified=is_verified)
    if is_verified and (path / "checkpoints" / "best").is_dir():
        with _noting(path, damage):
            verify(path / "checkpoints" / "best")
    aside = sorted(folder.name for folder in path.glob("checkpoints/step-*.damaged"))
    notes += [f"{', '.join(aside)} was put aside by a resume"] if aside else []

    is_scored = bool(results) and "steps" not in results and saved is None and not records
    closed = _number(results.get("steps"))
    logged = max((record["step"] for record in records), default=0)
    step = max(logged, saved or 0, int(closed or 0))
    is_over = closed is not None and closed >= max(saved or 0, logged)
    if closed is not None and not is_over:
        notes.append(f"results.json is of step {closed:.0f}")
    status: Status
    if holds_lock:
        status = "running"
        notes += ["preparing"] if not records and saved is None else []
        notes += ["closing"] if is_over else []
    elif damage:
        status = "damaged"
        left = "the results are there" if is_over or is_scored else ""
        left = left or (f"--resume goes on from step {saved}" if saved is not None else "no checkpoint is left")
        notes.append(left)
    elif is_scored or is_over:
        status = "scored" if is_scored else "finished"
    else:
        status = "stopped" if saved is None else "resumable"
        notes += [f"saved at step {saved}"] if saved is not None and saved < step else []
        notes += ["no config.json: it died before its first step"] if options is None else []

    seconds, audio, is_estimated = _amounts(results if is_over else {}, state, saved, step)
    speed = _number(results.get("audio_seconds_per_second")) if is_over else None
    curve = _evaluations(records)
    rate = _closing_rate(results, int(closed) if closed is not None else None) if is_over or is_scored else None
    return Run(
        path=path,
        name=name,
        status=status,
        note="; ".join([*damage, *notes]),
        step=step,
        total_steps=step if is_over else _total_steps(options, records),
        saved_step=saved,
        rate=rate or (curve[-1] if curve else None),
        best=min(curve, key=lambda rate: rate.value) if curve else None,
        train_seconds=seconds,
        audio_seconds=audio,
        is_estimated=is_estimated,
        audio_seconds_per_second=speed or _last(records, "train/audio_seconds_per_second"),
        begun=_begun(path),
        changed=_changed(path),
        options=options,
        records=records,
        has_transcripts=(path / "hypotheses.jsonl").is_file(),
    )


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
        return options_of(read_config(run_dir / "config.json", fill=True))
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


def _amounts(
    results: Mapping[str, Any], state: Mapping[str, Any], saved: int | None, step: int
) -> tuple[float | None, float | None, bool]:
    """Training's seconds, the audio's seconds, and whether both are stretched from a checkpoint to `step`."""
    if (seconds := _number(results.get("train_seconds"))) is not None:
        speed = _number(results.get("audio_seconds_per_second"))
        return seconds, None if speed is None else speed * seconds, False
    seconds, audio = (_number(state.get(key)) for key in ("train_seconds", "audio_seconds"))
    if not saved or seconds is None:
        return seconds, audio, False
    stretch = max(1.0, step / saved)
    return seconds * stretch, None if audio is None else audio * stretch, stretch > 1


def _closing_rate(results: Mapping[str, Any], step: int | None) -> Rate | None:
    """The headline split's rate; None where there is no number, as of a test split without transcripts."""
    headline = str(results.get("headline", ""))
    record = results.get("splits", {}).get(headline, results)
    if not isinstance(record, dict):
        return None
    for name in MAIN_RATES:
        if (value := _number(record.get(name))) is not None:
            ends = record.get(f"{name}_interval")
            low, high = map(_number, ends) if isinstance(ends, list) and len(ends) == 2 else (None, None)
            interval = None if low is None or high is None else (low, high)
            return Rate(name.upper(), value, headline, interval, str(record.get(f"{name}_interval_over") or ""), step)
    return None


def _evaluations(records: Sequence[Mapping[str, Any]]) -> list[Rate]:
    name = next((name for name in MAIN_RATES if _last(records, f"eval/{name}") is not None), None)
    values = [(record["step"], _number(record.get(f"eval/{name}"))) for record in records] if name else []
    return [Rate(str(name).upper(), value, step=step) for step, value in values if value is not None]


def _total_steps(options: Mapping[str, str] | None, records: Sequence[Mapping[str, Any]]) -> int | None:
    """Steps of the plan. Where it is told in epochs, as many as the log's passes over the corpus make of them."""
    options = options or {}
    if (most := options.get("train.max_steps", "None")).isdigit():
        return int(most)
    epoch = _last(records, "epoch")
    epochs = _as_number(options.get("train.epochs", ""))
    return round(epochs * records[-1]["step"] / epoch) if epoch and epochs and "epoch" in records[-1] else None


def _last(records: Sequence[Mapping[str, Any]], key: str) -> float | None:
    return next((value for r in reversed(records) if (value := _number(r.get(key))) is not None), None)


def _number(value: Any) -> float | None:
    """`value` if it is a finite number."""
    return value if type(value) in (int, float) and math.isfinite(value) else None


def _as_number(text: str) -> float | None:
    try:
        return _number(float(text))
    except ValueError:
        return None


def _begun(run_dir: Path) -> float | None:
    """TensorBoard's files have the time in their names, which a copy keeps; else the time of config.json."""
    stamps = [
        int(match[1])
        for path in run_dir.glob("events.out.tfevents.*")
        if (match := re.match(r"events\.out\.tfevents\.(\d{9,11})\.", path.name))
    ]
    return float(min(stamps)) if stamps else _changed(run_dir, ("config.json", "lock"))


def _changed(run_dir: Path, names: Sequence[str] = ("metrics.jsonl", "results.json", "config.json")) -> float | None:
    times = list[float]()
    for name in names:
        with contextlib.suppress(OSError):
            times.append((run_dir / name).stat().st_mtime)
    return max(times, default=None)
