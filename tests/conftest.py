"""Shared fixtures: tones written as audio files, a tiny synthetic TIMIT tree, a manifest corpus of tones.

No test reaches the network: the hub's clients are told so before anything imports them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TRANSFORMERS_OFFLINE="1")

import numpy as np
import pytest
import soundfile
import torch

from data.corpora.synthetic.tree import ensure_tree
from tests.helpers.corpora import WORDS, ManifestFolder, make_tone
from tests.helpers.resumed import write_inputs
from tests.helpers.runs import train_on_noise

pytest_plugins = [
    "tests.helpers.faults.fixtures",
    "tests.helpers.fuzz",
    "tests.helpers.refused",
    "tests.helpers.browser",
]


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


@pytest.fixture
def pictures() -> None:
    """Runs draw what their card and report show, as users' runs do: for tests of these pictures."""


@pytest.fixture(autouse=True)
def quick_runs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process draw nothing, and collect no garbage: these take half of the time of a run this small."""
    monkeypatch.setattr("trainer.session.gc", SimpleNamespace(collect=int, freeze=int, unfreeze=int))
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr("trainer.card.card.draw_curves", lambda records: {})
        monkeypatch.setattr("trainer.card.confidence.to_png", lambda figure: b"")
        monkeypatch.setattr("trainer.report.run.draw_curves", lambda records: {})


@pytest.fixture(scope="session")
def run_inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the runs of tests.helpers.resumed read: a small model, a corpus, a cache. Do not change it."""
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run in miniature, its corpus two folders up. Do not change it: copy it."""
    return train_on_noise(tmp_path_factory.mktemp("run"))


@pytest.fixture
def tone_corpus(tmp_path: Path) -> ManifestFolder:
    """Six training and three evaluation utterances, 0.5 to 0.9 s of tones, wav of 16 bits at 16 kHz.

    No two sound alike, and the splits share no transcript: what reads the other split's utterances is found out.
    """
    folder = tmp_path / "corpus"
    (folder / "wav").mkdir(parents=True)
    rows: dict[str, list[dict[str, Any]]] = {"train": [], "eval": []}
    for split, number in (("train", 6), ("eval", 3)):
        for i in range(number):
            name = f"{split}-{i}"
            samples = make_tone(0.5 + 0.08 * i, frequency=(300 if split == "train" else 620) + 40 * i)
            soundfile.write(folder / "wav" / f"{name}.wav", samples, 16_000, subtype="PCM_16")
            text = f"{WORDS[i]} {WORDS[(i + (3 if split == 'train' else 7)) % 10]}"
            rows[split].append({"id": name, "audio_filepath": f"wav/{name}.wav", "text": text, "speaker": f"s{i % 2}"})
    corpus = ManifestFolder(folder, rows)
    corpus.write()
    return corpus
