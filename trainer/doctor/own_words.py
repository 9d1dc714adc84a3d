"""What the run's model writes for every training utterance, and its loss on the transcript, as in evaluation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from trainer.cli.console import Console
from trainer.doctor.opening import OpenedRun, Weights
from trainer.scoring.evaluate import EvalSet, evaluate

AT_ONCE = 20_000
"""Utterances scored at a time: what an evaluation keeps of each is larger than what is kept here."""


@dataclass(frozen=True)
class OwnWords:
    """What one set of weights makes of N training utterances, in corpus order."""

    weights: Weights
    hypotheses: list[str]
    losses: np.ndarray
    """float32 (N,): nats per unit; inf where CTC cannot write the transcript, or where there is no audio."""
    character_rates: np.ndarray
    """float32 (N,): error rate of characters, or of phones and other units with spaces between them. The longer of the
    two texts divides, so it is at most 1."""
    word_errors: np.ndarray
    """int32 (N,)."""


def hear(run: OpenedRun, weights: Weights, console: Console) -> OwnWords:
    """What `weights` write for the training split. It takes as long as an evaluation of as much audio."""
    loaded, eval_set = run.load(weights)
    n = len(eval_set.examples)
    found = OwnWords(weights, [], np.zeros(n, np.float32), np.zeros(n, np.float32), np.zeros(n, np.int32))
    bar = partial(console.progress, desc=f"hearing {run.split}, {weights.said}", unit="batch")
    for begin in range(0, n, AT_ONCE):
        part = _part(eval_set, begin, min(n, begin + AT_ONCE))
        scores = evaluate(loaded.model, part, run.device, nullcontext, bar)
        for i, one in enumerate(scores.hypotheses, begin):
            edits = one.characters if scores.units.name == "words" else one.words
            longest = max(edits.num_reference, edits.num_reference + edits.insertions - edits.deletions, 1)
            found.hypotheses.append(one.hypothesis)
            found.losses[i] = one.loss
            found.character_rates[i] = edits.num_errors / longest
            found.word_errors[i] = one.words.num_errors
    return found


def _part(eval_set: EvalSet, begin: int, end: int) -> EvalSet:
    examples = eval_set.examples
    if begin == 0 and end == len(examples):
        return eval_set
    some: Callable | None = getattr(examples, "some", None)
    return replace(eval_set, examples=some(np.arange(begin, end)) if some else examples[begin:end])
