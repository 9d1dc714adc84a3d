"""Error counts (trainer.scoring.metrics) against jiwer on whole lists, and against known values.

pytest tests/trainer/scoring/test_metrics.py
"""

from __future__ import annotations

import math
import random

import jiwer
import pytest

from trainer.scoring.metrics import METRICS, EditCounts, count_character_errors, count_word_errors, pool

WORDS = ["she", "had", "your", "dark", "suit", "in", "greasy", "wash", "water", "all", "year"]


def random_pairs(seed: int, number: int = 40) -> list[tuple[str, str]]:
    """(reference, hypothesis): the reference with words lost, added and changed; some hypotheses empty."""
    rng = random.Random(seed)
    pairs = []
    for _ in range(number):
        reference = rng.choices(WORDS, k=rng.randint(1, 12))
        hypothesis = []
        for word in reference:
            hypothesis += rng.choice([[word], [word], [word], [], [rng.choice(WORDS)], [word, rng.choice(WORDS)]])
        pairs.append((" ".join(reference), " ".join(hypothesis) if rng.random() > 0.05 else ""))
    return pairs


@pytest.mark.parametrize("seed", range(5))
def test_pooled_word_counts_equal_jiwer_on_the_lists(seed: int) -> None:
    """Reference: jiwer.process_words and jiwer.wer on the whole lists; counts are integers, so equal."""
    references, hypotheses = map(list, zip(*random_pairs(seed), strict=True))
    counts = pool(count_word_errors(r, h) for r, h in zip(references, hypotheses, strict=True))
    theirs = jiwer.process_words(references, hypotheses)
    assert counts == EditCounts(theirs.hits, theirs.substitutions, theirs.insertions, theirs.deletions)
    assert counts.rate == jiwer.wer(references, hypotheses)
    assert counts.num_reference == sum(len(r.split()) for r in references)


@pytest.mark.parametrize("seed", range(5))
def test_pooled_character_counts_equal_jiwer_on_the_lists(seed: int) -> None:
    """Reference: jiwer.process_characters and jiwer.cer on the whole lists."""
    references, hypotheses = map(list, zip(*random_pairs(seed), strict=True))
    counts = pool(count_character_errors(r, h) for r, h in zip(references, hypotheses, strict=True))
    theirs = jiwer.process_characters(references, hypotheses)
    assert counts == EditCounts(theirs.hits, theirs.substitutions, theirs.insertions, theirs.deletions)
    assert counts.rate == jiwer.cer(references, hypotheses)
    assert counts.num_reference == sum(map(len, references))


def test_pooled_rate_is_not_the_mean_of_rates() -> None:
    """One error in one word and none in nine: 1/10, not 1/2."""
    pooled = pool([count_word_errors("a", "b"), count_word_errors("a b c d e f g h i", "a b c d e f g h i")])
    assert pooled.rate == 0.1


@pytest.mark.parametrize(
    ("reference", "hypothesis", "hits", "substitutions", "insertions", "deletions"),
    [
        ("a b c", "a b c", 3, 0, 0, 0),
        ("a b c", "a x c", 2, 1, 0, 0),
        ("a b c", "a c", 2, 0, 0, 1),
        ("a b", "a x b", 2, 0, 1, 0),
        ("a b c", "", 0, 0, 0, 3),
        ("a", "x y z", 0, 1, 2, 0),
        ("", "", 0, 0, 0, 0),
        ("", "x y", 0, 0, 2, 0),
        (" ", "x", 0, 0, 1, 0),
        ("", "  ", 0, 0, 0, 0),
    ],
)
def test_word_counts_of_known_pairs(
    reference: str, hypothesis: str, hits: int, substitutions: int, insertions: int, deletions: int
) -> None:
    """Reference: by hand. With an empty reference all that was written is insertions."""
    assert count_word_errors(reference, hypothesis) == EditCounts(hits, substitutions, insertions, deletions)


def test_spaces_between_words_count_as_characters() -> None:
    assert count_character_errors("a b", "ab") == EditCounts(hits=2, deletions=1)
    assert count_character_errors("", "a b") == EditCounts(insertions=3)


@pytest.mark.parametrize("count", [count_word_errors, count_character_errors])
def test_white_space_at_ends_and_doubled_is_no_error(count: type) -> None:
    """The hf-timit normaliser leaves a space at the end of every reference."""
    assert count(" so  it goes ", "so it goes\n").num_errors == 0


def test_case_and_punctuation_count() -> None:
    """jiwer must not normalise behind our back."""
    assert count_word_errors("don't Ask", "dont ask").substitutions == 2


def test_empty_references_add_their_insertions_to_the_pool() -> None:
    """Reference: by hand: 1 substitution and 2 insertions over 4 reference words."""
    counts = pool([count_word_errors("", "x y"), count_word_errors("a b c d", "a b c x")])
    assert counts.rate == 3 / 4


def test_rate_without_reference_words() -> None:
    assert EditCounts().rate == 0.0
    assert EditCounts(insertions=1).rate == math.inf
    assert pool([]) == EditCounts()


def test_sentence_error_rate_is_the_share_of_utterances_that_are_not_right_as_a_whole() -> None:
    """Reference: plain comparison after collapsing white space."""
    pairs = [*random_pairs(7), ("a b", " a  b "), ("", ""), ("", "a")]
    wrong = sum(reference.split() != hypothesis.split() for reference, hypothesis in pairs)
    counts = pool(METRICS["ser"].count(*pair) for pair in pairs)
    assert (counts.num_errors, counts.num_reference) == (wrong, len(pairs))
