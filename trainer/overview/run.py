"""What a run's folder tells about it: status, progress, error rate, time. It is read, never written.

A folder may hold a run of an older version, one that is being written, or a damaged one. What cannot be read is told in
the run's note (trainer.overview.files), and the rest is shown all the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from trainer.overview.files import Files, begun, changed, read_files
from trainer.scoring.metrics import UNITS

Status = Literal["running", "finished", "scored", "resumable", "stopped", "damaged"]
MEANING: dict[Status, str] = {
    "running": "a process holds the run's lock",
    "finished": "training and the closing evaluation are done",
    "scored": "a model was evaluated here, and nothing trained",
    "resumable": "no process works on it, and --resume goes on from a checkpoint",
    "stopped": "no process works on it, and there is no checkpoint: --resume begins at step 0",
    "damaged": "a file is not as it was written; the note says which, and what is left",
}
MAIN_RATES = tuple(units.main for units in UNITS.values())
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
    files = read_files(path, is_verified=is_verified)
    records, results, saved = files.records, files.results, files.saved
    closed = _number(results.get("steps"))
    logged = max((record["step"] for record in records), default=0)
    step = max(logged, saved or 0, int(closed or 0))
    is_over = closed is not None and closed >= max(saved or 0, logged)
    is_scored = bool(results) and "steps" not in results and saved is None and not records
    status, notes = _judge(files, step, is_over=is_over, is_scored=is_scored)
    if closed is not None and not is_over:
        notes.insert(0, f"results.json is of step {closed:.0f}")
    if files.aside:
        notes.insert(0, f"{', '.join(files.aside)} was put aside by a resume")

    seconds, audio, is_estimated = _amounts(results if is_over else {}, files.state, saved, step)
    speed = _number(results.get("audio_seconds_per_second")) if is_over else None
    curve = _evaluations(records)
    rate = _closing_rate(results, int(closed) if closed is not None else None) if is_over or is_scored else None
    return Run(
        path=path,
        name=name,
        status=status,
        note="; ".join([*files.damage, *notes]),
        step=step,
        total_steps=step if is_over else _total_steps(files.options, records),
        saved_step=saved,
        rate=rate or (curve[-1] if curve else None),
        best=min(curve, key=lambda rate: rate.value) if curve else None,
        train_seconds=seconds,
        audio_seconds=audio,
        is_estimated=is_estimated,
        audio_seconds_per_second=speed or _last(records, "train/audio_seconds_per_second"),
        begun=begun(path),
        changed=changed(path),
        options=files.options,
        records=records,
        has_transcripts=(path / "hypotheses.jsonl").is_file(),
    )


def _judge(files: Files, step: int, *, is_over: bool, is_scored: bool) -> tuple[Status, list[str]]:
    """The status of a run that came to `step`, and what is to be said of it besides."""
    saved = files.saved
    if files.holds_lock:
        preparing = ["preparing"] if not files.records and saved is None else []
        return "running", [*preparing, *(["closing"] if is_over else [])]
    if files.damage:
        if is_over or is_scored:
            return "damaged", ["the results are there"]
        return "damaged", ["no checkpoint is left" if saved is None else f"--resume goes on from step {saved}"]
    if is_scored or is_over:
        return "scored" if is_scored else "finished", []
    notes = [f"saved at step {saved}"] if saved is not None and saved < step else []
    notes += ["no config.json: it died before its first step"] if files.options is None else []
    return "stopped" if saved is None else "resumable", notes


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
