"""Data sets written by save_to_disk, and the error of one that cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest

from data.corpora.hub import HubConfig
from data.corpora.hub.corpus import HubCorpus
from trainer.errors import CorpusError

TEXTS = ["so it goes", "über élan", "", "one two"]


def save(
    folder: Path, audio: list[Any], *, as_audio: bool, splits: tuple[str, ...] = ("train", "test"), **columns
) -> str:
    """A DatasetDict whose splits are all the same rows, written by save_to_disk."""
    table = {"audio": audio, "text": TEXTS[: len(audio)], **columns}
    dataset = datasets.Dataset.from_dict(table)
    if as_audio:
        dataset = dataset.cast_column("audio", datasets.Audio())
    datasets.DatasetDict(dict.fromkeys(splits, dataset)).save_to_disk(str(folder))
    return str(folder)


def error_of(config: HubConfig, split: str = "train") -> str:
    with pytest.raises(CorpusError) as caught:
        list(HubCorpus(config).utterances(split))
    assert "\n" not in str(caught.value)
    return str(caught.value)
