"""SpecAugment on the encoder's input (Park et al. 2019, as in wav2vec 2.0): which frames and channels are masked.

The spans of an utterance are drawn from (seed, epoch, id), so batching and workers do not change them. Their number
follows Hugging Face's `_compute_mask_indices`, with the utterance's own length.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from data.randomness import derive_seed


@dataclass(frozen=True)
class SpecAugment:
    """A probability is the expected masked share if spans do not overlap. Lengths are in frames or channels."""

    hidden_size: int
    time_prob: float
    time_length: int
    time_min_masks: int
    feature_prob: float
    feature_length: int
    feature_min_masks: int

    def time_mask(self, num_frames: int, *key: object) -> np.ndarray:
        """bool (num_frames,): True where the mask embedding replaces the frame."""
        rng = random.Random(derive_seed(*key, "time-mask"))
        return span_mask(num_frames, self.time_prob, self.time_length, self.time_min_masks, rng)

    def feature_mask(self, *key: object) -> np.ndarray:
        """bool (hidden_size,): True where the channel is set to 0 in all frames."""
        rng = random.Random(derive_seed(*key, "feature-mask"))
        return span_mask(self.hidden_size, self.feature_prob, self.feature_length, self.feature_min_masks, rng)


def span_mask(length: int, prob: float, span: int, min_spans: int, rng: random.Random) -> np.ndarray:
    """bool (length,): about prob * length / span spans. Their starts are distinct, but they may overlap.

    The fraction is rounded up or down at random. No span reaches over the end. An utterance shorter than a span has
    no mask.
    """
    mask = np.zeros(length, dtype=bool)
    if prob == 0:
        return mask
    num_spans = max(int(prob * length / span + rng.random()), min_spans)
    num_spans = min(num_spans, length // span, length - span + 1)
    for start in rng.sample(range(length - span + 1), num_spans) if num_spans > 0 else []:
        mask[start : start + span] = True
    return mask
