"""What is added to a beam's acoustic score: n-gram model, lexicon, word score and hot words, in terms of unit ids.

Of words a model scores whole ones, when the delimiter behind them is written; any spelling may be written on the way
unless there is a lexicon. Of units (phonemes, or characters) it scores each one as it is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from trainer.decoding.hashing import EMPTY, HashTable, unit_maps
from trainer.decoding.hotwords import HotWords
from trainer.decoding.ngram import NgramModel

IMPOSSIBLE = -torch.inf


@dataclass(frozen=True)
class Weights:
    """How much each part counts."""

    lm: float = 0.5
    """Factor of the model's natural log probability (alpha)."""
    word: float = 0.0
    """Added for each word (beta), or for each unit where the model is one of units."""
    unknown: float = 0.0
    """Added for each word that the model does not know, besides what it gives to <unk>."""


@dataclass(frozen=True)
class Fusion:
    """Tables for one vocabulary. `model` scores words through `words`, or units through `unit_words`."""

    num_units: int
    blank: int
    is_boundary: Tensor
    """bool (V,): units that stand between words."""
    weights: Weights
    device: torch.device
    model: NgramModel | None = None
    words: HashTable | None = None
    """From the hash of a word's units to its number in the model."""
    unit_words: Tensor | None = None
    """int64 (V,): each unit's number in a model of units."""
    lexicon: HashTable | None = None
    """Hashes of the words that may be written; None: all."""
    beginnings: HashTable | None = None
    """Hashes of their beginnings."""
    hot_words: HotWords | None = None

    @cached_property
    def unit_maps(self) -> Tensor:
        """int64 (2, V): how each unit changes the hash of a word or beam (trainer.decoding.hashing)."""
        return unit_maps(self.num_units).to(self.device)

    @cached_property
    def key_and_word_maps(self) -> Tensor:
        """int64 (4, V): the factors by which each unit changes the hash of a beam and that of the word that is being
        written, and the addends. A boundary leaves EMPTY as the word."""
        factors, addends = self.unit_maps
        word_factors, word_addends = self.unit_maps.masked_fill(self.is_boundary, EMPTY)
        return torch.stack([factors, word_factors, addends, word_addends])

    @cached_property
    def may_add(self) -> Tensor:
        """bool (V,): units that may add something to the score of a beam."""
        is_each = self.hot_words is not None or self.unit_words is not None
        return torch.ones_like(self.is_boundary) if is_each else self.is_boundary

    @cached_property
    def _boundaries(self) -> frozenset[int]:
        return frozenset(self.is_boundary.nonzero()[:, 0].tolist())

    @property
    def start(self) -> int:
        return 0 if self.model is None else self.model.start

    @property
    def hot_start(self) -> int:
        return 0 if self.hot_words is None else self.hot_words.start

    def reading(self, units: Sequence[int]) -> tuple[int, ...]:
        """`units` with one delimiter between words and none at the ends, whichever of several is written."""
        read: list[int] = []
        for unit in units:
            if unit not in self._boundaries:
                read.append(unit)
            elif read and read[-1] >= 0:
                read.append(-1)
        return tuple(read[:-1] if read[-1:] == [-1] else read)

    def _ended(self, word: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """(What the end of the word that is being written adds, the context behind it); nothing for no word."""
        is_word = word != EMPTY
        gains = torch.where(is_word, self.weights.word, 0.0)
        if self.lexicon is not None:
            gains = torch.where(is_word & (self.lexicon.find(word, -1) < 0), IMPOSSIBLE, gains)
        if self.model is None or self.words is None:
            return gains, context
        number = self.words.find(word, -1)
        unknown = number < 0
        number = torch.where(unknown, self.model.unknown, number)
        log_prob, after = self.model.score(context, number)
        scored = self.weights.lm * log_prob + torch.where(unknown, self.weights.unknown, 0.0)
        return torch.where(is_word, gains + scored, gains), torch.where(is_word, after, context)

    def extend(
        self, word: Tensor, context: Tensor, hot: Tensor, units: Tensor, longer: Tensor, is_alive: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(What `units` (E,) add where they are written behind `word`, `context` and `hot`, the context behind each of
        them, where the hot words are then). `longer` (E,) are the words with these units. Words are scored where
        `is_alive` (E,)."""
        is_boundary = self.is_boundary.index_select(0, units)
        if self.unit_words is not None and self.model is not None:
            numbers = self.unit_words[units]
            log_prob, after = self.model.score(context, numbers.clamp(min=0))
            gains = torch.where(numbers < 0, 0.0, self.weights.lm * log_prob + self.weights.word)
            context = torch.where(numbers < 0, context, after)
        else:
            gains = torch.zeros(len(units), device=self.device)
            ends = (is_boundary & is_alive).nonzero()[:, 0]
            gains[ends], after = self._ended(word.index_select(0, ends), context.index_select(0, ends))
            if self.model is not None:
                context = context.index_copy(0, ends, after)
        if self.beginnings is not None:
            gains.masked_fill_(~is_boundary & self.is_no_beginning(longer), IMPOSSIBLE)
        if self.hot_words is not None:
            gains, hot = gains + self.hot_words.gains[hot, units], self.hot_words.following[hot, units]
        return gains, context, hot

    def is_no_beginning(self, word: Tensor) -> Tensor:
        """bool (N,): whether no word of the lexicon begins with these units; word (N,), which is not EMPTY."""
        if self.beginnings is None:
            return torch.zeros_like(word, dtype=torch.bool)
        return self.beginnings.find(word, -1) < 0

    def at_end(self, traits: Tensor) -> Tensor:
        """What the end of the utterance adds, of the traits (3, R): the last word, and the end of the sentence."""
        word, context, hot = traits
        if self.unit_words is None:
            gains, context = self._ended(word, context)
        else:
            gains = torch.zeros(word.shape, device=self.device)
        if self.model is not None and self.model.end is not None:
            end, _ = self.model.score(context, torch.full_like(context, self.model.end))
            gains = gains + self.weights.lm * end
        return gains if self.hot_words is None else gains + self.hot_words.at_end[hot]
