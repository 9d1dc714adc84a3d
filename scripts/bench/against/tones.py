"""A corpus that a small model learns in minutes: every letter is a tone. It is made from a seed, without a download.

Comparisons and benchmarks use it when no manifest of real speech is given. A letter lasts 100 to 140 ms, a space is a
pause, and there is a little noise everywhere. Speakers differ in pitch, utterances in pace and loudness.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import soundfile

from data.utterance import SAMPLE_RATE

LETTERS = "aeionrst"
WORDS = ("one", "tin", "rest", "sea", "notes", "train", "iron", "east", "tone", "store", "ant", "is")
SPEAKERS = 4


def tone_utterance(text: str, seed: int) -> np.ndarray:
    """`text` as tones, float32 (n,)."""
    rng, pitch = np.random.default_rng(seed), 1 + 0.02 * (seed % SPEAKERS)
    pieces = [np.zeros(SAMPLE_RATE // 20)]
    for letter in text:
        n = int(rng.uniform(0.10, 0.14) * SAMPLE_RATE)
        if letter == " ":
            pieces.append(np.zeros(n))
            continue
        hertz = 220 * pitch * 2 ** (LETTERS.index(letter) * 0.45)
        pieces.append(np.sin(2 * np.pi * hertz * np.arange(n) / SAMPLE_RATE) * np.hanning(n))
    pieces.append(np.zeros(SAMPLE_RATE // 20))
    wave = np.concatenate(pieces) * rng.uniform(0.1, 0.4)
    return (wave + 0.003 * rng.standard_normal(len(wave))).astype(np.float32)


def tone_texts(number: int, seed: int, *, most_words: int = 4) -> list[str]:
    """`number` transcripts of one to `most_words` words."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, most_words))) for _ in range(number)]


def write_tone_corpus(folder: Path, num_train: int, num_eval: int, seed: int = 0) -> tuple[Path, Path]:
    """Write a training and an evaluation split below `folder`, unless they are there. Returns their manifests."""
    manifests = (folder / "train.jsonl", folder / "eval.jsonl")
    for manifest, number in zip(manifests, (num_train, num_eval), strict=True):
        split = manifest.stem
        if manifest.exists() and len(manifest.read_text(encoding="utf-8").splitlines()) == number:
            continue
        (folder / "wav").mkdir(parents=True, exist_ok=True)
        rows = []
        for i, text in enumerate(tone_texts(number, seed * 2 + (split == "eval"))):
            name = f"{split}-{i:05d}"
            wave = tone_utterance(text, 2 * i + (split == "eval"))
            soundfile.write(folder / "wav" / f"{name}.wav", wave, SAMPLE_RATE, subtype="PCM_16")
            row = {"id": name, "audio_filepath": f"wav/{name}.wav", "text": text, "speaker": f"{split}-{i % SPEAKERS}",
                   "duration": round(len(wave) / SAMPLE_RATE, 4)}  # fmt: skip
            rows.append(json.dumps(row) + "\n")
        manifest.write_text("".join(rows), encoding="utf-8")
    return manifests
