"""Which class of phones became which: vowels, stops, fricatives, ... of TIMIT's own grouping."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from data.text.phones import CLASSES_BY_MANNER, MANNER
from trainer.scoring.alignment import Edit

OTHER, NOTHING = "others", "nothing"


@dataclass(frozen=True)
class ClassConfusion:
    """Counts of aligned pairs of phones by the classes of both."""

    counts: Counter[tuple[str, str]]
    """(Class spoken, class written) -> pairs, those that are right too. NOTHING: inserted, or deleted."""
    num_hits: Counter[str]
    """Class -> phones that were recognised as they are."""

    @property
    def names(self) -> list[str]:
        """The classes that occur, in TIMIT's order, then those that no class holds."""
        met = {name for pair in self.counts for name in pair}
        return [name for name in (*CLASSES_BY_MANNER, OTHER) if name in met]

    def num_reference(self, name: str) -> int:
        """Phones of the class in the references."""
        return sum(n for (spoken, _), n in self.counts.items() if spoken == name)

    def wrong_rate(self, name: str) -> float | None:
        """The share of the class' phones that were deleted or taken for another phone, of the same class too; None
        where there are no such phones."""
        total = self.num_reference(name)
        return (total - self.num_hits[name]) / total if total else None


def are_timits(alignments: Iterable[Iterable[Edit]]) -> bool:
    """Whether all that was said are TIMIT's phones, which alone have classes."""
    said = {edit.reference for alignment in alignments for edit in alignment if edit.reference}
    return bool(said) and said <= MANNER.keys()


def by_class(alignments: Iterable[Iterable[Edit]]) -> ClassConfusion:
    """The confusions of alignments of phones, by class.

    >>> found = by_class([[Edit("substitution", "s", "z"), Edit("hit", "iy", "iy"), Edit("deletion", "t", "")]])
    >>> found.counts["fricatives", "fricatives"], found.counts["stops", NOTHING], found.wrong_rate("vowels")
    (1, 1, 0.0)
    """
    counts, hits = Counter[tuple[str, str]](), Counter[str]()
    for edit in (edit for alignment in alignments for edit in alignment):
        spoken = MANNER.get(edit.reference, OTHER) if edit.reference else NOTHING
        counts[spoken, MANNER.get(edit.hypothesis, OTHER) if edit.hypothesis else NOTHING] += 1
        hits[spoken] += edit.kind == "hit"
    return ClassConfusion(counts, hits)
