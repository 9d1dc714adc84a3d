"""What has no unit in a vocabulary, in words: how often it occurs, and where it stands first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from data.text.vocab import Vocab
from data.utterance import Utterance


def pieces_of(vocab: Vocab) -> str:
    """What it is that has a unit or none."""
    if not vocab.phonemes:
        return "characters"
    return "units" if vocab.units_are == "spaced" else "phones"


def describe_unseen(missing: Counter[str], places: Mapping[str, str] | None = None) -> str:
    """The five most frequent, with their counts and, if `places` are given, where each stands first.

    >>> describe_unseen(Counter("abba5")), describe_unseen(Counter("zz"), {"z": "dev.csv:7"})
    ("'a' 2, 'b' 2, '5' 1", "'z' 2 from dev.csv:7 on")
    """
    more = f", and {len(missing) - 5} others" if len(missing) > 5 else ""
    places = places or {}
    shown = (
        f"{piece!r} {count}" + (f" from {places[piece]} on" if piece in places else "")
        for piece, count in missing.most_common(5)
    )
    return ", ".join(shown) + more


def first_places(
    missing: Counter[str], utterances: Sequence[Utterance], texts: Sequence[str], vocab: Vocab
) -> dict[str, str]:
    """Where each of those that `describe_unseen` names stands first in the normalised `texts` of `utterances`."""
    wanted, places = {piece for piece, _ in missing.most_common(5)}, dict[str, str]()
    for i, text in enumerate(texts):
        if not wanted:
            break
        for piece in wanted & vocab.unseen(text).keys():
            places[piece] = utterances[i].origin
            wanted.discard(piece)
    return places
