"""A transcript as words in a model's units, with what became of every character that has none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise

from data.text.normalise import NORMALIZERS, collapse_spaces, impossible_character, normalizer
from data.text.spelling import AS_IS, CANDIDATES
from data.text.vocab import Vocab, merges
from trainer.errors import CorpusError

RULES = (*NORMALIZERS, "none")
"""How a transcript is normalised before it is spelled; none: not at all."""


@dataclass(frozen=True)
class SpelledWord:
    """What stands between two spaces of the transcript."""

    text: str
    """As the transcript has it."""
    units: tuple[str, ...]
    """What is aligned, a space for a delimiter within; empty where nothing of it has a unit."""
    is_silent: bool
    """Whether nothing of it is spoken, as of a dash."""


@dataclass(frozen=True)
class SpelledText:
    words: tuple[SpelledWord, ...]
    lost: Counter[str]
    """How often each character (or phoneme) has no unit. It is left out of its word's units."""

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """Each word's number among those with units; of a word without any, the number of the next one that has."""
        return tuple(accumulate((bool(word.units) for word in self.words[:-1]), initial=0))

    def frames_needed(self, *, delimiter: bool) -> tuple[int, int]:
        """(Units, repeats between which CTC needs a blank) of everything that is aligned."""
        units: list[str] = []
        for word in self.words:
            if word.units:
                units += [" "] * (delimiter and bool(units)) + list(word.units)
        return len(units), sum(a == b for a, b in pairwise(units))


def spell_text(text: str, vocab: Vocab, rule: str = "plain", language: str = "") -> SpelledText:
    """`text` as words in the units of `vocab`, in the case and Unicode form in which it can write the most of it.

    Each word is normalised by itself, so that it keeps its text. CorpusError where the text has no word, or holds what
    no transcript has.
    """
    if character := impossible_character(text):
        raise CorpusError(f"the transcript holds {character}, which no text has. Is it in another encoding?")
    words = text.split()
    if not words:
        raise CorpusError("the transcript is empty. Write down what is said.")
    normalise = collapse_spaces if rule == "none" or vocab.phonemes else normalizer(rule, language)
    normalised = [collapse_spaces(normalise(word)) for word in words]
    if not any(normalised):
        raise CorpusError(f"the transcript has no word, only {text.strip()[:20]!r}. Write down what is said.")
    vocab.refuse_delimiter(normalised)
    vocab = _spelled_best(vocab, normalised)
    lost: Counter[str] = Counter()
    for word in normalised:
        lost += vocab.unseen(word)
    split = _splitter(vocab)
    return SpelledText(
        tuple(SpelledWord(word, split(plain), not plain) for word, plain in zip(words, normalised, strict=True)), lost
    )


def _spelled_best(vocab: Vocab, words: Sequence[str]) -> Vocab:
    if vocab.spelling != AS_IS:
        return vocab
    text = " ".join(words)
    candidates = [replace(vocab, spelling=spelling) for spelling in CANDIDATES]
    if vocab.phonemes:
        candidates = [candidate for candidate in candidates if not merges(candidate, words)]
    return min(candidates, key=lambda candidate: candidate.unseen(text).total())


def _splitter(vocab: Vocab) -> Callable[[str], tuple[str, ...]]:
    known = vocab.writable | ({" "} if vocab.word_delimiter is not None else set())

    def split(word: str) -> tuple[str, ...]:
        units = [unit for unit in vocab.split(word) if unit in known]
        while units and units[0] == " ":
            units.pop(0)
        while units and units[-1] == " ":
            units.pop()
        return tuple(units)

    return split
