"""Voices made of pulses: syllables of a pitch, with gaps between them, for what looks at speech without a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data.examples.example import Example
from data.utterance import Utterance
from tests.helpers.audio import BytesAudio, encoded

SYLLABLE = 0.16
"""Seconds."""


def voice(num_syllables: int, seed: int, pitch: float = 120.0, rate: int = 16_000) -> np.ndarray:
    """float32: each syllable a pulse train through two resonances of its own, 40 ms of near silence at either end."""
    rng = np.random.default_rng(seed)
    parts = [np.zeros(round(0.04 * rate))]
    for _ in range(num_syllables):
        n = round(SYLLABLE * rate * rng.uniform(0.9, 1.1))
        phase = np.cumsum(np.full(n, pitch * rng.uniform(0.95, 1.05) / rate))
        pulses = np.diff(np.floor(phase), prepend=0.0) + 0.02 * rng.standard_normal(n)
        sound = sum(_resonance(pulses, rng.uniform(*band), rate) for band in ((300, 900), (1000, 2500), (2600, 5000)))
        parts += [sound * np.hanning(n) ** 0.5, np.zeros(round(0.03 * rate))]
    speech = np.concatenate([*parts, np.zeros(round(0.02 * rate))])
    noise = 0.0007 * rng.standard_normal(len(speech))
    return (0.4 * speech / np.abs(speech).max() + noise).astype(np.float32)


def _resonance(samples: np.ndarray, frequency: float, rate: int) -> np.ndarray:
    times = np.arange(round(0.02 * rate)) / rate
    return np.convolve(samples, np.exp(-300 * times) * np.cos(2 * np.pi * frequency * times))[: len(samples)]


def example(samples: np.ndarray, text: str, id: str, speaker: str | None = None, raw: str | None = None) -> Example:
    """An example whose units are the characters of `text`; `raw` is its transcript as the corpus wrote it."""
    audio = BytesAudio(encoded(samples), f"/corpus/{speaker}/{id}.wav", id)
    utterance = Utterance(id, audio, text if raw is None else raw, speaker=speaker, origin=f"c.jsonl:{id}")
    return Example(utterance, text, tuple(map(ord, text)), len(samples), lambda: samples)


def corpus(number: int = 60, speakers: Sequence[float] = (110.0, 200.0)) -> list[Example]:
    """Sound utterances of 8 to 14 syllables, two units each; speakers have these pitches."""
    rng, examples = np.random.default_rng(1), []
    for i in range(number):
        syllables, who = int(rng.integers(8, 15)), i % len(speakers)
        text = "".join(rng.choice(list("bdgklm")) + rng.choice(list("aeiou")) for _ in range(syllables))
        examples.append(example(voice(syllables, i, speakers[who]), text, f"u{i}", f"s{who}"))
    return examples
