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

from trainer.decoding.hashing import EMPTY, HashTable, extend, unit_hashes
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
    def _of_units(self) -> Tensor:
        return unit_hashes(self.num_units).to(self.device)

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

    def extend(self, traits: Tensor, units: Tensor, delimited: Tensor) -> tuple[Tensor, Tensor | None]:
        """What each unit of `units` (B, K) adds to each beam of traits (B, W, 6), and the contexts behind them.

        Returns ((B, W, K), contexts (B, W, K) of a model of units or (B, W) behind a word or None). `delimited`: the
        utterances that have a delimiter among the units.
        """
        _, _, _, word, context, hot = traits.unbind(2)
        shape = (*word.shape, units.shape[1])
        gains = torch.zeros(shape, device=self.device)
        after: Tensor | None = None
        if self.unit_words is not None and self.model is not None:
            numbers = self.unit_words[units][:, None, :].expand(shape)
            wide = context[..., None].expand(shape)
            log_prob, after = self.model.score(wide, numbers.clamp(min=0))
            gains = torch.where(numbers < 0, 0.0, self.weights.lm * log_prob + self.weights.word)
            after = torch.where(numbers < 0, wide, after)
        elif len(delimited):
            ended, behind = self._ended(word[delimited], context[delimited])
            after = context.index_copy(0, delimited, behind)
            is_boundary = self.is_boundary[units[delimited]][:, None, :]
            gains.index_copy_(0, delimited, torch.where(is_boundary, ended[..., None], 0.0))
        if self.beginnings is not None:
            longer = extend(word[..., None], self._of_units[units][:, None, :])
            is_none = (self.beginnings.find(longer, -1) < 0) & ~self.is_boundary[units][:, None, :]
            gains = torch.where(is_none, IMPOSSIBLE, gains)
        if self.hot_words is not None:
            gains = gains + self.hot_words.gains[hot[..., None].expand(shape), units[:, None, :].expand(shape)]
        return gains, after

    def follow(
        self, before: Tensor, unit: Tensor, of_unit: Tensor, slot: Tensor, column: Tensor, after: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(word, context, hot) behind `unit` (B, W), which extends the beams with the traits `before`, once at `slot`;
        `column` is the unit's place among the units of `extend`, and `after` what it returned."""
        _, _, _, word, context, hot = before.unbind(2)
        is_boundary = self.is_boundary[unit]
        if after is not None and after.dim() == 3:
            context = after.flatten(1).gather(1, slot * after.shape[2] + column)
        elif after is not None:
            context = torch.where(is_boundary, after.gather(1, slot), context)
        word = torch.where(is_boundary, EMPTY, extend(word, of_unit))
        if self.hot_words is not None:
            hot = self.hot_words.following[hot, unit]
        return word, context, hot

    def at_end(self, traits: Tensor) -> Tensor:
        """What the end of the utterance adds: the last word, and the end of the sentence."""
        _, _, _, word, context, hot = traits.unbind(2)
        if self.unit_words is None:
            gains, context = self._ended(word, context)
        else:
            gains = torch.zeros(word.shape, device=self.device)
        if self.model is not None and self.model.end is not None:
            end, _ = self.model.score(context, torch.full_like(context, self.model.end))
            gains = gains + self.weights.lm * end
        return gains if self.hot_words is None else gains + self.hot_words.at_end[hot]
