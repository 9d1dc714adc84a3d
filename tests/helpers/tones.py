"""A recogniser that hears tones: a frame's unit is the frequency that it sees, so its transcripts are known."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor

from data.text.vocab import Vocab
from models.geometry import FrameGeometry
from tests.helpers.corpora import write_jsonl
from trainer.recognize.transcribe import LoadedModel
from trainer.recognizer import Recognizer

KERNELS, STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
VOCAB = Vocab(("[PAD]", "|", *"abcdefgh", "[UNK]"))
FREQUENCIES = {token: 400.0 * (i + 2) for i, token in enumerate("|abcdefgh")}


class ToneModel:
    """Stands in for a CTCModel. `delay(row)` frames are between what is heard and what is written."""

    def __init__(self, delay: Any = lambda row: 0) -> None:
        self.hf = SimpleNamespace(config=SimpleNamespace(conv_kernel=KERNELS, conv_stride=STRIDES))
        self.geometry = FrameGeometry.of(KERNELS, STRIDES)
        self.num_frames = self.geometry.num_frames
        self.delay = delay
        self.is_batch_invariant = True

    def read(self, waveforms: Tensor) -> Tensor:
        frames = waveforms.unfold(1, 400, 320) * torch.hann_window(400)
        spectrum = torch.fft.rfft(frames).abs()  # 40 Hz a bin
        scores = torch.zeros(*frames.shape[:2], len(VOCAB))
        for token, frequency in FREQUENCIES.items():
            scores[..., VOCAB.ids[token]] = spectrum[..., round(frequency / 40)]
        scores[..., VOCAB.blank_id] = 5.0  # louder than the noise, softer than a tone
        for row, heard in enumerate(scores):
            scores[row] = torch.roll(heard, self.delay(waveforms[row]), 0)
        return scores


def tone_model(delay: Any = lambda row: 0, model: ToneModel | None = None) -> LoadedModel:
    """`model`, or a ToneModel of this `delay`, as if it had been loaded."""
    heard: Any = model or ToneModel(delay)
    return LoadedModel(heard, VOCAB, False, torch.device("cpu"), "tones")


def tone_recognizer(delay: Any = lambda row: 0, model: ToneModel | None = None) -> Recognizer:
    """One around `tone_model`."""
    return Recognizer(tone_model(delay, model))


def speak(text: str, rng: np.random.Generator) -> np.ndarray:
    """`text` in tones of 70 to 160 ms with pauses; a space is a tone as well."""
    parts = [_silence(rng)]
    for character in text:
        n = int(rng.integers(1100, 2600))
        tone = np.sin(2 * np.pi * FREQUENCIES["|" if character == " " else character] * np.arange(n) / 16_000)
        parts += [0.5 * tone, _silence(rng)]
    return np.concatenate(parts).astype(np.float32)


def _silence(rng: np.random.Generator) -> np.ndarray:
    # longer than a frame sees: two equal letters in a row are two letters
    return 0.001 * rng.standard_normal(int(rng.integers(800, 3000)))


def sentence(rng: np.random.Generator, num_words: int) -> str:
    return " ".join("".join(rng.choice(list("abcdefgh"), rng.integers(1, 6))) for _ in range(num_words))


def write_tone_corpus(folder: Path, *, num_train: int = 8, num_eval: int = 4, shift: int = 0) -> None:
    """train.jsonl and eval.jsonl of spoken tones, of one to six words each.

    Transcripts of training stand `shift` rows too far on: with 1, row i + 1 has the words of recording i.
    """
    rng = np.random.default_rng(0)
    for split, number, moved in (("train", num_train, shift), ("eval", num_eval, 0)):
        texts = [sentence(rng, int(rng.integers(1, 7))) for _ in range(number)]
        rows = []
        for i, text in enumerate(texts):
            name = f"{split}-{i}.wav"
            soundfile.write(folder / name, speak(text, rng), 16_000, subtype="PCM_16")
            rows.append({"audio_filepath": name, "text": texts[(i - moved) % number]})
        write_jsonl(folder / f"{split}.jsonl", rows)
