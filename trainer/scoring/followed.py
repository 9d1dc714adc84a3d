"""Which utterances are shown at every evaluation, some with their posteriors: the same ones throughout training."""

from __future__ import annotations

from data.utterance import SAMPLE_RATE
from trainer.scoring.evaluate import EvalSet

NUM_SHOWN = 8
"""Utterances in TensorBoard's table of transcripts. Every second one also has its audio and a picture there."""
MAX_SECONDS = 30.0
"""A longer utterance is not drawn, since its frames would be too narrow to see."""


def shown_positions(num_utterances: int) -> list[int]:
    """Positions of the utterances to show. They are spread over the split, since neighbours often share a speaker.

    >>> shown_positions(20)
    [0, 2, 4, 6, 8, 10, 12, 14]
    """
    return list(range(0, num_utterances, max(1, num_utterances // NUM_SHOWN)))[:NUM_SHOWN]


def followed_positions(eval_set: EvalSet) -> list[int]:
    """Positions of the utterances that have audio and a picture."""
    lengths = [eval_set.examples[i].num_samples for i in shown_positions(len(eval_set.examples))]
    short = [i for i, n in zip(shown_positions(len(eval_set.examples)), lengths, strict=True)
             if 0 < n <= MAX_SECONDS * SAMPLE_RATE and eval_set.frontend.num_frames(n) > 0]  # fmt: skip
    return short[::2]
