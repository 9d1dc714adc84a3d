"""From the frames in which CTC writes a word to the samples between which it is said.

CTC writes a unit when it is sure, in a frame or two somewhere within its sound: a word's first spike comes after its
beginning and its last one before its end, by how much depends on the sound. `SpikeTimes` learns that from a corpus
whose word times are known: the distance from the spike to the boundary is a linear function of the unit at the
boundary, the unit beyond it, and the distances to the spikes around (ridge regression). Without it a word lasts from
its first unit's first frame to its last unit's last frame.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from data import strict_json
from models.checkpoints.trust import find_file
from trainer.errors import ConfigError

FORMAT = 1
TIMES_FILE = "times.json"
"""What is looked for in a model's folder."""
NUM_DISTANCES = 7
RIDGE = 3.0
"""Weight of the penalty, in boundaries: a unit that was seen three times gets half of its own offset."""
NEAR = 8000
"""Samples (0.5 s): a spike that is further away says nothing about the boundary."""
MEETING = 640
"""Samples (40 ms): two words whose predicted end and beginning are nearer to each other follow without a pause."""
_UNIT_OF_DISTANCE = 160
"""Samples (10 ms), so that the ridge penalty weighs little on what a distance says."""


@dataclass(frozen=True)
class Spike:
    """Where the path writes one unit, in samples."""

    unit: str
    start: int
    end: int
    """Where its run of frames begins and ends."""
    centre: float
    """The middle of the posterior's mass around the run, within it."""


@dataclass(frozen=True)
class Sides:
    """The spikes around one boundary of a word, from the boundary inwards and outwards; None where none is near."""

    edge: Spike
    """The word's own unit at this boundary."""
    inner: Spike | None
    delimiter: Spike | None
    outer: Spike | None
    """The neighbouring word's unit at this boundary."""


@dataclass(frozen=True)
class WordSpikes:
    """A word that was aligned."""

    spikes: tuple[Spike, ...]
    at_start: Sides
    at_end: Sides
    follows: bool
    """Whether the word before it in the transcript is the one before it here, and nothing else is said between."""


@dataclass(frozen=True)
class EdgeModel:
    """One kind of boundary, beginnings or ends: samples from the spike's centre to it, outwards."""

    constant: float
    units: dict[str, float]
    outer: dict[str, float]
    distances: tuple[float, ...]
    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    """Of each distance in the training data: what lies outside is taken for the nearer of the two."""
    limits: tuple[float, float]
    """Of the result."""

    def offset(self, sides: Sides) -> float:
        """Samples from the edge spike's centre outwards to the boundary."""
        unit, outer, distances = _features(sides)
        known = np.clip(distances, self.lowest, self.highest)
        total = self.constant + self.units.get(unit, 0.0) + self.outer.get(outer, 0.0) + float(known @ self.distances)
        return float(np.clip(total, *self.limits))


@dataclass(frozen=True)
class SpikeTimes:
    """What was learned of a model's spikes."""

    begins: EdgeModel
    ends: EdgeModel
    source: str
    """The corpus that it was learned from, and how many boundaries."""


def learn_times(begins: Sequence[tuple[Sides, float]], ends: Sequence[tuple[Sides, float]], source: str) -> SpikeTimes:
    """From (spikes around a boundary, the boundary in samples) of many words."""
    return SpikeTimes(_learn(begins, -1), _learn(ends, 1), source)


def _learn(known: Sequence[tuple[Sides, float]], outwards: int) -> EdgeModel:
    features = [_features(sides) for sides, _ in known]
    offsets = np.array([outwards * (boundary - sides.edge.centre) for sides, boundary in known])
    units, outer = sorted({unit for unit, _, _ in features}), sorted({name for _, name, _ in features})
    distances = np.stack([values for _, _, values in features])
    rows = np.zeros((len(known), 1 + len(units) + len(outer)))
    rows[:, 0] = 1.0
    for i, (unit, name, _) in enumerate(features):
        rows[i, 1 + units.index(unit)] = rows[i, 1 + len(units) + outer.index(name)] = 1.0
    rows = np.concatenate([rows, distances], 1)
    penalty = RIDGE * np.eye(rows.shape[1])
    penalty[0, 0] = 0.0
    weights = np.linalg.solve(rows.T @ rows + penalty, rows.T @ offsets)
    of_units, of_outer, of_distances = np.split(weights[1:], [len(units), len(units) + len(outer)])
    return EdgeModel(
        constant=float(weights[0]),
        units=dict(zip(units, of_units.tolist(), strict=True)),
        outer=dict(zip(outer, of_outer.tolist(), strict=True)),
        distances=tuple(of_distances.tolist()),
        lowest=tuple(distances.min(0).tolist()),
        highest=tuple(distances.max(0).tolist()),
        limits=(float(offsets.min()), float(offsets.max())),
    )


def _features(sides: Sides) -> tuple[str, str, np.ndarray]:
    """(Unit at the boundary, unit beyond it or "", distances in 10 ms)."""
    edge = sides.edge

    def far(spike: Spike | None) -> float:
        return 0.0 if spike is None else abs(spike.centre - edge.centre)

    distances = [far(sides.outer), far(sides.delimiter), far(sides.inner), edge.centre - edge.start,
                 edge.end - edge.centre]  # fmt: skip
    values = [distance / _UNIT_OF_DISTANCE for distance in distances]
    values += [float(sides.delimiter is None), float(sides.inner is None)]
    return edge.unit, "" if sides.outer is None else sides.outer.unit, np.array(values)


def bounds(words: Sequence[WordSpikes], num_samples: int, times: SpikeTimes | None) -> list[tuple[int, int]]:
    """(Start, end) of each word in samples, none overlapping the next."""
    found = []
    for word in words:
        first, last = word.spikes[0], word.spikes[-1]
        start, end = float(first.start), float(last.end)
        if times is not None:
            start = min(first.centre, first.centre - times.begins.offset(word.at_start))
            end = max(last.centre, last.centre + times.ends.offset(word.at_end))
        found.append([max(0, math.floor(start)), min(num_samples, math.ceil(end))])
    for i, (word, before) in enumerate(zip(words[1:], words, strict=False), 1):
        earliest, latest = math.ceil(before.spikes[-1].centre), math.floor(word.spikes[0].centre)
        found[i][0], found[i - 1][1] = max(found[i][0], earliest), min(found[i - 1][1], latest)
        gap = found[i][0] - found[i - 1][1]
        if gap < 0 or (times is not None and gap < MEETING and word.follows):
            found[i][0] = found[i - 1][1] = (found[i][0] + found[i - 1][1]) // 2
    return [(start, end) for start, end in found]


def unit_bounds(word: WordSpikes, start: int, end: int, times: SpikeTimes | None) -> list[tuple[int, int]]:
    """(Start, end) of each unit of a word that lasts from `start` to `end`: they meet halfway between two spikes."""
    if times is None:
        return [(spike.start, spike.end) for spike in word.spikes]
    centres = [spike.centre for spike in word.spikes]
    inner = [round((left + right) / 2) for left, right in pairwise(centres)]
    return list(pairwise([start, *inner, end]))


def load_times(path: Path, units: Collection[str]) -> SpikeTimes:
    """What `save_times` wrote of a model that writes `units`; ConfigError, with the file's name, where it is not."""
    times = _read_times(path)
    strange = sorted({unit for edge in (times.begins, times.ends) for unit in edge.units} - set(units))
    if strange:
        raise ConfigError(
            f"{path}: learned with another model, which writes {', '.join(map(repr, strange[:4]))}. Learn times with "
            "this one: --learn-times; or give --times none."
        )
    return times


def _read_times(path: Path) -> SpikeTimes:
    try:
        record = strict_json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise ConfigError(f"{path}: times of format {record['format']!r}, not {FORMAT}. Learn them again.")
        return SpikeTimes(_edge(record["begins"]), _edge(record["ends"]), str(record["source"]))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}. Learn times with --learn-times {path}.") from None
    except ConfigError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: no times that --learn-times wrote ({type(error).__name__}: {error}).") from None


def times_beside(source: str, units: Collection[str], revision: str | None = None) -> SpikeTimes | None:
    """The times in the folder of the model `source`, which writes `units`, or in its hub repository; None where it has
    none."""
    path = find_file(source, TIMES_FILE, revision)
    return None if path is None else load_times(Path(path), units)


def save_times(times: SpikeTimes, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(strict_json.dumps({"format": FORMAT, **asdict(times)}, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror or error}). Give another path.") from None


def _edge(record: dict[str, Any]) -> EdgeModel:
    def numbers(values: Iterable[Any]) -> tuple[float, ...]:
        found = tuple(float(value) for value in values)
        if not all(map(math.isfinite, found)):
            raise ValueError("a number that is not finite")
        return found

    low, high = numbers(record["limits"])
    model = EdgeModel(
        numbers([record["constant"]])[0],
        dict(zip(record["units"], numbers(record["units"].values()), strict=True)),
        dict(zip(record["outer"], numbers(record["outer"].values()), strict=True)),
        numbers(record["distances"]),
        numbers(record["lowest"]),
        numbers(record["highest"]),
        (low, high),
    )
    if not len(model.distances) == len(model.lowest) == len(model.highest) == NUM_DISTANCES:
        raise ValueError(f"there must be {NUM_DISTANCES} distances")
    return model
