"""How sure the model is of a word it wrote, and one temperature that makes a probability of it.

    logits -> three figures a frame -> of each unit those of its surest frame -> a measure of each unit, 0 to 1
    -> the mean, minimum or product over the word's units -> sigmoid(logit / temperature): P(the word is right)

Frames of the blank and of what stands between words take no part. The measures are the highest posterior, and the
entropies of Gibbs, Tsallis and Renyi normalised by that of a uniform distribution, linearly or exponentially (Laptev
and Ginsburg 2023, "Fast entropy-based methods of word-level confidence estimation for end-to-end ASR"). How well
confidences fit what is right is in trainer.scoring.reliability.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data.text.vocab import Vocab
from trainer.scoring.units import Unit, find_units, group_words

ORDER = 1 / 3
"""Of Tsallis' and Renyi's entropies; below 1, unlikely units weigh more than in Gibbs'. The paper's choice."""
NUM_FIGURES = 3
"""Of a frame: log of the highest posterior, Gibbs' entropy, Renyi's entropy, the entropies negated. 0 is sure."""
FEWEST = 10
"""Right words, and wrong ones, below which no temperature is fitted."""
BOUNDS = (0.05, 20.0)
"""Lowest and highest temperature."""
MARGIN = 1e-6
"""A confidence is taken to be no nearer to 0 or 1, whose logits are infinite."""


def frame_evidence(logits: Tensor) -> Tensor:
    """The NUM_FIGURES of each frame, float32 (..., 3), from logits (..., V); on the logits' device."""
    log_probs = logits.float().log_softmax(-1)
    gibbs = -torch.special.entr(log_probs.exp()).sum(-1)
    renyi = -(ORDER * log_probs).logsumexp(-1) / (1 - ORDER)
    return torch.stack([log_probs.amax(-1), gibbs, renyi], -1).clamp(max=0)


def _linear(negated: np.ndarray, most: float) -> np.ndarray:
    return 1 + negated / most


def _exponential(negated: np.ndarray, most: float) -> np.ndarray:
    return (np.exp(negated) - math.exp(-most)) / -math.expm1(-most)


def _tsallis(renyi: np.ndarray) -> np.ndarray:
    """Tsallis' entropy from Renyi's, both negated and of the same order."""
    return -np.expm1(-(1 - ORDER) * renyi) / (1 - ORDER)


def _most_tsallis(size: int) -> float:
    return math.expm1((1 - ORDER) * math.log(size)) / (1 - ORDER)


Measure = Callable[[np.ndarray, int], np.ndarray]
MEASURES: dict[str, Measure] = {
    "posterior": lambda e, size: np.exp(e[:, 0]),
    "gibbs-linear": lambda e, size: _linear(e[:, 1], math.log(size)),
    "gibbs-exponential": lambda e, size: _exponential(e[:, 1], math.log(size)),
    "tsallis-linear": lambda e, size: _linear(_tsallis(e[:, 2]), _most_tsallis(size)),
    "tsallis-exponential": lambda e, size: _exponential(_tsallis(e[:, 2]), _most_tsallis(size)),
    "renyi-linear": lambda e, size: _linear(e[:, 2], math.log(size)),
    "renyi-exponential": lambda e, size: _exponential(e[:, 2], math.log(size)),
}
"""Name -> function from units' figures (U, 3) and the number of units in the vocabulary to (U,): 1 sure, 0 uniform."""
AGGREGATES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "mean": lambda values, firsts: np.add.reduceat(values, firsts) / np.diff(np.append(firsts, len(values))),
    "min": lambda values, firsts: np.minimum.reduceat(values, firsts),
    "product": lambda values, firsts: np.multiply.reduceat(values, firsts),
}
"""Name -> function from units' measures (U,) and the first unit of each word (W,) to (W,)."""
METHODS = tuple(f"{measure}-{aggregate}" for measure in MEASURES for aggregate in AGGREGATES)
CANDIDATES = ("posterior-product", "renyi-exponential-mean")
"""Those of METHODS among which `calibrate` chooses: of each kind the one whose probabilities fitted best on unseen
speakers (docs/use.md). Among more, a small development split chooses one that fits it by chance."""


@dataclass(frozen=True, eq=False)
class WordEvidence:
    """What the model's confidence in the words of an utterance is computed from."""

    units: np.ndarray
    """float32 (U, 3), U units of all words in order."""
    lengths: np.ndarray
    """int32 (W,), units of each word, at least one."""

    @classmethod
    def of(cls, words: Iterable[Sequence[Unit]]) -> WordEvidence:
        """Of words with their units, whose evidence is that of `frame_evidence`."""
        words = list(words)
        found = [unit.evidence for word in words for unit in word]
        units = np.array(found, np.float32).reshape(len(found), NUM_FIGURES)
        return cls(units, np.array([len(word) for word in words], np.int32))

    @classmethod
    def join(cls, parts: Sequence[WordEvidence]) -> WordEvidence:
        nothing = cls(np.zeros((0, NUM_FIGURES), np.float32), np.zeros(0, np.int32))
        parts = [nothing, *parts]
        return cls(np.concatenate([p.units for p in parts]), np.concatenate([p.lengths for p in parts]))


def written_evidence(ids: np.ndarray, evidence: np.ndarray, vocab: Vocab, num_words: int) -> WordEvidence | None:
    """The evidence for the words of a best path: each frame's best unit (T,) and figures (T, 3).

    None when these are not the `num_words` words that are scored, as where nothing is written between words.
    """
    words = [units for _, units in group_words(find_units(ids, evidence, vocab), vocab)]
    return WordEvidence.of(words) if len(words) == num_words else None


def raw_confidences(method: str, evidence: WordEvidence, size: int) -> np.ndarray:
    """Confidences by `method` of METHODS before calibration, float64 (W,); `size` counts the vocabulary's units."""
    if len(evidence.lengths) == 0:
        return np.zeros(0)
    measure, _, aggregate = method.rpartition("-")
    values = MEASURES[measure](evidence.units.astype(np.float64), size).clip(0, 1)
    return AGGREGATES[aggregate](values, np.cumsum(evidence.lengths) - evidence.lengths)


def uncalibrated(evidence: WordEvidence) -> np.ndarray:
    """The geometric mean of each word's posteriors (W,): what is said where no calibration is known."""
    if len(evidence.lengths) == 0:
        return np.zeros(0)
    firsts = np.cumsum(evidence.lengths) - evidence.lengths
    return np.exp(np.add.reduceat(evidence.units[:, 0].astype(np.float64), firsts) / evidence.lengths)


@dataclass(frozen=True)
class Calibration:
    """How confidences become probabilities, and what that was learnt from."""

    method: str
    """Of METHODS."""
    temperature: float
    split: str
    """The split on which both were chosen."""
    num_words: int
    num_wrong: int
    """Words that the model wrote there, and those of them that are wrong."""

    def confidences(self, evidence: WordEvidence, size: int) -> np.ndarray:
        """P(right) of each word (W,); `size` counts the vocabulary's units."""
        return tempered(raw_confidences(self.method, evidence, size), self.temperature)

    def describe(self) -> str:
        """`renyi-linear-min, temperature 0.53, fitted on dev (374 words, 42 of them wrong)`."""
        return (
            f"{self.method}, temperature {self.temperature:.3g}, fitted on {self.split} ({self.num_words:,} words, "
            f"{self.num_wrong:,} of them wrong)"
        )


def tempered(raw: np.ndarray, temperature: float) -> np.ndarray:
    """sigmoid(logit(raw) / temperature): nearer to one half above 1, farther from it below. The order stays."""
    return 1 / (1 + np.exp(-logit(raw) / temperature))


def logit(raw: np.ndarray) -> np.ndarray:
    kept = raw.clip(MARGIN, 1 - MARGIN)
    return np.log(kept) - np.log1p(-kept)


def negative_log_likelihood(confidences: np.ndarray, right: np.ndarray) -> float:
    """Mean of -log P(what happened), in nats a word."""
    kept = confidences.clip(MARGIN, 1 - MARGIN)
    return float(-np.where(right, np.log(kept), np.log1p(-kept)).mean())


def fit_temperature(raw: np.ndarray, right: np.ndarray) -> float:
    """The temperature within BOUNDS under which it is likeliest that the words `right` (W,) are right and no others.

    In 1 / temperature the negative log-likelihood is convex, so its slope has one zero: bisection cannot miss it.
    """
    towards = np.where(right, 1, -1) * logit(raw)  # -log P = log(1 + exp(-towards / temperature))

    def slope(inverse: float) -> float:
        return float(-(towards / (1 + np.exp(towards * inverse))).mean())

    low, high = 1 / BOUNDS[1], 1 / BOUNDS[0]
    with np.errstate(over="ignore"):
        for _ in range(60):
            middle = math.sqrt(low * high)
            low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return 1 / math.sqrt(low * high)


def calibrate(evidence: WordEvidence, right: np.ndarray, size: int, split: str) -> Calibration:
    """The method and temperature that make `right` (W,) likeliest, of CANDIDATES.

    There must be FEWEST right words and FEWEST wrong ones: see `too_few`.
    """
    found = []
    for method in CANDIDATES:
        raw = raw_confidences(method, evidence, size)
        temperature = fit_temperature(raw, right)
        found.append((negative_log_likelihood(tempered(raw, temperature), right), method, temperature))
    _, method, temperature = min(found, key=lambda row: row[0])
    return Calibration(method, temperature, split, len(right), int((~right).sum()))


def too_few(right: np.ndarray, split: str) -> str:
    """Why words of `split`, of which those `right` (W,) are right, cannot calibrate; "" when they can."""
    num_right, num_wrong = int(right.sum()), int((~right).sum())
    if min(num_right, num_wrong) >= FEWEST:
        return ""
    return f"{split} has {num_right:,} right and {num_wrong:,} wrong words, and {FEWEST} of each are needed"
