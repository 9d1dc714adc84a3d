"""The posteriors of a few utterances, frame by frame, at every evaluation: the same ones throughout training."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

from data.batches.collate import BatchDataset
from data.utterance import SAMPLE_RATE
from models.ctc import CTCModel
from trainer.scoring.evaluate import EvalSet, Followed
from trainer.scoring.forward import batch_logits

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


@torch.inference_mode()
def follow(
    model: CTCModel, eval_set: EvalSet, device: torch.device, autocast: Callable[[], AbstractContextManager]
) -> tuple[Followed, ...]:
    """The posteriors of the followed utterances, from one forward pass each. The model's mode is restored."""
    dataset, was_training = BatchDataset(eval_set.examples, eval_set.frontend), model.training
    found = []
    model.eval()
    try:
        for i in followed_positions(eval_set):
            batch = dataset[0, [i]]
            if batch.failures:  # its audio does not decode; the evaluation counts and names it
                continue
            _, logits = batch_logits(model, batch, device, autocast)
            posteriors = logits[0, : int(batch.frame_lengths[0])].float().softmax(-1).cpu().numpy()
            found.append(Followed(batch.ids[0], eval_set.examples[i].targets, batch.num_seconds, posteriors))
    finally:
        model.train(was_training)
    return tuple(found)
