"""trainer.signs.recording and .pace: where each limit lies, by figures that are written by hand; no audio is measured.

The limits are those that docs/signs.md tells.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from trainer.signs.measured import ROW
from trainer.signs.pace import Pace, by_speaker
from trainer.signs.recording import Usual, recording_signs
from trainer.signs.sign import Sign

SOUND = {
    "crowding": 0.01, "level": -25.0, "band": 7800.0, "modulation": 20.0, "lead": 0.1, "trail": 0.1,
    "start_level": -30.0, "end_level": -30.0, "pitch": 120.0, "seconds": 3.0, "units": 30, "rate": 16_000,
    "is_measured": True,
}  # fmt: skip
USUAL_PACE = SimpleNamespace(ratios=[1.0], signs=lambda i: [])


def rows_of(number: int, **changes: Any) -> np.ndarray:
    """As many recordings as measured, all of them alike."""
    rows = np.zeros(number, ROW)
    for name, value in (SOUND | changes).items():
        rows[name] = value
    return rows


def signs(
    changes: dict[str, Any], others: np.ndarray | None = None, pace: Any = USUAL_PACE, speaker: int = 0
) -> list[Sign]:
    """Of a recording with other figures than its 199 neighbours. Speaker 0 has a fifth of them, 1 the rest."""
    rows = np.concatenate([rows_of(1, **changes), rows_of(199) if others is None else others])
    usual = Usual(rows, np.where(np.arange(len(rows)) % 5 == 0, 0, 1))
    return list(recording_signs(rows[0], speaker, usual, pace, 0))


def marked(found: list[Sign]) -> dict[str, str]:
    return {sign.name: sign.certainty for sign in found}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"level": -4.9}, {"level": "possible"}), ({"level": -5.1}, {}),
        ({"level": -45.1}, {"level": "possible"}), ({"level": -44.9}, {}),
        ({"offset": 0.51}, {"constant offset": "likely"}), ({"offset": 0.49}, {}),
        ({"offset": -0.51}, {"constant offset": "likely"}),
        ({"num_flat_tops": 3}, {"clipped": "likely"}), ({"num_flat_tops": 2, "seconds": 1.5}, {}),
        ({"num_flat_tops": 9, "seconds": 9.5}, {}), ({"num_flat_tops": 10, "seconds": 9.5}, {"clipped": "likely"}),
        ({"share_at_limit": 0.006}, {"clipped": "likely"}), ({"share_at_limit": 0.004}, {}),
        ({"crowding": 0.051}, {"clipped": "likely"}), ({"crowding": 0.049}, {}),
        ({"crowding": 0.3, "seconds": 0.9}, {}),
        ({"band": 5500.0}, {"band limited": "likely"}), ({"band": 5700.0}, {}),
        ({"band": 3900.0, "rate": 8000}, {}), ({"band": 2700.0, "rate": 8000}, {"band limited": "likely"}),
        ({"modulation": 2.9}, {"noise": "certain"}), ({"modulation": 2.9, "seconds": 0.9}, {}),
        ({"modulation": 2.9, "seconds": 0.9, "pitch": np.nan}, {"noise": "likely"}),
        ({"modulation": 5.9, "pitch": np.nan}, {"noise": "likely"}), ({"modulation": 6.1, "pitch": np.nan}, {}),
        ({"modulation": 3.1, "pitch": 66.0}, {}), ({"modulation": 3.1, "pitch": 64.0}, {"noise": "likely"}),
        ({"modulation": 2.9, "level": -51.0}, {"silence": "certain", "level": "possible"}),
        ({"modulation": 2.9, "level": -49.0}, {"noise": "certain", "level": "possible"}),
        ({"start_level": -15.9}, {"cut off at the start": "likely"}), ({"start_level": -16.1}, {}),
        ({"end_level": -15.9}, {"cut off at the end": "likely"}), ({"end_level": -15.9, "seconds": 0.29}, {}),
        ({"lead": 1.6}, {"long silence at the start": "possible"}), ({"lead": 1.4}, {}),
        ({"trail": 1.6}, {"long silence at the end": "possible"}), ({"trail": 1.4}, {}),
        ({"hole": 0.021}, {"drop-out": "likely"}), ({"hole": 0.019}, {}),
        ({"is_measured": False, "level": 0.0, "hole": 1.0}, {}),
    ],
    ids=str,
)  # fmt: skip
def test_a_recording_shows_a_sign_from_its_limit_on_and_not_before(
    changes: dict[str, Any], expected: dict[str, str]
) -> None:
    assert marked(signs(changes)) == expected


@pytest.mark.parametrize(
    ("changes", "others", "expected"),
    [
        ({"crowding": 0.051}, {"crowding": 0.011}, {}),  # five times what is usual
        ({"crowding": 0.029}, {"crowding": 0.001}, {}),
        ({"crowding": 0.031}, {"crowding": 0.001}, {"clipped": "likely"}),
        ({"trail": 1.7}, {"trail": 0.6}, {}),
        ({"trail": 1.9}, {"trail": 0.6}, {"long silence at the end": "possible"}),
        ({"end_level": -3.0}, {"end_level": -10.0}, {}),
        ({"end_level": -1.0}, {"end_level": -10.0}, {"cut off at the end": "likely"}),
        ({"band": 5500.0}, {"band": 5500.0}, {"band limited": "possible"}),
        ({"level": -59.0}, {"level": -50.0}, {}), ({"level": -61.0}, {"level": -50.0}, {"level": "possible"}),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_usual_in_the_corpus_moves_the_limit(
    changes: dict[str, Any], others: dict[str, Any], expected: dict[str, str]
) -> None:
    assert marked(signs(changes, rows_of(199, **others))) == expected


@pytest.mark.parametrize(("number", "expected"), [(2, "likely"), (3, "possible"), (10, "possible"), (11, None)])
def test_gaps_of_zeros_are_a_sign_as_long_as_they_are_rare(number: int, expected: str | None) -> None:
    others = rows_of(199)
    others["hole"][: number - 1] = 0.05
    found = signs({"hole": 0.05, "hole_start": 1.0}, others)
    assert marked(found).get("drop-out") == expected
    assert [(s.start, s.end) for s in found] == [(1.0, pytest.approx(1.05))] * (expected is not None)


def test_what_is_at_an_end_has_the_times_of_that_end() -> None:
    found = signs({"lead": 1.6, "trail": 2.0, "start_level": 0.0, "end_level": -1.0, "seconds": 5.0})
    assert {s.name: (s.start, s.end) for s in found} == {
        "cut off at the start": (0.0, 0.02), "cut off at the end": (4.98, 5.0),
        "long silence at the start": (0.0, pytest.approx(1.6)), "long silence at the end": (3.0, 5.0),
    }  # fmt: skip


def test_of_few_recordings_only_what_each_shows_by_itself_is_told() -> None:
    odd = {"level": -61.0, "offset": 1.0, "hole": 1.0, "end_level": 0.0, "trail": 2.0, "band": 3000.0, "crowding": 0.9}
    by_itself = {"level": "possible", "constant offset": "likely", "band limited": "possible"}
    assert marked(signs(odd, rows_of(18))) == by_itself
    assert marked(signs(odd, rows_of(19))) != by_itself


@pytest.mark.parametrize(
    ("speaker", "pitch", "ratio", "units", "said"),
    [
        (0, 148.0, 1.5, 30, "the voice 1.5 times as high as their own: played too fast"),
        (0, 140.0, 1.5, 30, None), (0, 148.0, 1.4, 30, None), (0, 148.0, 1 / 1.5, 30, None), (0, 148.0, 1.5, 7, None),
        (0, 255.0, 2.0, 30, "2.5 times as high"), (0, 265.0, 2.0, 30, None),
        (0, 50.0, 0.5, 30, "0.5 times the usual pace, the voice 0.5 times as high as their own: played too slow"),
        (7, 300.0, 1.5, 30, "the voice 1.5 times as high as the usual one"), (7, 148.0, 1.5, 30, None),
    ],
)  # fmt: skip
def test_pace_and_voice_in_one_direction_are_a_wrong_rate(
    speaker: int, pitch: float, ratio: float, units: int, said: str | None
) -> None:
    """Speaker 0 has a voice of 100 Hz, the others, who are more, of 200; nobody knows speaker 7."""
    others = rows_of(199, pitch=200.0)
    others["pitch"][4::5] = 100.0
    pace = SimpleNamespace(ratios=[ratio], signs=lambda i: [])
    found = signs({"pitch": pitch, "units": units}, others, pace, speaker)
    assert marked(found) == ({"wrong rate or speed": "likely"} if said else {})
    assert said is None or said in found[0].what


@pytest.mark.parametrize(
    ("units", "seconds", "ratio", "score", "expected"),
    [
        (30, 3.0, 1.3, 4.1, ("too fast", "possible")), (30, 3.0, 1.2, 9.0, None), (30, 3.0, 1.3, 3.9, None),
        (30, 3.0, 1.9, 8.1, ("too fast", "likely")), (30, 3.0, 1.9, 7.9, ("too fast", "possible")),
        (30, 3.0, 1.7, 9.0, ("too fast", "possible")), (7, 0.7, 1.9, 9.0, ("too fast", "possible")),
        (7, 0.23, 1.0, 0.0, ("too fast", "likely")), (7, 0.24, 1.0, 0.0, None),
        (30, 3.0, 1 / 1.3, -4.1, ("too slow", "possible")), (30, 3.0, 1 / 1.2, -9.0, None),
        (30, 3.0, 1 / 1.3, -3.9, None), (30, 3.0, 1 / 1.9, -8.1, ("too slow", "likely")),
        (30, 3.0, 1 / 1.7, -9.0, ("too slow", "possible")), (7, 0.7, 1 / 1.9, -9.0, ("too slow", "possible")),
        (30, 13.1, 1.0, 0.0, ("too slow", "likely")), (30, 12.9, 1.0, 0.0, None), (60, 23.9, 1.0, 0.0, None),
    ],
)  # fmt: skip
def test_a_pace_is_odd_from_its_limit_on_and_not_before(
    units: int, seconds: float, ratio: float, score: float, expected: tuple[str, str] | None
) -> None:
    """In a corpus of ten units a second."""
    pace = Pace(np.full(20, 3.0), np.full(20, 3.0), np.full(20, 30), np.zeros(20, int))
    pace.units[0], pace.seconds[0], pace.ratios[0], pace.scores[0] = units, seconds, ratio, score
    assert [(sign.name, sign.certainty) for sign in pace.signs(0)] == ([expected] if expected else [])
    assert all(f"{units} units in {seconds:.1f} s, the median is 10.0 a second" in s.what for s in pace.signs(0))


def test_a_pace_is_known_from_twenty_utterances_on() -> None:
    for number, expected in ((19, []), (20, ["too fast"])):
        seconds = np.full(number, 3.0)
        seconds[0] = 0.5
        pace = Pace(seconds, seconds, np.full(number, 30), np.full(number, -1))
        assert [sign.name for sign in pace.signs(0)] == expected


def test_who_is_not_known_is_no_speaker() -> None:
    found = by_speaker(np.array([2, -1, 0, 2, -1]))
    assert [(speaker, group.tolist()) for speaker, group in found] == [(0, [2]), (2, [0, 3])]
    assert list(by_speaker(np.array([-1, -1]))) == list(by_speaker(np.zeros(0, int))) == []
