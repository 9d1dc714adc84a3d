"""Which word became which: jiwer's alignment of a reference and a hypothesis, edit by edit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple

import jiwer

from data.text.normalise import collapse_spaces

Kind = Literal["hit", "substitution", "insertion", "deletion"]
KINDS: dict[str, Kind] = {
    "equal": "hit",
    "substitute": "substitution",
    "insert": "insertion",
    "delete": "deletion",
}


class Edit(NamedTuple):
    """One step of an alignment; an insertion has no reference, a deletion no hypothesis."""

    kind: Kind
    reference: str
    hypothesis: str


def align_words(reference: str, hypothesis: str) -> list[Edit]:
    """The edits that `trainer.scoring.metrics` counts, in their order; words are what white space separates.

    >>> [edit.kind for edit in align_words("so it goes", "so goes")]
    ['hit', 'deletion', 'hit']
    """
    if not reference.split():  # for an empty reference jiwer counts otherwise
        return [Edit("insertion", "", word) for word in hypothesis.split()]
    out = jiwer.process_words(collapse_spaces(reference), collapse_spaces(hypothesis))
    return _edits(out.alignments[0], out.references[0], out.hypotheses[0])


def align_characters(reference: str, hypothesis: str) -> list[Edit]:
    """As `align_words`, character by character; the single spaces between words count."""
    reference, hypothesis = collapse_spaces(reference), collapse_spaces(hypothesis)
    if not reference:
        return [Edit("insertion", "", character) for character in hypothesis]
    out = jiwer.process_characters(reference, hypothesis)
    return _edits(out.alignments[0], out.references[0], out.hypotheses[0])


def count_confusions(alignments: Iterable[Iterable[Edit]]) -> Counter[Edit]:
    """How often each error occurs; hits are left out."""
    return Counter(edit for alignment in alignments for edit in alignment if edit.kind != "hit")


def _edits(chunks: list[jiwer.AlignmentChunk], reference: list[str], hypothesis: list[str]) -> list[Edit]:
    edits = []
    for chunk in chunks:
        before = reference[chunk.ref_start_idx : chunk.ref_end_idx]
        after = hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]
        number = max(len(before), len(after))  # an insertion or deletion has one empty side
        pairs = zip(before or [""] * number, after or [""] * number, strict=True)
        edits += [Edit(KINDS[chunk.type], a, b) for a, b in pairs]
    return edits


def ranked(confusions: Counter[Edit]) -> list[tuple[Edit, int]]:
    """The confusions with their counts, most frequent first, equally frequent ones in alphabetical order."""
    return sorted(confusions.items(), key=lambda item: (-item[1], item[0]))
