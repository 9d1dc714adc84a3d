"""Recordings in tones (tests.helpers.tones) of which every word's times are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch.nn.functional import one_hot

from data.utterance import Segment
from tests.helpers.tones import FREQUENCIES, VOCAB, tone_model
from trainer.recognize.transcribe import LoadedModel

PAUSE = 960
"""Samples of silence behind each letter."""
SURENESS = 9.0
"""Nats by which the best unit of a frame is above every other one, as in a trained model; without it, hundreds."""


def recognizer() -> LoadedModel:
    """Hears tones, with posteriors like a trained model's."""
    hears = tone_model()
    read = hears.model.read
    hears.model.read = lambda waveforms: SURENESS * one_hot(read(waveforms).argmax(-1), len(VOCAB)).float()  # type: ignore[method-assign]
    return hears


def speak_words(
    words: Sequence[str], seed: int = 0, *, varied: bool = False, tone: int = 1600
) -> tuple[np.ndarray, list[Segment]]:
    """(float32 samples, first to last sample of each word). A tone, the delimiter's too, lasts `tone` samples."""
    rng = np.random.default_rng(seed)
    parts, segments, at = [], list[Segment](), 0

    def add(samples: np.ndarray) -> None:
        nonlocal at
        parts.append(samples)
        at += len(samples)

    def say(letter: str) -> None:
        n = int(rng.integers(1200, 2600)) if varied else tone
        add(0.5 * np.sin(2 * np.pi * FREQUENCIES[letter] * np.arange(n) / 16_000))

    def be_silent() -> None:
        add(0.001 * rng.standard_normal(int(rng.integers(800, 2000)) if varied else PAUSE))

    be_silent()
    for i, word in enumerate(words):
        if i:
            say("|")
            be_silent()
        start = at
        for k, letter in enumerate(word):
            if k:
                be_silent()
            say(letter)
        segments.append(Segment(start, at, word))
        be_silent()
    return np.concatenate(parts).astype(np.float32), segments
