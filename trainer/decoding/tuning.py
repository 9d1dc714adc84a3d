"""Weights of a language model from the development split: those with the fewest word errors on it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from data.text.normalise import collapse_spaces
from data.text.vocab import Vocab
from trainer.decoding.decoder import Decoder
from trainer.decoding.fusion import Weights
from trainer.scoring.metrics import count_word_errors, pool

LM_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
WORD_SCORES = (-2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
FINER = (-0.125, 0.0, 0.125), (-0.5, 0.0, 0.5)
"""Around the best pair of the grid: steps of the weight and of the word score."""
MOST_UTTERANCES = 500
"""More are thinned out evenly."""


@dataclass(frozen=True)
class Trial:
    """One pair of weights, and the word errors with it."""

    weights: Weights
    errors: int


def tune(
    decoder: Decoder, vocab: Vocab, log_probs: Sequence[np.ndarray], references: Sequence[str],
    progress: Callable = lambda trials, total: trials,
) -> list[Trial]:  # fmt: skip
    """Every pair of weights that was tried, the best first: the fewest errors, then the smallest weights.

    `log_probs` (T, V) of each utterance of the development split and the `references` beside them.
    """
    every = -(-len(references) // MOST_UTTERANCES)
    log_probs, references = log_probs[::every], references[::every]
    tried: dict[Weights, int] = {}

    def errors_with(weights: Weights) -> int:
        found = decoder.with_weights(weights).decode(log_probs)
        texts = (collapse_spaces(vocab.decode_to_compare(f[0].units)) for f in found)
        return pool(count_word_errors(r, t) for r, t in zip(references, texts, strict=True)).num_errors

    given = decoder.decoding.weights
    grid = [replace(given, lm=lm, word=word) for lm, word in itertools.product(LM_WEIGHTS, WORD_SCORES)]
    for weights in progress(grid, total=len(grid)):
        tried[weights] = errors_with(weights)
    best = _ranked(tried)[0].weights
    around = [replace(best, lm=best.lm + lm, word=best.word + word) for lm, word in itertools.product(*FINER)]
    for weights in around:
        if weights not in tried and weights.lm >= 0:
            tried[weights] = errors_with(weights)
    return _ranked(tried)


def _ranked(tried: dict[Weights, int]) -> list[Trial]:
    def order(weights: Weights) -> tuple[float, ...]:
        return tried[weights], weights.lm, abs(weights.word), weights.word

    return [Trial(weights, tried[weights]) for weights in sorted(tried, key=order)]
