"""Alignments against the edit distance by its definition and against the counts that are scored.

pytest tests/trainer/scoring/test_alignment.py
"""

from __future__ import annotations

from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.scoring.alignment import Edit, align_characters, align_words, count_confusions
from trainer.scoring.metrics import EditCounts, count_character_errors, count_word_errors

TEXTS = st.lists(st.sampled_from(["a", "b", "ab", "ba", "é"]), max_size=7).map(" ".join)


def distance(reference: str, hypothesis: str) -> int:
    """Levenshtein's, by its recursion."""

    @cache
    def of(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        return min(of(i - 1, j) + 1, of(i, j - 1) + 1, of(i - 1, j - 1) + (reference[i - 1] != hypothesis[j - 1]))

    return of(len(reference), len(hypothesis))


def counts(edits: list[Edit]) -> EditCounts:
    return EditCounts(*(sum(e.kind == k for e in edits) for k in ("hit", "substitution", "insertion", "deletion")))


@settings(max_examples=300, deadline=None)
@given(TEXTS, TEXTS)
def test_word_alignment_is_that_of_the_counts_and_reads_back(reference: str, hypothesis: str) -> None:
    edits = align_words(reference, hypothesis)
    assert counts(edits) == count_word_errors(reference, hypothesis)
    assert [e.reference for e in edits if e.kind != "insertion"] == reference.split()
    assert [e.hypothesis for e in edits if e.kind != "deletion"] == hypothesis.split()
    assert all((e.reference == e.hypothesis) == (e.kind == "hit") for e in edits)


@settings(max_examples=300, deadline=None)
@given(TEXTS, TEXTS)
def test_character_alignment_is_a_shortest_one(reference: str, hypothesis: str) -> None:
    edits = align_characters(reference, hypothesis)
    assert counts(edits) == count_character_errors(reference, hypothesis)
    assert counts(edits).num_errors == distance(reference, hypothesis)
    assert "".join(e.reference for e in edits) == reference
    assert "".join(e.hypothesis for e in edits) == hypothesis


def test_confusions_count_what_became_what() -> None:
    """By hand: "to" for "two" twice, "a" put in once, "cats" left out once; hits are none."""
    found = count_confusions([align_words("two red cats", "to red"), align_words("two red dogs", "to red a dogs")])
    assert found == {
        Edit("substitution", "two", "to"): 2, Edit("deletion", "cats", ""): 1, Edit("insertion", "", "a"): 1,
    }  # fmt: skip
