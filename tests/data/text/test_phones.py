"""TIMIT's phones (data.text.phones) against the groups of Lee and Hon's paper, and against a scoring by hand."""

from __future__ import annotations

import random
from itertools import groupby

import pytest

from data.text.phones import MANNER, PHONE_SETS, TO_39, TO_48, PhoneScoring, fold

# Lee and Hon 1989, section II: allophones that one model stands for, and what is not counted as an error
ALLOPHONES = {"ux": "uw", "axr": "er", "ax-h": "ax", "em": "m", "nx": "n", "eng": "ng", "hv": "hh",
              "h#": "sil", "pau": "sil", "pcl": "cl", "tcl": "cl", "kcl": "cl", "bcl": "vcl", "dcl": "vcl",
              "gcl": "vcl"}  # fmt: skip
ONE_CLASS = [
    {"sil", "cl", "vcl", "epi"},
    {"el", "l"},
    {"en", "n"},
    {"sh", "zh"},
    {"ao", "aa"},
    {"ih", "ix"},
    {"ah", "ax"},
]
PUBLISHED_39 = """aa ae ah aw ay b ch d dh dx eh er ey f g hh ih iy jh k l m n ng ow oy p r s sh sil t th uh uw v w y
z""".split()  # noqa: SIM905


def test_sets_have_61_48_and_39_classes() -> None:
    assert {name: len(labels) for name, labels in PHONE_SETS.items()} == {
        "phones61": 61,
        "phones48": 48,
        "phones39": 39,
    }
    assert list(PHONE_SETS["phones39"]) == sorted(PUBLISHED_39)


def test_folding_is_lee_and_hons() -> None:
    assert {label: target for label, target in TO_48.items() if label != target} == ALLOPHONES
    found = {target: {c for c in PHONE_SETS["phones48"] if TO_39[c] == target} for target in PHONE_SETS["phones39"]}
    assert [group for group in ONE_CLASS if group not in found.values()] == []
    assert sum(len(group) > 1 for group in found.values()) == len(ONE_CLASS)


@pytest.mark.parametrize("first", ["phones61", "phones48", "phones39"])
def test_a_text_is_scored_alike_whatever_classes_it_was_written_in(first: str) -> None:
    rng = random.Random(0)
    labels = rng.choices(PHONE_SETS["phones61"], k=500)
    for silences in ("kept", "merged", "removed"):
        scoring = PhoneScoring(silences)  # type: ignore[arg-type]
        assert scoring(" ".join(fold(labels, first))) == scoring(" ".join(labels))


def test_silences_are_kept_merged_or_removed() -> None:
    """Reference: itertools.groupby and a filter over the folded labels."""
    rng = random.Random(1)
    for _ in range(50):
        labels = rng.choices(["h#", "tcl", "pau", "epi", "q", "s", "iy", "zh"], k=12)
        folded = fold(labels, "phones39")
        merged = [label for key, run in groupby(folded) for label in (["sil"] if key == "sil" else run)]
        text = " ".join(labels)
        assert PhoneScoring("kept")(text).split() == folded
        assert PhoneScoring("merged")(text).split() == merged
        assert PhoneScoring("removed")(text).split() == [label for label in folded if label != "sil"]


def test_times_of_merged_silences_reach_from_the_first_to_the_last() -> None:
    spans = [[0, 10, "h#", 0.5], [10, 12, "q", 0.9], [12, 20, "tcl", 0.7], [20, 25, "t", 0.8]]
    assert PhoneScoring("merged").spans(spans) == [[0, 20, "sil", 0.5], [20, 25, "t", 0.8]]
    assert PhoneScoring("removed").spans(spans) == [[20, 25, "t", 0.8]]


def test_what_is_no_phone_counts_as_an_error() -> None:
    assert PhoneScoring()("s [UNK] hello") == "s [UNK] hello"


def test_every_class_that_is_scored_has_a_manner() -> None:
    assert set(MANNER) == set(PHONE_SETS["phones48"]) | set(PHONE_SETS["phones39"])
