"""Data sets of the `datasets` library for the tests of the hub corpus."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest

from tests.helpers.hub import save


@pytest.fixture
def no_torchcodec(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing torchcodec is an ImportError, installed or not."""
    monkeypatch.setitem(sys.modules, "torchcodec", None)


@pytest.fixture
def no_bars() -> None:
    datasets.disable_progress_bars()


@pytest.fixture
def files(write_tone: Callable) -> list[Path]:
    """One file of each kind, as many as there are texts."""
    return [
        write_tone("audio/0.wav", 0.3, subtype="PCM_16"),
        write_tone("audio/1.flac", 0.31, rate=8000, channels=2),
        write_tone("audio/2.mp3", 0.32, rate=44_100),
        write_tone("audio/3.ogg", 0.33),
    ]


@pytest.fixture
def saved(tmp_path: Path, files: list[Path]) -> str:
    audio = [{"bytes": path.read_bytes(), "path": None} for path in files]
    return save(tmp_path / "set", audio, as_audio=True, key=[10, 11, 12, 13], who=["a", "b", "a", "b"])


@pytest.fixture
def single(tmp_path: Path, files: list[Path]) -> str:
    """One Dataset of four rows, none of them empty, without splits."""
    audio = [{"bytes": path.read_bytes(), "path": None} for path in files]
    datasets.Dataset.from_dict({"audio": audio, "text": list("abcd")}).save_to_disk(str(tmp_path / "one"))
    return str(tmp_path / "one")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
