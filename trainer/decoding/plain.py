"""What trainer.decoding.fusion adds, for one beam at a time and in plain numbers."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from functools import lru_cache

from torch import Tensor

from trainer.decoding.fusion import IMPOSSIBLE, Fusion
from trainer.decoding.hashing import BITS, EMPTY, HashTable
from trainer.decoding.ngram import NgramModel

REMEMBERED = 65_536
"""Ends of words whose scores are kept in memory."""


Place = tuple[int, int, int]
"""Where a beam is: its traits WORD, CONTEXT and HOT of trainer.decoding.beam.State."""


class PlainFusion:
    """The same scores as those of a `Fusion`, whichever device that is on."""

    def __init__(self, fusion: Fusion) -> None:
        self.weights = fusion.weights
        self.start: Place = EMPTY, fusion.start, fusion.hot_start
        self.maps = [(factor & BITS, addend & BITS) for factor, addend in fusion.unit_maps.T.tolist()]
        self.is_boundary: list[bool] = fusion.is_boundary.tolist()
        self.model = None if fusion.model is None else _Model(fusion.model)
        self.words = None if fusion.words is None else _Table(fusion.words)
        self.unit_words: list[int] | None = None if fusion.unit_words is None else fusion.unit_words.tolist()
        self.lexicon = None if fusion.lexicon is None else _Table(fusion.lexicon)
        self.beginnings = None if fusion.beginnings is None else _Table(fusion.beginnings)
        hot = fusion.hot_words
        self.hot = None if hot is None else (_view(hot.following), _view(hot.gains), _view(hot.at_end))
        self.ended = lru_cache(REMEMBERED)(self._ended)

        of_word = max(0.0, self.weights.word) + max(0.0, self.weights.unknown)
        of_hot = [0.0] * fusion.num_units if hot is None else hot.gains.amax(0).tolist()
        is_scored = self.is_boundary if self.unit_words is None else [True] * fusion.num_units
        self.most = [most + of_word if scored else most for most, scored in zip(of_hot, is_scored, strict=True)]
        """What each unit adds at most: a model's probability is 1 at most, and its weight is not negative."""
        self.may_add: frozenset[int] = frozenset(fusion.may_add.nonzero()[:, 0].tolist())
        """The units that may add something."""
        self.adding = self.may_add if self.beginnings is None else frozenset(range(fusion.num_units))
        """Those, and the units that the lexicon may rule out."""

    def gain(self, place: Place, unit: int) -> float:
        """What `unit` adds behind `place`; IMPOSSIBLE where the lexicon has no such word."""
        (word, context, hot), gain = place, 0.0
        if self.unit_words is not None and self.model is not None:
            number = self.unit_words[unit]
            if number >= 0:
                gain = self.weights.lm * self.model.score(context, number)[0] + self.weights.word
        elif self.is_boundary[unit]:
            gain = self.ended(word, context)[0]
        elif self.beginnings is not None and self.beginnings.find(self.longer(word, unit)) is None:
            return IMPOSSIBLE
        return gain if self.hot is None else gain + self.hot[1][hot, unit]

    def follow(self, place: Place, unit: int) -> Place:
        """The place behind `unit`."""
        word, context, hot = place
        if unit not in self.may_add:
            return self.longer(word, unit), context, hot
        if self.unit_words is not None and self.model is not None:
            number = self.unit_words[unit]
            if number >= 0:
                context = self.model.score(context, number)[1]
        elif self.is_boundary[unit]:
            context = self.ended(word, context)[1]
        word = EMPTY if self.is_boundary[unit] else self.longer(word, unit)
        return word, context, hot if self.hot is None else self.hot[0][hot, unit]

    def after_string(self, place: Place, units: Iterable[int]) -> Place | None:
        """The place behind `units` that add nothing; None where the lexicon rules them out."""
        word, context, hot = place
        for unit in units:
            word = self.longer(word, unit)
        if self.beginnings is not None and self.beginnings.find(word) is None:
            return None
        return word, context, hot

    def longer(self, word: int, unit: int) -> int:
        """The hash of a word with one more unit."""
        factor, addend = self.maps[unit]
        return (word * factor + addend) & BITS

    def at_end(self, place: Place) -> float:
        """What the end of the utterance adds: the last word, the end of the sentence, and hot words."""
        (word, context, hot), gain = place, 0.0
        if self.unit_words is None:
            gain, context = self.ended(word, context)
        if self.model is not None and self.model.end is not None:
            gain += self.weights.lm * self.model.score(context, self.model.end)[0]
        return gain if self.hot is None else gain + self.hot[2][hot]

    def _ended(self, word: int, context: int) -> tuple[float, int]:
        """(What the end of the word that is being written adds, the context behind it); nothing for no word."""
        if word == EMPTY:
            return 0.0, context
        gain = self.weights.word
        if self.lexicon is not None and self.lexicon.find(word) is None:
            gain = IMPOSSIBLE
        if self.model is None or self.words is None:
            return gain, context
        number = self.words.find(word)
        if number is None:
            number, gain = self.model.unknown, gain + self.weights.unknown
        log_prob, context = self.model.score(context, number)
        return gain + self.weights.lm * log_prob, context


def _view(tensor: Tensor) -> memoryview:
    """The numbers of a tensor as Python's own, without a copy on a CPU."""
    return tensor.detach().cpu().contiguous().numpy().data


class _Table:
    """trainer.decoding.hashing.HashTable for one hash at a time."""

    def __init__(self, table: HashTable) -> None:
        self.hashes, self.values = _view(table.hashes), _view(table.values)

    def find(self, word: int) -> int | None:
        word = word if word < 1 << 63 else word - (1 << 64)
        place = bisect_left(self.hashes, word)
        return self.values[place] if place < len(self.hashes) and self.hashes[place] == word else None


class _Model:
    """trainer.decoding.ngram.NgramModel for one word at a time."""

    def __init__(self, model: NgramModel) -> None:
        self.num_words, self.root = len(model.words), model.root
        self.unknown, self.end = model.unknown, model.end
        self.keys, self.log_probs, self.backoffs = _view(model.keys), _view(model.log_probs), _view(model.backoffs)
        self.links, self.contexts = _view(model.links), _view(model.contexts)

    def score(self, context: int, word: int) -> tuple[float, int]:
        """(log p(word | context), the next context)."""
        node, total = word, 0.0
        while context != self.root:
            key = context * self.num_words + word
            place = bisect_left(self.keys, key)
            if place < len(self.keys) and self.keys[place] == key:
                node = place + self.num_words
                break
            total += self.backoffs[context]
            context = self.links[context]
        return total + self.log_probs[node], self.contexts[node]
