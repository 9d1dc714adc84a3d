"""The matched-pairs test on segments of sentences (MAPSSWE), as NIST's sc_stats computes it. Plain numbers, no torch.

Gillick and Cox 1989: errors of neighbouring words depend on one another, so a sentence is cut where both systems are
right, and the segments between the cuts are the samples of a paired test. sc_stats cuts at two words that both systems
have right, with no insertion between them. Its alignment is sclite's: a substitution costs 4, an insertion or deletion
3, so that it can hold more errors than the one that the word error rate counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

SUBSTITUTION, GAP = 4, 3
"""sclite's costs; a gap is an insertion or a deletion."""
NUM_GOOD_WORDS = 2
"""Words in a row that both systems have right, and that end a segment."""


@dataclass(frozen=True)
class MatchedPairs:
    """The test of system B against system A; differences are B minus A, so a negative one is a gain."""

    num_segments: int
    errors_a: int
    errors_b: int
    """Errors in all segments, which are all errors of the alignments."""
    mean: float
    """Mean difference of the errors in a segment."""
    deviation: float
    """Standard deviation of the differences, with n - 1; NaN below two segments."""
    z: float
    """Standard normal under "the mean difference is 0"; sc_stats prints it for A minus B, with the other sign."""
    p: float
    """Two-sided p value; NaN below two segments."""


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[int]:
    """Errors at each place of the reference, 2n + 1 numbers for n words: at 2k + 1 whether word k is wrong (0 or 1), at
    2k the words inserted before word k, at 2n those behind the last one.

    Of alignments that cost the same this is sclite's: seen from the end, a pair before an insertion before a deletion.

    >>> align("so it goes".split(), "so goes on".split())
    [0, 0, 0, 1, 0, 0, 1]
    """
    n, m = len(reference), len(hypothesis)
    errors = [0] * (2 * n + 1)
    if reference == hypothesis:
        return errors
    numbers = {word: i for i, word in enumerate(dict.fromkeys([*reference, *hypothesis]))}
    heard = np.array([numbers[word] for word in hypothesis], dtype=np.int32)
    gaps = GAP * np.arange(m + 1, dtype=np.int32)
    costs = np.empty((n + 1, m + 1), dtype=np.int32)
    costs[0] = gaps
    for i, word in enumerate(reference):
        above, row = costs[i], costs[i + 1]
        row[0] = above[0] + GAP
        row[1:] = np.minimum(above[:-1] + SUBSTITUTION * (heard != numbers[word]), above[1:] + GAP)
        row[:] = np.minimum.accumulate(row - gaps) + gaps  # insertions to the left
    i, j = n, m
    while i or j:
        here = costs[i, j]
        is_wrong = int(bool(i and j) and reference[i - 1] != hypothesis[j - 1])
        if i and j and here == costs[i - 1, j - 1] + SUBSTITUTION * is_wrong:
            i, j = i - 1, j - 1
            errors[2 * i + 1] = is_wrong
        elif j and here == costs[i, j - 1] + GAP:
            j -= 1
            errors[2 * i] += 1
        else:
            i -= 1
            errors[2 * i + 1] = 1
    return errors


def segments(a: Sequence[int], b: Sequence[int]) -> list[tuple[int, int]]:
    """(Errors of A, errors of B) in each segment of one sentence, from what `align` found for the two systems.

    A segment begins with an error and goes on until NUM_GOOD_WORDS in a row are right, or until the sentence ends.

    >>> segments([0, 1, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 1, 1])
    [(1, 0), (0, 2)]
    """
    found: list[tuple[int, int]] = []
    num_good = NUM_GOOD_WORDS  # the first error begins a segment wherever it stands
    for place, (of_a, of_b) in enumerate(zip(a, b, strict=True)):
        if of_a or of_b:
            if num_good >= NUM_GOOD_WORDS:
                found.append((0, 0))
            found[-1] = found[-1][0] + of_a, found[-1][1] + of_b
            num_good = 0
        elif place % 2:
            num_good += 1
    return found


def matched_pairs(sentences: Iterable[tuple[Sequence[str], Sequence[str], Sequence[str]]]) -> MatchedPairs:
    """The test over (reference, what A wrote, what B wrote) of each sentence, as words or other units."""
    return of_segments([
        segment for reference, a, b in sentences for segment in segments(align(reference, a), align(reference, b))
    ])  # fmt: skip


def of_segments(pairs: Sequence[tuple[int, int]]) -> MatchedPairs:
    """The test on (errors of A, errors of B) of each segment."""
    n, differences = len(pairs), [b - a for a, b in pairs]
    mean = sum(differences) / n if n else math.nan
    deviation = z = p = math.nan
    if n > 1:
        deviation = math.sqrt(sum((d - mean) ** 2 for d in differences) / (n - 1))
        error = deviation / math.sqrt(n)
        z = mean / error if error else math.copysign(math.inf, mean) if mean else 0.0
        p = math.erfc(abs(z) / math.sqrt(2))
    errors_a, errors_b = (sum(of) for of in zip(*pairs, strict=True)) if pairs else (0, 0)
    return MatchedPairs(n, errors_a, errors_b, mean, deviation, z, p)
