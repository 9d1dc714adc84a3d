"""TIMIT's phones: its 61 labels, their folding to 48 and 39 classes, and the form in which they are scored.

The table is Lee and Hon's (1989, IEEE Trans. ASSP 37(11)), as Kaldi's phones.60-48-39.map has it. The glottal stop `q`
belongs to no class of the 48 and 39. A text of phones has a space between two labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

DELETED = "q"
SILENCE = "sil"
"""The class of the 39 that holds closures, pauses and the silence around a sentence."""

_TABLE = """
aa aa aa    ae ae ae    ah ah ah    ao ao aa    aw aw aw    ax ax ah    ax-h ax ah  axr er er   ay ay ay    b b b
bcl vcl sil ch ch ch    d d d       dcl vcl sil dh dh dh    dx dx dx    eh eh eh    el el l     em m m      en en n
eng ng ng   epi epi sil er er er    ey ey ey    f f f       g g g       gcl vcl sil h# sil sil  hh hh hh    hv hh hh
ih ih ih    ix ix ih    iy iy iy    jh jh jh    k k k       kcl cl sil  l l l       m m m       n n n       ng ng ng
nx n n      ow ow ow    oy oy oy    p p p       pau sil sil pcl cl sil  r r r       s s s       sh sh sh    t t t
tcl cl sil  th th th    uh uh uh    uw uw uw    ux uw uw    v v v       w w w       y y y       z z z       zh zh sh
""".split()  # noqa: SIM905

TO_48 = dict(zip(_TABLE[::3], _TABLE[1::3], strict=True))
"""Label of the 61 -> class of the 48, without `q`."""
TO_39 = {
    **dict(zip(_TABLE[1::3], _TABLE[2::3], strict=True)),
    **dict(zip(_TABLE[::3], _TABLE[2::3], strict=True)),
}
"""Label of the 61, the 48 or the 39 -> class of the 39, without `q`. A label of two sets has one class in both."""

PHONE_SETS: dict[str, tuple[str, ...]] = {
    "phones61": tuple(sorted([*TO_48, DELETED])),
    "phones48": tuple(sorted(set(TO_48.values()))),
    "phones39": tuple(sorted(set(TO_39.values()))),
}
"""The classes of each set, in code point order."""

Silences = Literal["kept", "merged", "removed"]

CLASSES_BY_MANNER = {
    "vowels": ["aa", "ae", "ah", "ao", "aw", "ax", "ay", "eh", "er", "ey", "ih", "ix", "iy", "ow", "oy", "uh", "uw"],
    "stops": ["b", "d", "dx", "g", "k", "p", "t"],
    "affricates": ["ch", "jh"],
    "fricatives": ["dh", "f", "s", "sh", "th", "v", "z", "zh"],
    "nasals": ["en", "m", "n", "ng"],
    "semivowels": ["el", "hh", "l", "r", "w", "y"],
    "silence": ["cl", "epi", "sil", "vcl"],
}  # fmt: skip
"""TIMIT's own groups (PHONCODE.DOC), of the classes of the 48 and 39."""
MANNER = {label: manner for manner, labels in CLASSES_BY_MANNER.items() for label in labels}


def fold(labels: Iterable[str], phones: str) -> list[str]:
    """TIMIT's 61 labels as classes of `phones`, a key of PHONE_SETS; `q` goes, but for the 61 themselves.

    What is folded already stays as it is. KeyError for a label that is none of `foldable`.

    >>> fold(["h#", "q", "ao", "l", "bcl", "b"], "phones39")
    ['sil', 'aa', 'l', 'sil', 'b']
    """
    if phones == "phones61":
        return list(labels)
    table = TO_39 if phones == "phones39" else {**{label: label for label in PHONE_SETS[phones]}, **TO_48}
    return [table[label] for label in labels if label != DELETED]


def foldable(phones: str) -> frozenset[str]:
    """The labels that `fold` takes: TIMIT's 61, and the classes that they may be folded to already."""
    return frozenset(PHONE_SETS["phones61"] + (() if phones == "phones61" else PHONE_SETS[phones]))


@dataclass(frozen=True)
class PhoneScoring:
    """How phones are compared: in the 39 classes, without `q`, and with silences as `silences` says."""

    silences: Silences = "kept"
    """kept: every one counts, neighbours too (Kaldi, ESPnet); merged: neighbouring ones count once (SpeechBrain);
    removed: none counts."""

    def __call__(self, text: str) -> str:
        """A text of phones of any of the sets as it is scored. What is no phone stays, and counts as an error.

        >>> PhoneScoring()("h# tcl t ix q h#"), PhoneScoring("merged")("h# tcl t ix pcl h#")
        ('sil sil t ih sil', 'sil t ih sil')
        """
        return " ".join(span[2] for span in self.spans([[0.0, 0.0, label] for label in text.split()]))

    def spans(self, spans: Iterable[Sequence[Any]]) -> list[list[Any]]:
        """The same of [start, end, label, ...] of each phone; silences that are merged last from the first to the last.

        What stands behind the label is the first one's.
        """
        scored: list[list[Any]] = []
        for start, end, label, *more in spans:
            folded = TO_39.get(label, label)
            if label == DELETED or (folded == SILENCE and self.silences == "removed"):
                continue
            if folded == SILENCE and self.silences == "merged" and scored and scored[-1][2] == SILENCE:
                scored[-1][1] = end
            else:
                scored.append([start, end, folded, *more])
        return scored

    def describe(self) -> str:
        """What is to be said wherever the phone error rate stands."""
        return f"39 classes, q removed, silences {self.silences}"
