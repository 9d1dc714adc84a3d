"""Shared fixtures: tones written as audio files, a tiny synthetic TIMIT tree, a manifest corpus of tones.

No test reaches the network: the hub's clients are told so before anything imports them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TRANSFORMERS_OFFLINE="1")

import numpy as np
import pytest
import soundfile
import torch

from data.corpora.synthetic import ensure_tree
from helpers_runs import train_on_noise

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def make_tone(
    seconds: float, *, frequency: float = 440.0, rate: int = 16_000, channels: int = 1, amplitude: float = 0.3
) -> np.ndarray:
    """A sine with a little noise, float32 (n,) or (n, channels); channels differ in amplitude."""
    n = round(seconds * rate)
    noise = 0.01 * np.random.default_rng(n).standard_normal(n)
    wave = amplitude * np.sin(2 * np.pi * frequency * np.arange(n) / rate) + noise
    if channels == 1:
        return wave.astype(np.float32)
    return np.stack([wave / (c + 1) for c in range(channels)], axis=1).astype(np.float32)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Bit-exactness is promised for one thread count; one is the fastest for a model this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tone() -> Callable[..., np.ndarray]:
    """`make_tone`: samples of a sine."""
    return make_tone


@pytest.fixture
def write_tone(tmp_path: Path) -> Callable[..., Path]:
    """write_tone("a.flac", 0.5, rate=8000, channels=2, subtype="PCM_24") -> path under tmp_path."""

    def write(name: str, seconds: float = 0.5, *, subtype: str | None = None, format: str | None = None, **shape: Any):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = make_tone(seconds, **shape)
        soundfile.write(path, samples, shape.get("rate", 16_000), subtype=subtype, format=format)
        return path

    return write


@pytest.fixture(scope="session")
def synthetic_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache folder under which the session's synthetic trees lie."""
    return tmp_path_factory.mktemp("synthetic-cache")


@pytest.fixture(scope="session")
def tiny_timit(synthetic_cache: Path) -> Path:
    """The folder that holds TRAIN and TEST of the tiny synthetic tree, 40/40 utterances. Do not change it: copy it."""
    return ensure_tree("tiny", 0, synthetic_cache)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run in miniature, its corpus two folders up. Do not change it: copy it."""
    return train_on_noise(tmp_path_factory.mktemp("run"))


@dataclass(frozen=True)
class ManifestFolder:
    """A manifest corpus whose rows a test may change and write again."""

    folder: Path
    rows: dict[str, list[dict[str, Any]]]

    @property
    def train(self) -> Path:
        return self.folder / "train.jsonl"

    @property
    def eval(self) -> Path:
        return self.folder / "eval.jsonl"

    @property
    def options(self) -> list[str]:
        """What the command line needs to find the corpus."""
        return ["--corpus.train", str(self.train), "--corpus.eval", str(self.eval)]

    def write(self) -> None:
        for split, rows in self.rows.items():
            write_jsonl(self.folder / f"{split}.jsonl", rows)


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def tone_corpus(tmp_path: Path) -> ManifestFolder:
    """Six training and three evaluation utterances, 0.5 to 0.9 s of tones, wav of 16 bits at 16 kHz."""
    folder = tmp_path / "corpus"
    (folder / "wav").mkdir(parents=True)
    rows: dict[str, list[dict[str, Any]]] = {"train": [], "eval": []}
    for split, number in (("train", 6), ("eval", 3)):
        for i in range(number):
            name = f"{split}-{i}"
            samples = make_tone(0.5 + 0.08 * i, frequency=300 + 40 * i)
            soundfile.write(folder / "wav" / f"{name}.wav", samples, 16_000, subtype="PCM_16")
            text = f"{WORDS[i]} {WORDS[(i + 3) % 10]}"
            rows[split].append({"id": name, "audio_filepath": f"wav/{name}.wav", "text": text, "speaker": f"s{i % 2}"})
    corpus = ManifestFolder(folder, rows)
    corpus.write()
    return corpus
