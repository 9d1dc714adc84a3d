"""What the doctor says on a terminal: the worst utterances and why, speakers and folders, and how many there are."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from data.plural import counted
from trainer.doctor.suspect import Suspect
from trainer.signs.groups import Standout
from trainer.signs.sign import SURER

WIDTH = 80
INDENT = "       "
MOST_REASONS = 3
"""Reasons that are told of an utterance; doctor.jsonl has all."""
MOST_GROUPS = 10


def tell(suspects: Sequence[Suspect], groups: Sequence[Standout], notes: Iterable[str], top: int) -> Iterator[str]:
    """Lines of at most WIDTH characters (but for words that are longer), of the `top` worst utterances."""
    for note in notes:
        yield from _wrapped(f"note: {note}", "", "      ")
    with_signs = (suspect for suspect in suspects if suspect.signs)  # one without may have a higher score
    for suspect in islice(with_signs, top):
        yield f"{suspect.score:5.3f}  {suspect.id}"
        yield from _wrapped(f"text: {suspect.text}", INDENT, INDENT + "      ")
        for sign in suspect.signs[:MOST_REASONS]:
            yield from _wrapped(f"{sign.certainty}: {sign.name}: {sign.what}", INDENT, INDENT + "  ")
        if (more := len(suspect.signs) - MOST_REASONS) > 0:
            yield f"{INDENT}and {counted(more, 'more reason')}"
    if groups:
        yield "speakers and folders that show a sign far more often than the others:"
        for standout in groups[:MOST_GROUPS]:
            yield from _wrapped(standout.describe(), "  ", "    ")
    yield count_line(suspects)


def count_line(suspects: Sequence[Suspect]) -> str:
    """How many utterances are wrong, by the surest sign of each."""
    surest = Counter(_surest(suspect) for suspect in suspects)
    told = ", ".join(f"{surest[certainty]} {said}" for certainty, said in
                     (("certain", "certainly wrong"), ("likely", "likely"), ("possible", "possibly")))  # fmt: skip
    return f"of {counted(len(suspects), 'utterance')}: {told}, {surest['']} without a sign"


def _surest(suspect: Suspect) -> str:
    return min((sign.certainty for sign in suspect.signs), key=SURER.__getitem__, default="")


def _wrapped(text: str, first: str, then: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=then, break_long_words=False, break_on_hyphens=False
    )
