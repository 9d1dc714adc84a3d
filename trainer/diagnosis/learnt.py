"""Which training utterances were never learnt, from their losses at each visit (trainer.rundir.dynamics)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.plural import counted
from trainer.errors import ConfigError, DamagedError
from trainer.rundir.dynamics.files import Dynamics, read_dynamics

LEARNT = 0.5
"""Of the units' entropy: an utterance whose loss was once below is learnt, at least in part."""
WORST = 5


@dataclass(frozen=True)
class Learnt:
    """What the losses of training say. Losses are nats per unit."""

    num_visited: int
    num_visits: float
    """Of an utterance, on average."""
    threshold: float
    num_never: int
    worst: list[tuple[str, float]]
    """The ids of some that were never learnt, and their lowest losses, highest first."""
    median_lowest: float


def learnt_of(dynamics: Dynamics, unigram_entropy: float) -> Learnt | None:
    """None where nothing was visited, or the run has learnt too little for single utterances to stand out."""
    visits, ids = dynamics.visits, dynamics.ids
    if not len(visits):
        return None
    lowest = np.full(len(ids), np.nan, np.float32)
    np.fmin.at(lowest, visits["row"], visits["loss"])
    seen = np.flatnonzero(~np.isnan(lowest))
    threshold, median = LEARNT * unigram_entropy, float(np.median(lowest[seen]))
    if not median <= threshold:  # it is NaN where the entropy is not known
        return None
    never = seen[lowest[seen] > threshold]
    worst = never[np.argsort(-lowest[never], kind="stable")][:WORST]
    return Learnt(
        len(seen), len(visits) / len(seen), threshold, len(never), [(ids[int(i)], float(lowest[i])) for i in worst],
        median,
    )  # fmt: skip


def learnt_line(run_dir: Path, unigram_entropy: float) -> str:
    """A sentence for people; "" where the run has kept no losses, or they say nothing yet."""
    try:
        found = learnt_of(read_dynamics(run_dir), unigram_entropy)
    except (ConfigError, DamagedError, OSError):
        return ""
    return "" if found is None else in_words(found)


def in_words(found: Learnt) -> str:
    """The sentences of `learnt_line`."""
    n, never = found.num_visited, found.num_never
    limit = f"{found.threshold:.2f} nats per unit, half of what the units' frequencies give"
    visits = f"{counted(found.num_visits, 'time', f'{found.num_visits:.3g}')} on average"
    told = f"{n:,} training utterance{'s were' if n > 1 else ' was'} visited {visits}. "
    if not never:
        told += f"None was left unlearnt: each had a loss of at most {limit}, at one visit or more."
    elif never == 1:
        told += f"1 was never learnt: its loss was above {limit}, at every visit."
    else:
        told += f"{never:,} were never learnt: their losses were above {limit}, at every visit."
    told += f" The median of the utterances' lowest losses is {found.median_lowest:.3f}."
    if found.worst:
        told += " Highest of these: " + ", ".join(f"{i} ({loss:.2f})" for i, loss in found.worst) + "."
    return told
