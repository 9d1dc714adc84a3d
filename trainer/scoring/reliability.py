"""How well confidences fit what is right: calibration error, ranking, and the bins of a reliability diagram.

The expected calibration error (ECE; Naeini et al. 2015, Guo et al. 2017) is over words, in NUM_BINS bins of equal
width: |mean confidence - share of right words| of each bin, weighted by its words. Even probabilities that are exact
have an error above 0 on a finite number of words: `ece_by_chance` says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from trainer.scoring.alignment import align_words
from trainer.scoring.confidence import (
    Calibration,
    WordEvidence,
    calibrate,
    negative_log_likelihood,
    too_few,
    uncalibrated,
)
from trainer.scoring.scores import Hypothesis, Scores

NUM_BINS = 10
NUM_DRAWS = 200
"""Of which words would be right, for `ece_by_chance`."""


def right_words(hypothesis: Hypothesis) -> np.ndarray:
    """Whether each word that was written is right, bool (W,), as jiwer aligns it with the reference."""
    edits = align_words(hypothesis.reference, hypothesis.hypothesis)
    return np.array([edit.kind == "hit" for edit in edits if edit.kind != "deletion"], bool)


def learn_calibration(scores: Scores, size: int) -> Calibration | str:
    """The calibration that fits the words of `scores`, or why there is none; `size` counts the vocabulary's units."""
    known = [(h.evidence, right_words(h)) for h in scores.hypotheses if h.evidence is not None]
    if not known:
        return f"the words of {scores.split} are not those that its units make up, so nothing is known of them"
    right = np.concatenate([right for _, right in known])
    if why := too_few(right, scores.split):
        return why
    return calibrate(WordEvidence.join([evidence for evidence, _ in known]), right, size, scores.split)


def with_confidences(all_scores: Sequence[Scores], calibration: Calibration | None, size: int) -> list[Scores]:
    """The same with a confidence of each word whose evidence is known; without a `calibration` the uncalibrated one.

    An utterance that several splits share stays one.
    """
    judged: dict[int, Hypothesis] = {}

    def judge(h: Hypothesis) -> Hypothesis:
        if h.evidence is None:
            return h
        if id(h) not in judged:
            found = uncalibrated(h.evidence) if calibration is None else calibration.confidences(h.evidence, size)
            judged[id(h)] = replace(h, confidences=tuple(found.tolist()))
        return judged[id(h)]

    return [replace(scores, hypotheses=tuple(map(judge, scores.hypotheses))) for scores in all_scores]


def reliability(hypotheses: Sequence[Hypothesis]) -> dict[str, Any] | None:
    """The record of results.json on the confidences of `hypotheses`; None when they have none.

    nll in nats a word; auc is the probability that a right word has a higher confidence than a wrong one; None where
    all words are right, or all wrong. An utterance's confidence is the mean of its words', and stands for the share of
    them that is right; its auc is over utterances without an error against those with one.
    """
    known = [h for h in hypotheses if h.confidences is not None]
    if not known:
        return None
    confidences = np.array([c for h in known for c in h.confidences or ()])
    right = np.concatenate([right_words(h) for h in known])
    bins = reliability_bins(confidences, right.astype(float))
    spoken = [h for h in known if h.confidences]
    of_utterances = np.array([np.mean(h.confidences or ()) for h in spoken])
    shares = np.array([right_words(h).mean() for h in spoken])
    is_clean = np.array([h.words.num_errors == 0 for h in spoken], bool)
    return {
        "ece": calibration_error(bins),
        "ece_by_chance": chance_error(confidences),
        "nll": negative_log_likelihood(confidences, right) if len(right) else None,
        "auc": ranking(confidences, right),
        "num_words": len(right),
        "num_wrong": int((~right).sum()),
        "num_without": sum(len(h.hypothesis.split()) for h in hypotheses if h.confidences is None),
        "utterance_ece": calibration_error(reliability_bins(of_utterances, shares)),
        "utterance_auc": ranking(of_utterances, is_clean),
        "bins": bins,
    }


def reliability_bins(confidences: np.ndarray, right: np.ndarray) -> list[dict[str, Any]]:
    """For each of NUM_BINS bins of equal width that is not empty: its bounds, number, mean confidence and share right.

    Bin k holds confidences in [k, k + 1) / NUM_BINS, the last one 1 as well.
    """
    places = np.minimum((confidences * NUM_BINS).astype(int), NUM_BINS - 1)
    return [
        {
            "from": k / NUM_BINS,
            "to": (k + 1) / NUM_BINS,
            "number": int((places == k).sum()),
            "confidence": float(confidences[places == k].mean()),
            "right": float(right[places == k].mean()),
        }
        for k in range(NUM_BINS)
        if (places == k).any()
    ]


def calibration_error(bins: Sequence[dict[str, Any]]) -> float | None:
    """The expected calibration error of `reliability_bins`; None without a word."""
    total = sum(b["number"] for b in bins)
    return sum(b["number"] * abs(b["confidence"] - b["right"]) for b in bins) / total if total else None


def chance_error(confidences: np.ndarray) -> float | None:
    """The calibration error to expect of these confidences if each were exact, from NUM_DRAWS seeded draws."""
    if len(confidences) == 0:
        return None
    rng, places = np.random.default_rng(0), np.minimum((confidences * NUM_BINS).astype(int), NUM_BINS - 1)
    sums = np.bincount(places, confidences, NUM_BINS)
    draws = (np.bincount(places, rng.random(len(places)) < confidences, NUM_BINS) for _ in range(NUM_DRAWS))
    return float(np.mean([np.abs(sums - drawn).sum() for drawn in draws])) / len(confidences)


def ranking(confidences: np.ndarray, right: np.ndarray) -> float | None:
    """P(a right one has a higher confidence than a wrong one), ties half (the area under the ROC curve)."""
    wrong = np.sort(confidences[~right])
    if len(wrong) in (0, len(right)):
        return None
    kept = confidences[right]
    below = np.searchsorted(wrong, kept, "left") + np.searchsorted(wrong, kept, "right")
    return float(below.mean() / 2 / len(wrong))
