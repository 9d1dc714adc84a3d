"""NIST's matched-pairs test (trainer.scoring.mapsswe): hand-made sentences, what sc_stats printed, and sctk itself.

pytest tests/trainer/scoring/test_mapsswe.py
"""

from __future__ import annotations

import math
import random
import re
import subprocess
from pathlib import Path
from statistics import NormalDist

import pytest

from trainer.scoring.mapsswe import align, matched_pairs, of_segments, segments

SCTK = Path("/usr/lib/sctk/bin")
"""Where the Debian package puts it."""
Sentence = tuple[list[str], list[str], list[str]]


def random_sentences(number: int, seed: int) -> list[Sentence]:
    """References of three different words, and two transcripts with errors of every kind, many of them side by side."""
    rng = random.Random(seed)

    def heard(reference: list[str]) -> list[str]:
        written: list[str] = []
        for word in reference:
            chance = rng.random()
            if chance < 0.2:
                written.append(rng.choice("abc"))
            elif chance >= 0.35:
                written.append(word)
            if rng.random() < 0.15:
                written.append(rng.choice("abc"))
        return written

    references = [[rng.choice("abc") for _ in range(rng.randint(1, 12))] for _ in range(number)]
    return [(reference, heard(reference), heard(reference)) for reference in references]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("a b c", "a b c", [0, 0, 0, 0, 0, 0, 0]),
        ("a b c", "a c", [0, 0, 0, 1, 0, 0, 0]),
        ("a b c", "x a b c y y", [1, 0, 0, 0, 0, 0, 2]),
        ("a b", "b c", [0, 1, 0, 0, 1]),  # two substitutions cost 8, a deletion and an insertion 6
        ("a", "b", [0, 1, 0]),
        ("", "a b", [2]),
        ("a b", "", [0, 1, 0, 1, 0]),
    ],
)
def test_alignment_costs_what_sclite_says(reference: str, hypothesis: str, expected: list[int]) -> None:
    assert align(reference.split(), hypothesis.split()) == expected


def words(text: str) -> list[str]:
    return text.split()


def test_two_good_words_in_a_row_end_a_segment_and_one_does_not() -> None:
    reference = words("one two three four five six")
    a = words("one X three four five six")
    far, near = words("one two three four X six"), words("one two three X five six")
    assert segments(align(reference, a), align(reference, far)) == [(1, 0), (0, 1)]
    assert segments(align(reference, a), align(reference, near)) == [(1, 1)]


def test_an_insertion_between_two_good_words_joins_the_segments() -> None:
    reference = words("one two three four")
    assert segments(align(reference, words("X two three four")), align(reference, words("one two Y three X"))) == [
        (1, 2)
    ]


def test_statistic_by_hand() -> None:
    """Reference: five segments whose errors fall by 1, 1, 0, 2 and -1: mean -0.6, variance 1.3."""
    found = of_segments([(1, 0), (2, 1), (1, 1), (2, 0), (0, 1)])
    z = -0.6 / math.sqrt(1.3 / 5)
    assert (found.num_segments, found.errors_a, found.errors_b) == (5, 6, 3)
    assert (found.mean, found.deviation, found.z) == pytest.approx((-0.6, math.sqrt(1.3), z))
    assert found.p == pytest.approx(2 * NormalDist().cdf(z))


def test_without_spread_or_segments() -> None:
    assert of_segments([(1, 1), (2, 2)]).p == 1.0
    assert of_segments([(1, 0), (1, 0)]).p == 0.0
    assert math.isnan(of_segments([(1, 0)]).p)
    assert math.isnan(matched_pairs([(["a"], ["a"], ["a"])]).p)


def test_the_order_of_the_systems_changes_the_sign_alone() -> None:
    sentences = random_sentences(60, 3)
    there = matched_pairs(sentences)
    back = matched_pairs((reference, b, a) for reference, a, b in sentences)
    assert (back.num_segments, back.z, back.p) == (there.num_segments, pytest.approx(-there.z), there.p)


def test_chance_differences_are_found_as_often_as_the_level_says() -> None:
    """400 tests of two systems that differ by chance alone: p below 0.1 in about 10 %, here 6 to 14 %."""
    rng = random.Random(0)
    hits = sum(of_segments([(0, rng.choice([-1, 0, 0, 1])) for _ in range(60)]).p < 0.1 for _ in range(400))
    assert 24 <= hits <= 56


def test_what_sc_stats_printed_for_600_random_sentences() -> None:
    """Reference: sctk 2.4.10 (Debian), sclite -o sgml | sc_stats -p -t mapsswe -v, on the same sentences; z is of A
    minus B there."""
    found = matched_pairs(random_sentences(600, 1))
    assert (found.num_segments, found.errors_a, found.errors_b) == (900, 1271, 1223)
    assert (round(-found.mean, 3), round(found.deviation, 3), round(-found.z, 3)) == (0.053, 1.197, 1.337)


def ask_sctk(sentences: list[Sentence], folder: Path) -> tuple[list[str], str]:
    """(Alignments of the first system, what sc_stats prints of the pair)."""
    for name, which in (("ref", 0), ("a", 1), ("b", 2)):
        text = "".join(f"{' '.join(s[which])} (s{i % 7}-{i:06d})\n" for i, s in enumerate(sentences))
        (folder / name).write_text(text)
    aligned = [
        subprocess.run([SCTK / "sclite", "-r", "ref", "trn", "-h", name, "trn", "-i", "rm", "-o", "sgml", "stdout"],
                       cwd=folder, capture_output=True, check=True).stdout for name in ("a", "b")
    ]  # fmt: skip
    command = [SCTK / "sc_stats", "-p", "-t", "mapsswe", "-v", "-n", "-"]
    printed = subprocess.run(command, input=b"".join(aligned), cwd=folder, capture_output=True).stdout.decode("latin-1")
    paths = re.findall(r'<PATH id="\(s\d-(\d+)\)"[^\n]*\n([^\n]*)\n', aligned[0].decode())
    return ["".join(step[0] for step in line.split(":")) for _, line in sorted(paths)], printed


@pytest.mark.skipif(not (SCTK / "sc_stats").exists(), reason="sctk is not installed (apt-get install sctk)")
def test_sctk_says_the_same_now(tmp_path: Path) -> None:
    """Every alignment of sclite, and segments, errors and z of sc_stats."""
    sentences = random_sentences(600, 1)
    alignments, printed = ask_sctk(sentences, tmp_path)
    for steps, (reference, a, _) in zip(alignments, sentences, strict=True):
        places, k = [0] * (2 * len(reference) + 1), 0
        for step in steps:
            if step == "I":
                places[2 * k] += 1
            else:
                places[2 * k + 1] = int(step != "C")
                k += 1
        assert align(reference, a) == places
    found = matched_pairs(sentences)
    totals = re.search(r"Totals +\d+ +(\d+) +(\d+)", printed)
    figure = r"([-.\d]+)\)"
    told = re.search(rf"# segs: {figure}.*mean: {figure} \(std dev: {figure} \(Z Stat: {figure}", printed)
    assert totals
    assert told
    assert (found.errors_a, found.errors_b) == (int(totals[1]), int(totals[2]))
    assert found.num_segments == int(told[1])
    assert (-found.mean, found.deviation, -found.z) == pytest.approx(tuple(map(float, told.groups()[1:])), abs=0.0006)
