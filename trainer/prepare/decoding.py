"""Decode the audio of all examples, once: what does not decode is dropped, or counted, before the first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from data.audio.store import AudioStore, distinct, open_store
from data.examples.drops import Drops, refuse_or_report
from data.examples.example import Example
from data.examples.table import ExampleTable, audio_of, lengths_of
from data.lazy import Lazy
from data.utterance import AudioSource
from trainer.cli.console import Console
from trainer.errors import AudioError, CorpusError


def use_store(
    train: Sequence[Example],
    evaluation: dict[str, Sequence[Example]],
    drops: Drops,
    unreadable: Sequence[Drops],
    on_bad: str,
    cache_dir: Path,
    console: Console,
) -> tuple[Sequence[Example], dict[str, Sequence[Example]]]:
    """The same examples, read from a store of decoded audio. What fails to decode is dropped, or has 0 samples."""
    splits = [train, *evaluation.values()]
    sources, numbers = _once_each(splits)
    try:
        store = open_store(
            sources,
            cache_dir,
            log=console.say,
            progress=lambda items, total: console.progress(items, total, "decoding", "file"),
            warn=console.warn,
        )
    except OSError as error:
        raise CorpusError(
            f"{cache_dir}: the decoded audio cannot be written ({error.strerror or error}). "
            "Give another --cache-dir, or --corpus.no-store to decode on the fly."
        ) from None
    is_failed = np.zeros(len(sources), np.bool_)
    is_failed[list(store.failures)] = True
    for examples, of_split, to in zip(splits, numbers, [drops, *unreadable], strict=True):
        for i in np.flatnonzero(np.append(is_failed, False)[of_split]):  # what is NOWHERE did not fail
            to.add("undecodable", examples[int(i)].utterance, store.failures[int(of_split[i])])
            of_split[i] = NOWHERE
    refuse_or_report(drops, on_bad)
    kept = numbers[0] >= 0
    if len(train) and not kept.any():
        raise CorpusError(f"{drops.describe()}. Nothing is left to train on.")
    stored = [_from_store(examples, store, of_split) for examples, of_split in zip(splits, numbers, strict=True)]
    return _some(stored[0], np.flatnonzero(kept)), dict(zip(evaluation, stored[1:], strict=True))


class _Sources(Lazy[AudioSource]):
    """The audio of some of all `examples`, made when it is asked for."""

    def __init__(self, examples: Sequence[Sequence[Example]], positions: np.ndarray) -> None:
        """`positions`, int64 (n,), count through all splits, one after the other."""
        self.examples, self.positions = examples, positions
        self._ends = np.cumsum([len(part) for part in examples])

    def __len__(self) -> int:
        return len(self.positions)

    def at(self, i: int) -> AudioSource:
        position = int(self.positions[i])
        part = int(np.searchsorted(self._ends, position, side="right"))
        return audio_of(self.examples[part], position - (int(self._ends[part - 1]) if part else 0))


NOWHERE = -1
"""Number of an example that has no audio in a store."""


def _once_each(splits: Sequence[Sequence[Example]]) -> tuple[_Sources, list[np.ndarray]]:
    """(Each recording of all splits once, the number of each example's, a split after the other)."""
    lengths = np.concatenate([lengths_of(examples) for examples in splits])
    with_audio = np.flatnonzero(lengths > 0)
    first, number = distinct(source.identity for source in _Sources(splits, with_audio))
    numbers = np.full(len(lengths), NOWHERE)
    numbers[with_audio] = number
    ends = np.cumsum([len(examples) for examples in splits])
    return _Sources(splits, with_audio[first]), np.split(numbers, ends[:-1])


def _from_store(examples: Sequence[Example], store: AudioStore, numbers: np.ndarray) -> Sequence[Example]:
    """The same examples, read from `store`; those that are NOWHERE have no samples."""
    if isinstance(examples, ExampleTable):
        return examples.from_store(store, numbers)
    return [
        replace(example, load=partial(store.load, n), digest=store.digest(n))
        if n >= 0
        else replace(example, num_samples=0)
        for example, n in zip(examples, numbers.tolist(), strict=True)
    ]


def _some(examples: Sequence[Example], positions: np.ndarray) -> Sequence[Example]:
    if len(positions) == len(examples):
        return examples
    return examples.some(positions) if isinstance(examples, ExampleTable) else [examples[i] for i in positions]


def find_undecodable(
    evaluation: Mapping[str, Sequence[Example]], unreadable: Sequence[Drops], console: Console
) -> None:
    """Add what fails to decode to `unreadable`: without a store, a run would only stop at its first evaluation."""
    for bad in unreadable:
        examples = evaluation[bad.split]
        if isinstance(examples, ExampleTable) and examples.utterances.is_checked:
            continue
        for example in console.progress(examples, len(examples), f"decoding {bad.split}", "file"):
            try:
                if example.num_samples:
                    example.load()
            except AudioError as error:
                bad.add("undecodable", example.utterance, str(error))


def drop_undecodable(train: Sequence[Example], drops: Drops, console: Console) -> Sequence[Example]:
    """The examples whose audio decodes. Without a store only decoding shows it; the plan must know it beforehand."""
    decodes = np.ones(len(train), np.bool_)
    for i, example in enumerate(console.progress(train, len(train), "decoding", "file")):
        try:
            example.load()
        except AudioError as error:
            drops.add("undecodable", example.utterance, str(error))
            decodes[i] = False
    if len(train) and not decodes.any():
        raise CorpusError(f"{drops.describe()}. Nothing is left to train on.")
    return _some(train, np.flatnonzero(decodes))
