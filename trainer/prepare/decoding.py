"""Decode the audio of all examples, once: what does not decode is dropped, or counted, before the first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from data.audio.store import open_store
from data.drops import Drops, refuse_or_report
from data.example import Example
from data.example_table import ExampleTable
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
    sources: dict[str, AudioSource] = {}
    for example in [*train, *(e for examples in evaluation.values() for e in examples)]:
        if example.num_samples > 0:
            sources.setdefault(example.utterance.audio.identity, example.utterance.audio)
    position = {identity: i for i, identity in enumerate(sources)}
    try:
        store = open_store(
            list(sources.values()),
            cache_dir,
            log=console.say,
            progress=lambda items, total: console.progress(items, total, "decoding", "file"),
        )
    except OSError as error:
        raise CorpusError(
            f"{cache_dir}: the decoded audio cannot be written ({error.strerror or error}). "
            "Give another --cache-dir, or --corpus.no-store to decode on the fly."
        ) from None

    def stored(example: Example) -> Example:
        if example.num_samples == 0:
            return example
        i = position[example.utterance.audio.identity]
        if i in store.failures:
            return replace(example, num_samples=0)
        return replace(example, load=partial(store.load, i), digest=store.digests[i])

    kept = []
    for example in map(stored, train):
        if example.num_samples > 0:
            kept.append(example)
            continue
        message = store.failures[position[example.utterance.audio.identity]]
        drops.add("undecodable", example.utterance, message)
    refuse_or_report(drops, on_bad)
    if train and not kept:
        raise CorpusError(f"{drops.describe()}. Nothing is left to train on.")
    scored: dict[str, Sequence[Example]] = {
        split: list(map(stored, examples)) for split, examples in evaluation.items()
    }
    for bad, examples in zip(unreadable, scored.values(), strict=True):
        for example, before in zip(examples, evaluation[bad.split], strict=True):
            if before.num_samples and not example.num_samples:
                bad.add("undecodable", example.utterance, store.failures[position[example.utterance.audio.identity]])
    return kept, scored


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


def drop_undecodable(train: Sequence[Example], drops: Drops, console: Console) -> list[Example]:
    """The examples whose audio decodes. Without a store only decoding shows it; the plan must know it beforehand."""
    kept = []
    for example in console.progress(train, len(train), "decoding", "file"):
        try:
            example.load()
            kept.append(example)
        except AudioError as error:
            drops.add("undecodable", example.utterance, str(error))
    if train and not kept:
        raise CorpusError(f"{drops.describe()}. Nothing is left to train on.")
    return kept
