"""Estimate an n-gram model: interpolated modified Kneser-Ney (Chen and Goodman 1999), as KenLM's lmplz computes it.

Counts: the longest n-grams are counted as they stand. Of shorter ones it counts how many different words stand before
them, but for those that begin with <s>, before which nothing stands. Discounts of counts 1, 2, and 3 or more come from
how many n-grams have each count. What is discounted goes to the next shorter n-gram, and from single words to all words
alike, <unk> among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.decoding.ngram import BEGIN, END, UNKNOWN, Level
from trainer.errors import CorpusError

FALLBACK = (0.5, 1.0, 1.5)
"""Discounts where the text is too small to estimate them, those of lmplz --discount_fallback."""


@dataclass(frozen=True)
class Estimated:
    words: tuple[str, ...]
    levels: list[Level]
    fallbacks: list[int]
    """Orders whose discounts are FALLBACK."""
    num_sentences: int
    num_tokens: int


@dataclass
class _Counted:
    """The different n-grams of one length."""

    parents: np.ndarray
    """Position of the first n - 1 words among the shorter n-grams."""
    suffixes: np.ndarray
    """Position of the last n - 1 words there."""
    last: np.ndarray
    """The last word."""
    ngrams: np.ndarray
    counts: np.ndarray


def estimate(sentences: Iterable[Sequence[str]], order: int) -> Estimated:
    """The model of `sentences`, lists of words. CorpusError without a word, or over a word that marks a sentence."""
    words = {UNKNOWN: 0, BEGIN: 1, END: 2}
    ids: list[int] = []
    num_sentences = num_tokens = 0
    for number, sentence in enumerate(sentences, 1):
        for word in sentence:
            if word in (UNKNOWN, BEGIN, END):
                raise CorpusError(f"sentence {number} has the word {word}, which a model uses for itself. Take it out.")
        ids.append(1)
        ids.extend(words.setdefault(word, len(words)) for word in sentence)
        ids.append(2)
        num_sentences += 1
        num_tokens += len(sentence)
    if not num_tokens:
        raise CorpusError("the text has no word. Give text files with a sentence a line, or a manifest.")
    counted = _count(np.array(ids, np.int64), order, len(words))
    return _smooth(tuple(words), counted, num_sentences, num_tokens)


def _count(tokens: np.ndarray, order: int, num_words: int) -> list[_Counted]:
    """Raw counts of every length. Single words are all there, also those that never stand in the text."""
    raw = np.bincount(tokens, minlength=num_words)
    every = np.arange(num_words)
    nothing = np.zeros(num_words, np.int64)
    counted = [_Counted(nothing, nothing, every, every[:, None], raw)]
    place = tokens  # the position of the n-gram that begins at each token
    starts = np.arange(len(tokens))
    for n in range(2, order + 1):
        starts = starts[starts + n - 1 < len(tokens)]
        starts = starts[tokens[starts + n - 2] != 2]  # no n-gram goes on behind </s>
        key = place[starts] * num_words + tokens[starts + n - 1]
        found, first, inverse, counts = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
        at = starts[first]
        ngrams = np.stack([tokens[at + k] for k in range(n)], 1)
        counted.append(_Counted(found // num_words, place[at + 1], found % num_words, ngrams, counts))
        longer = np.full(len(tokens), -1, np.int64)
        longer[starts] = inverse
        place = longer
    return counted


def _smooth(words: tuple[str, ...], counted: list[_Counted], num_sentences: int, num_tokens: int) -> Estimated:
    order, fallbacks = len(counted), list[int]()
    levels: list[Level] = []
    lower = np.full(len(words), 1.0 / (len(words) - 1))  # <s> is never predicted
    for n, level in enumerate(counted, 1):
        counts = level.counts.astype(np.int64)
        if n < order:
            longer = counted[n]
            before = np.bincount(longer.suffixes, minlength=len(counts))
            counts = np.where(level.ngrams[:, 0] == 1, counts, before)
        if n == 1:
            counts = np.where(level.last == 1, 0, counts)
        discounts = _discounts(np.bincount(counts, minlength=5)[:5])
        if discounts is None:
            fallbacks.append(n)
            discounts = FALLBACK
        taken = np.array([0.0, *discounts])[np.minimum(counts, 3)]
        parents = level.parents if n > 1 else np.zeros(len(counts), np.int64)
        size = len(counted[n - 2].last) if n > 1 else 1
        total = np.bincount(parents, counts, minlength=size)
        left = np.bincount(parents, taken, minlength=size) / np.maximum(total, 1)
        probs = (counts - taken) / np.maximum(total, 1)[parents]
        shorter = lower[level.suffixes] if n > 1 else lower
        probs = probs + left[parents] * shorter
        if n > 1:
            with np.errstate(divide="ignore"):
                weights = np.where(total > 0, np.log10(left), 0.0)
            levels[-1].backoffs = np.clip(weights, -99, None).astype(np.float32)
        shown = np.log10(probs)
        if n == 1:
            shown = np.where(level.last == 1, -99.0, shown)  # nobody asks for the probability of <s>
        levels.append(Level(level.ngrams, shown.astype(np.float32), np.zeros(len(counts), np.float32)))
        lower = probs
    return Estimated(words, levels, fallbacks, num_sentences, num_tokens)


def _discounts(n: np.ndarray) -> tuple[float, float, float] | None:
    """Those of counts 1, 2 and 3 or more, from how many n-grams have the counts 0 to 4; None where undefined."""
    if not n[1:4].all():
        return None
    y = n[1] / (n[1] + 2 * n[2])
    found = tuple(float(k - (k + 1) * y * n[k + 1] / n[k]) for k in (1, 2, 3))
    if not all(0 <= d <= k for k, d in enumerate(found, 1)):
        return None
    return found[0], found[1], found[2]
