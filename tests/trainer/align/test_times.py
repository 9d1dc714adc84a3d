"""Times learned from words whose boundaries are known (trainer.align.times, trainer.align.boundaries).

pytest tests/trainer/align/test_times.py
"""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from data.utterance import Segment
from trainer.align.alignment import AlignedWord, Alignment
from trainer.align.boundaries import FEWEST, HEADER, BoundaryErrors, describe, learn
from trainer.align.times import (
    Sides,
    Spike,
    SpikeTimes,
    WordSpikes,
    bounds,
    learn_times,
    load_times,
    save_times,
    unit_bounds,
)
from trainer.errors import ConfigError, CorpusError

LAGS = {"a": 300.0, "b": 700.0, "c": 500.0}
"""Samples from a boundary to the spike of the unit there."""
UNITS = frozenset(LAGS)


def spike(unit: str, centre: float) -> Spike:
    start = int(centre) - 160
    return Spike(unit, start, start + 320, centre)


def utterance(rng: np.random.Generator, pause: int = 0) -> tuple[list[WordSpikes], list[Segment]]:
    """Six words of two units, `pause` samples between them, spikes LAGS within their boundaries give or take 40."""
    at, segments, spikes = 800, [], []
    for _ in range(6):
        first, last = rng.choice(list("abc"), 2)
        length = int(rng.integers(2500, 5000))
        segments.append(Segment(at, at + length, "x"))
        noise = rng.normal(0, 40, 2)
        spikes.append((spike(first, at + LAGS[first] + noise[0]), spike(last, at + length - LAGS[last] + noise[1])))
        at += length + pause
    words = []
    for i, own in enumerate(spikes):
        before = spikes[i - 1][1] if i else None
        after = spikes[i + 1][0] if i + 1 < len(spikes) else None
        words.append(WordSpikes(own, Sides(own[0], own[1], None, before), Sides(own[1], own[0], None, after), i > 0))
    return words, segments


def learned(seed: int = 0) -> SpikeTimes:
    rng = np.random.default_rng(seed)
    return learn([(dict(enumerate(words)), known) for words, known in (utterance(rng) for _ in range(60))], "made up")


def errors(times: SpikeTimes | None, pause: int = 0) -> np.ndarray:
    rng = np.random.default_rng(99)
    found = []
    for _ in range(40):
        words, known = utterance(rng, pause)
        for (start, end), segment in zip(bounds(words, 10**6, times), known, strict=True):
            found += [start - segment.start, end - segment.end]
    return np.array(found)


def test_lags_that_depend_on_the_unit_are_learned_and_taken_out() -> None:
    """Known lags of 300 to 700 samples with a spread of 40: an error of about the spread is left, and no shift."""
    without, with_times = errors(None), errors(learned())
    assert np.abs(without).mean() > 250
    assert np.abs(with_times).mean() < 40
    assert abs(with_times.mean()) < 5


def test_a_pause_between_words_stays_a_pause() -> None:
    """Times learned where words follow at once; they are 0.2 s apart here, as in careful speech."""
    times = learned()
    found = errors(times, pause=3200)
    assert np.abs(found).mean() < 80
    words, _ = utterance(np.random.default_rng(1), 3200)
    assert all(right[0] - left[1] > 2500 for left, right in pairwise(bounds(words, 10**6, times)))
    together, _ = utterance(np.random.default_rng(1))
    assert all(right[0] == left[1] for left, right in pairwise(bounds(together, 10**6, times)))


def test_words_and_units_never_overlap_and_hold_their_spikes() -> None:
    """Whatever was learned: here offsets of -3 to 3 s."""
    times = learned()
    rng = np.random.default_rng(3)
    for offset in (-50_000.0, 50_000.0):
        edge = replace(times.begins, constant=offset, limits=(-50_000.0, 50_000.0))
        words, _ = utterance(rng)
        spans = bounds(words, 30_000, SpikeTimes(edge, edge, ""))
        assert all(0 <= start < end <= 30_000 for start, end in spans)
        assert all(left[1] <= right[0] for left, right in pairwise(spans))
        for word, (start, end) in zip(words, spans, strict=True):
            assert start <= word.spikes[0].centre
            assert word.spikes[-1].centre <= end
            units = unit_bounds(word, start, end, times)
            assert units[0][0] == start
            assert units[-1][1] == end
            assert units[0][1] == units[1][0] == round((word.spikes[0].centre + word.spikes[1].centre) / 2)


def test_a_unit_that_was_never_seen_has_the_common_lag() -> None:
    times = learned()
    strange = Sides(spike("z", 5000.0), spike("a", 7000.0), None, spike("b", 4000.0))
    assert 250 < times.begins.offset(strange) < 750


def test_times_are_read_as_they_were_written(tmp_path: Path) -> None:
    times = learned()
    save_times(times, tmp_path / "deep" / "times.json")
    assert load_times(tmp_path / "deep" / "times.json", UNITS) == times


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: "{", "no times that --learn-times wrote"),
        (lambda r: "[]", "no times that --learn-times wrote"),
        (lambda r: json.dumps({**r, "format": 9}), "of format 9, not 1"),
        (lambda r: json.dumps({**r, "begins": {**r["begins"], "distances": [1]}}), "there must be 7 distances"),
        (lambda r: json.dumps({**r, "ends": {**r["ends"], "constant": "x"}}), "could not convert"),
        (lambda r: json.dumps({**r, "ends": {**r["ends"], "constant": float("nan")}}), "not finite"),
        (lambda r: json.dumps({**r, "ends": {}}), "KeyError"),
    ],
)
def test_a_file_of_other_content_is_refused_by_name(tmp_path: Path, change, message: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "times.json"
    save_times(learned(), path)
    path.write_text(change(json.loads(path.read_text())))
    with pytest.raises(ConfigError, match=f"times.json: .*{message}"):
        load_times(path, UNITS)


def test_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"times.json: No such file or directory. Learn times with --learn-times"):
        load_times(tmp_path / "times.json", UNITS)


def test_too_few_words_teach_nothing() -> None:
    words, known = utterance(np.random.default_rng(0))
    with pytest.raises(CorpusError, match=f"6 words with known times were aligned. Times are learned from {FEWEST}"):
        learn([(dict(enumerate(words)), known)], "x")


def test_one_ridge_solution_is_numpys() -> None:
    """Reference: least squares with the penalty as extra rows; the prediction of one boundary, to 1e-6."""
    rng = np.random.default_rng(7)
    known = [
        (word.at_start, float(segment.start)) for _ in range(50) for word, segment in zip(*utterance(rng), strict=True)
    ]
    times = learn_times(known, known, "x")
    offsets = np.array([sides.edge.centre - boundary for sides, boundary in known])

    def row(sides: Sides) -> list[float]:
        outer = sides.outer.unit if sides.outer else ""
        far = [abs(s.centre - sides.edge.centre) if s else 0.0 for s in (sides.outer, sides.delimiter, sides.inner)]
        inside = [sides.edge.centre - sides.edge.start, sides.edge.end - sides.edge.centre]
        flags = [float(sides.delimiter is None), float(sides.inner is None)]
        one_hot = [float(sides.edge.unit == unit) for unit in "abc"] + [float(outer == unit) for unit in ["", *"abc"]]
        return [1.0, *one_hot, *(distance / 160 for distance in far + inside), *flags]

    rows = np.array([row(sides) for sides, _ in known])
    penalty = np.sqrt(3.0) * np.eye(rows.shape[1])
    penalty[0, 0] = 0.0
    weights = np.linalg.lstsq(
        np.vstack([rows, penalty]), np.concatenate([offsets, np.zeros(len(penalty))]), rcond=None
    )[0]
    for sides, _ in known[:5]:
        assert times.begins.offset(sides) == pytest.approx(float(row(sides) @ weights), abs=1e-6)


def test_errors_are_counted_by_hand() -> None:
    """Begins 8 and 24 ms late, ends 16 ms early and exact; one word is missing."""
    words = (AlignedWord("a", "aligned", 128, 744, 0.5), AlignedWord("b", "unmatched", 800, 800, None),
             AlignedWord("c", "aligned", 1384, 2000, 0.5))  # fmt: skip
    found = BoundaryErrors()
    found.add(
        Alignment("x", 3000, words, ()), [Segment(0, 1000, "a"), Segment(1000, 1000, "b"), Segment(1000, 2000, "c")]
    )
    assert found.figures() == {
        "num_words": 2,
        "num_missing": 1,
        "mean_ms": 12.0,
        "median_ms": 12.0,
        "share_within_10_ms": 0.5,
        "share_within_20_ms": 0.75,
        "share_within_50_ms": 1.0,
        "mean_begin_shift_ms": 16.0,
        "mean_end_shift_ms": -8.0,
    }
    row = describe("frames", found)
    assert row.split() == ["frames", "2", "1", "12.0", "12.0", *"50.0 % 75.0 % 100.0 %".split(), "+16.0,", "-8.0"]  # noqa: SIM905
    assert len(HEADER) >= 80
    assert describe("none", BoundaryErrors(num_missing=3)).split() == ["none", "0", "3"]
