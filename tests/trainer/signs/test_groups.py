"""trainer.signs.groups: a group stands out by more than chance, and by the exact binomial distribution."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from tests.helpers.voices import example
from trainer.signs.groups import Groups, Standout, _tail
from trainer.signs.sign import Sign

CLIPPED = Sign("clipped", "9 peaks are cut flat", "likely")


def counted(*sizes: tuple[str, int, int]) -> list[Standout]:
    """Of speakers (name, utterances, of them clipped), each in a folder of its own."""
    groups = Groups()
    for speaker, of, clipped in sizes:
        utterance = example(np.zeros(1, np.float32), "a", speaker, speaker).utterance
        for i in range(of):
            groups.add(utterance, [CLIPPED, CLIPPED] if i < clipped else [])
    return groups.standing_out()


def test_a_speaker_and_a_folder_with_far_more_than_the_others_stand_out() -> None:
    found = counted(("loud", 20, 9), *((f"s{i}", 20, i % 2) for i in range(20)))
    assert {(s.kind, s.group) for s in found} == {("speaker", "loud"), ("folder", "/corpus/loud")}
    assert (found[0].sign, found[0].count, found[0].of, found[0].usual) == ("clipped", 9, 20, 10 / 400)
    assert found[1].describe() == "speaker loud: 9 of 20 clipped, elsewhere 2.5 %"


def test_what_chance_gives_does_not_stand_out() -> None:
    rng = np.random.default_rng(0)
    assert counted(*((f"s{i}", 20, int(rng.binomial(20, 0.05))) for i in range(40))) == []
    assert counted(("all", 50, 40)) == []  # there is nobody else
    assert counted(("a", 20, 15), ("b", 20, 12)) == []  # both do
    assert counted(("a", 200, 160), ("b", 200, 60)) == []  # beyond chance, and less than three times as often
    assert counted(("a", 4, 2), *((f"s{i}", 100, 0) for i in range(5))) == []  # two utterances
    assert len(counted(("a", 4, 3), *((f"s{i}", 100, 0) for i in range(5)))) == 2  # three, and their folder


def test_the_least_likely_by_chance_is_named_first() -> None:
    found = counted(("bad", 20, 8), ("worse", 20, 16), *((f"s{i}", 20, 0) for i in range(10)))
    assert [s.group for s in found if s.kind == "speaker"] == ["worse", "bad"]


@pytest.mark.parametrize(("count", "of", "share"), [(3, 20, 0.01), (1, 5, 0.5), (9, 20, 0.02), (60, 300, 0.1)])
def test_the_tail_is_that_of_the_binomial_distribution(count: int, of: int, share: float) -> None:
    """Against exact fractions."""
    p, unit = Fraction(share).as_integer_ratio()
    exact = Fraction(sum(math.comb(of, k) * p**k * (unit - p) ** (of - k) for k in range(count, of + 1)), unit**of)
    assert _tail(count, of, share) == pytest.approx(float(exact), rel=1e-9)
