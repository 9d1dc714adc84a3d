"""The figures of a run as text, the same in the terminal and on the page."""

from __future__ import annotations

import time

from trainer.cli.streams import one_line
from trainer.overview.run import Run

DASH = "–"
MOST_SETS = 3
"""Evaluation sets that a note names."""


def rate_text(run: Run) -> str:
    """`9.66 (6.59–13.50)` in percent; of an evaluation during training `12.30 at step 400`."""
    rate = run.rate
    if rate is None:
        return DASH
    if rate.interval is not None:
        low, high = rate.interval
        return f"{100 * rate.value:.2f} ({100 * low:.2f}–{100 * high:.2f})"
    return f"{100 * rate.value:.2f}" + ("" if rate.split else f" at step {rate.step}")


def rate_hint(run: Run) -> str:
    """What the rate is of: `WER of test, 95 % interval over 24 speakers`, and the best evaluation during training."""
    rate = run.rate
    if rate is None:
        return "no evaluation yet"
    where = f"of {rate.split}" if rate.split else f"of the evaluation at step {rate.step}, no interval"
    over = f", 95 % interval over {rate.over}" if rate.interval is not None and rate.over else ""
    best = run.best
    during = f"; best during training {100 * best.value:.2f} % at step {best.step}" if best else ""
    return f"{rate.name} {where}{over}{during}"


def step_text(run: Run) -> str:
    """`400/1200 (33 %)`, or `1200` at the end."""
    if run.status == "scored":
        return DASH
    if run.total_steps and run.total_steps > run.step:
        return f"{run.step}/{run.total_steps} ({100 * run.step // run.total_steps} %)"
    return str(run.step)


def duration_text(run: Run) -> str:
    """Time spent in training: `3 min 24 s`, `2 h 05 min`. `~` stands before an estimate."""
    if run.train_seconds is None:
        return DASH
    minutes, seconds = divmod(round(run.train_seconds), 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
    return f"~{text}" if run.is_estimated else text


def audio_text(run: Run) -> str:
    """Hours of audio trained on, every epoch counted."""
    if run.audio_seconds is None:
        return DASH
    hours = run.audio_seconds / 3600
    return ("~" if run.is_estimated else "") + (f"{hours:.1f} h" if hours >= 0.95 else f"{60 * hours:.1f} min")


def speed_text(run: Run) -> str:
    """Seconds of audio per second of training."""
    speed = run.audio_seconds_per_second
    return DASH if speed is None else f"{speed:.0f}" if speed >= 10 else f"{speed:.1f}"


def ago(moment: float | None, now: float | None = None) -> str:
    """How long ago something was: `4 s ago`, `3 h ago`, or the day.

    >>> ago(100, 160), ago(100, 100 + 5 * 3600)
    ('60 s ago', '5 h ago')
    """
    if moment is None:
        return DASH
    seconds = (time.time() if now is None else now) - moment
    if seconds >= 2 * 86400:
        return time.strftime("%Y-%m-%d", time.localtime(moment))
    if seconds < 120:
        return f"{max(0, seconds):.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 7200 else f"{seconds / 3600:.0f} h ago"


def moment_text(moment: float | None) -> str:
    return DASH if moment is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))


def units_of(runs: list[Run]) -> str:
    """WER, or what stands in its place, for the head of a column."""
    return "/".join(dict.fromkeys(run.rate.name for run in runs if run.rate)) or "WER"


def notes_on_rates(runs: list[Run]) -> list[str]:
    """What to know before rates are held against one another."""
    splits = sorted({run.rate.split for run in runs if run.rate and run.rate.split})
    names = {run.rate.name for run in runs if run.rate}
    notes = []
    if len(splits) > 1:
        notes.append(
            f"Rates are of different splits ({', '.join(map(one_line, splits))}) and do not compare as they stand."
        )
    for split in splits:
        option = f"corpus.{split}"
        of_split = [run for run in runs if run.options and run.rate and run.rate.split == split]
        sets = sorted({run.options[option] for run in of_split if run.options and option in run.options})
        if len(sets) > 1:
            shown = ", ".join(map(one_line, sets[:MOST_SETS]))
            more = f", {len(sets) - MOST_SETS} more" if len(sets) > MOST_SETS else ""
            notes.append(f"--{option} differs ({shown}{more}): rates on different utterances do not compare.")
    if len(names) > 1:
        notes.append(f"{' and '.join(sorted(names))} count different units and do not compare.")
    return notes
