"""Whose transcript is it? What the model writes for a recording, searched for among all transcripts of the corpus.

Transcripts are found by the pieces of text that they share with what was written, rare ones above all; only a few are
then compared edit by edit. So the time grows with the size of the corpus, and not with its square.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import jiwer
import numpy as np

LENGTH = 4
"""Characters (or phones) of a piece of text."""
MOST_TEXTS = 500
"""A piece that stands in more texts than this (and in more than a hundredth) tells little, and is left out."""
NUM_COMPARED = 8
"""Texts that are compared edit by edit."""


@dataclass(frozen=True)
class Match:
    """A text that is like what was written."""

    text: int
    """Its number in TextIndex.texts."""
    rate: float
    """Edits between the two, divided by the length of the longer one: 0 to 1."""


class TextIndex:
    """All different texts of a corpus, to be searched for similar ones."""

    def __init__(self, texts: Iterable[str], *, phones: bool = False) -> None:
        """`phones`: whether the units of the texts stand between spaces."""
        self.phones = phones
        self.numbers: dict[str, int] = {}
        """Each different text, and its number."""
        of_text: list[int] = []
        for text in texts:
            of_text.append(self.numbers.setdefault(text, len(self.numbers)))
        self.of_text = np.array(of_text, np.int64)
        """The number of each text that was given."""
        self.texts = list(self.numbers)
        pieces = [np.unique(self._pieces(text)) for text in self.texts]
        owners = np.repeat(np.arange(len(pieces), dtype=np.int32), [len(p) for p in pieces])
        flat = np.concatenate(pieces) if pieces else np.empty(0, np.int64)
        order = np.argsort(flat, kind="stable")
        self._pieces_sorted, self._owners = flat[order], owners[order]

    def search(self, written: str, *, but: int = -1) -> list[Match]:
        """The texts that are most like `written`, the most like first, without number `but`."""
        wanted = np.unique(self._pieces(written))
        begins = np.searchsorted(self._pieces_sorted, wanted, "left")
        ends = np.searchsorted(self._pieces_sorted, wanted, "right")
        most = max(MOST_TEXTS, len(self.texts) // 100)
        kept = (ends > begins) & (ends - begins <= most)
        if not kept.any():
            return []
        owners = np.concatenate([self._owners[b:e] for b, e in zip(begins[kept], ends[kept], strict=True)])
        weights = np.repeat(np.log1p(len(self.texts) / (ends - begins)[kept]), (ends - begins)[kept])
        found, place = np.unique(owners, return_inverse=True)
        weight = np.bincount(place, weights)
        best = found[np.argsort(-weight, kind="stable")][: NUM_COMPARED + 1]
        matches = [Match(int(k), self.rate(written, self.texts[k])) for k in best if k != but]
        return sorted(matches, key=lambda match: match.rate)[:NUM_COMPARED]

    def rate(self, one: str, other: str) -> float:
        """Edits between two texts over the length of the longer one."""
        a, b = self._units(one), self._units(other)
        return edits(a, b) / max(len(a), len(b), 1)

    def length(self, text: str) -> int:
        """How many units a text has."""
        return len(self._units(text))

    def _units(self, text: str) -> Sequence[str]:
        return text.split() if self.phones else text

    def _pieces(self, text: str) -> np.ndarray:
        """int64: a number for each piece of `text`, the same for the same piece in any process."""
        units = self._units(text)
        pieces = [units[i : i + LENGTH] for i in range(max(1, len(units) - LENGTH + 1))]
        return np.array([zlib.crc32("\x00".join(piece).encode(errors="surrogatepass")) for piece in pieces], np.int64)


def edits(one: Sequence[str], other: Sequence[str]) -> int:
    """Edits between two sequences of units."""
    if not one or not other:
        return len(one) + len(other)
    if isinstance(one, str) and isinstance(other, str):
        found = jiwer.process_characters(one, other)
    else:
        found = jiwer.process_words(" ".join(one), " ".join(other))
    return found.substitutions + found.insertions + found.deletions


@dataclass(frozen=True)
class Swap:
    """Which other transcript the recording of an utterance fits."""

    position: int
    """An utterance that has this transcript, in corpus order: the one that has this one's in turn, else the nearest."""
    num_owners: int
    """How many utterances have it."""
    own_rate: float
    """Edits between what was written and the utterance's own transcript, as a share of the longer."""
    rate: float
    """The same for the other transcript."""
    is_mutual: bool = False
    """Whether the recording of `position` fits this one's transcript in turn."""
    shift: int = 0
    """By how many rows a whole stretch around it is shifted; 0: it is not."""


SURE = 0.4
"""At most so much of what was written may differ from the other transcript."""
DIFFERS = 0.4
"""At least so much of what was written differs from its own transcript. With less, words are missing or added."""
TIMES = 2.0
"""Its own transcript differs at least so many times as much."""
FEWEST = 8
"""What was written is at least so long, in units: a short text matches many."""
FEW_WORDS = 3
"""At least so many words of its own transcript are others; with fewer only a swapped pair is believed."""
MOST_AS_GOOD = 3
"""Where more texts match as well, the corpus has few different sentences, and one matches by chance."""
STRETCH = 3
"""Neighbours whose transcripts are shifted alike make a stretch."""


def find_swaps(
    hypotheses: Sequence[str], texts: Sequence[str], suspects: Iterable[int], *, phones: bool
) -> dict[int, Swap]:
    """{Position: the transcript that fits} of those `suspects` whose words match another transcript much better.

    `hypotheses` and `texts`, normalised alike, are of all utterances in corpus order.
    """
    index = TextIndex(texts, phones=phones)
    owners: dict[int, list[int]] = {}
    for position, number in enumerate(index.of_text.tolist()):
        owners.setdefault(number, []).append(position)
    better: dict[int, tuple[Match, float]] = {}
    for position in suspects:
        fits = _better_match(index, hypotheses[position], texts[position])
        if fits is not None:
            better[position] = fits
    found: dict[int, Swap] = {}
    for position, (match, own_rate) in better.items():
        own, others = int(index.of_text[position]), owners[match.text]
        mutual = [at for at in others if at in better and better[at][0].text == own]
        if not mutual and edits(hypotheses[position].split(), texts[position].split()) < FEW_WORDS:
            continue
        other = min(mutual or others, key=lambda at: abs(at - position))
        found[position] = Swap(other, len(others), own_rate, match.rate, is_mutual=bool(mutual))
    return _with_shifts(found)


def _better_match(index: TextIndex, written: str, own: str) -> tuple[Match, float] | None:
    """(The other text that `written` fits much better, how much differs from its `own`); None where none does."""
    if index.length(written) < FEWEST:
        return None
    own_rate = index.rate(written, own)
    matches = index.search(written, but=index.numbers[own]) if own_rate >= DIFFERS else []
    if not matches or matches[0].rate > SURE or own_rate < TIMES * max(matches[0].rate, 0.05):
        return None
    if sum(match.rate <= matches[0].rate + 0.02 for match in matches) > MOST_AS_GOOD:
        return None
    return matches[0], own_rate


def _with_shifts(found: dict[int, Swap]) -> dict[int, Swap]:
    """Mark those whose neighbours have been shifted by as many rows."""
    shifted = dict(found)
    for position, swap in found.items():
        shift = swap.position - position
        around = [at - position for at in range(position - STRETCH + 1, position + STRETCH)
                  if at in found and found[at].position - at == shift]  # fmt: skip
        if len(around) >= STRETCH and not swap.is_mutual:
            shifted[position] = replace(swap, shift=shift)
    return shifted
