"""Small corpora that tests write: tones as samples, manifests whose rows a test may change."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.corpora.manifest import ManifestConfig, ManifestCorpus
from data.utterance import Utterance

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


def jsonl(*rows: dict[str, Any]) -> str:
    """JSON lines, whatever is not ASCII escaped."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def write_manifest(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read_manifest(path: Path, **options: Any) -> list[Utterance]:
    """The utterances of one manifest, as training split."""
    return list(ManifestCorpus(ManifestConfig(train=str(path), eval="", **options)).utterances("train"))


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path
