"""What a batch is made of: an utterance with its units, its length and its audio."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from data.utterance import Utterance


@dataclass(frozen=True)
class Example:
    """An utterance ready for batching."""

    utterance: Utterance
    text: str
    """Normalised transcript in the form in which it is scored (Vocab.to_compare); single spaces between words are up
    to the scorer."""
    targets: tuple[int, ...]
    num_samples: int
    """At 16 kHz; 0 when the audio cannot be decoded (in evaluation only)."""
    load: Callable[[], np.ndarray]
    """float32 (num_samples,), not normalised."""
    digest: str = ""
    """Of the encoded audio, where a store knows it."""
