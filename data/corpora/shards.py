"""Shards that scripts.shards packed: training and evaluation from a few large files, on a disk or in an object store."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from data.config import CorpusConfig, option
from data.faults import Faults
from data.utterance import Corpus, Splits, Utterance
from trainer.errors import ConfigError, CorpusError

if TYPE_CHECKING:
    from data.shards.table import ShardTable


@dataclass(frozen=True, kw_only=True)
class ShardsConfig(CorpusConfig):
    """shards of scripts.shards, also on S3: --corpus.train FOLDER_OR_URL --corpus.eval FOLDER_OR_URL"""

    preset = "shards"
    has_digests = True

    train: str = option("", common=True, place=True)
    """Folder or address (s3://BUCKET/PREFIX) of the training split's shards."""

    eval: str = option("", common=True, place=True)
    """Folder or address of the evaluation split's shards."""

    test: str = option("", common=True, place=True)
    """Folder or address of a test split: the evaluation split then selects the weights, and this one is reported;
    none: the evaluation split is reported."""

    part: str = option("", place=True)
    """K/N: score only the K-th of N equal stretches of each split, so that N processes share a large one; none: all."""

    range_cache_gb: float = option(50.0, free=True)
    """Audio of an object store that is kept under --cache-dir, in GB at most; 0: none."""

    store: bool = option(False, free=True)
    """Decode all audio once into a memory-mapped file under --cache-dir; shards are decoded on the fly."""

    def required(self, training: bool) -> list[tuple[str, str]]:
        scored = [("--corpus.eval SHARDS", self.eval or (not training and self.test) or "")]
        return [("--corpus.train SHARDS", self.train), *scored] if training else scored

    def open(self, cache_dir: Path, progress: Callable[[int, int], None]) -> Corpus:
        return ShardsCorpus(self, cache_dir)


class ShardsCorpus:
    """Two folders of shards, one to train on and one to score; a third one, if given, is the test split."""

    splits = Splits(train="train", monitor="eval", headline="eval", closing=("eval",))

    def __init__(self, config: ShardsConfig, cache_dir: Path) -> None:
        self.config, self.cache_dir = config, cache_dir
        self.part = read_part(config.part) if config.part else None
        self.notes: list[str] = []
        self.folders = {"train": config.train, "eval": config.eval, "test": config.test}
        if config.test and not config.eval:  # a model is only scored
            self.splits = replace(self.splits, monitor="test", headline="test", closing=("test",))
        elif config.test:
            if config.test.rstrip("/") == config.eval.rstrip("/"):
                raise CorpusError(
                    f"--corpus.test and --corpus.eval are both {config.test}. The test split must be another one: "
                    "the evaluation split selects the weights. Without one, leave out --corpus.test."
                )
            self.splits = self.splits.with_test("test")

    @property
    def title(self) -> str:
        names = [url.rstrip("/").rpartition("/")[2] for url in self.folders.values() if url]
        return f"the shards {', '.join(names[:-1])} and {names[-1]}" if names[1:] else f"the shards {names[0]}"

    def utterances(self, split: str, faults: Faults | None = None) -> Sequence[Utterance]:
        """A ShardTable: utterances are made when they are asked for, and nothing but the index is read."""
        from data.shards.table import Shards, ShardTable  # pyarrow and fsspec: a third of a second

        faults, url = faults or Faults(), self.folders[split]
        with faults.noted("shards that cannot be read", split):
            table = ShardTable(Shards(url, self.cache_dir, int(self.config.range_cache_gb * 1e9)))
            seal = table.shards.seal
            hours = seal.samples / 16_000 / 3600
            note = f"{url}: {len(seal.shards)} shards, {seal.utterances} utterances, {hours:.2f} h"
            if seal.dropped:
                note += f"; {len(seal.dropped)} utterances were left out when it was packed ({seal.dropped[0][0]}, ...)"
            self.notes += [note] if note not in self.notes else []
            return take_part(table, self.part) if self.part and split != self.splits.train else table
        return []

    def checksum(self, words_per_split: dict[str, int]) -> None:
        """None: nobody published this corpus' counts."""


def read_part(text: str) -> tuple[int, int]:
    """(K, N) of "K/N"; ConfigError for anything else.

    >>> read_part("3/16")
    (3, 16)
    """
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise ConfigError(f"--part {text}: give K/N, the K-th of N parts, as in 3/16.")
    return int(found[1]), int(found[2])


def part_bounds(length: int, part: tuple[int, int]) -> tuple[int, int]:
    """First position of a part and the one behind its last. The parts are disjoint, in order, and make up the whole.

    >>> [part_bounds(10, (k, 3)) for k in (1, 2, 3)]
    [(0, 3), (3, 6), (6, 10)]
    """
    number, of = part
    return length * (number - 1) // of, length * number // of


def take_part(table: ShardTable, part: tuple[int, int]) -> ShardTable:
    """The stretch of the table; CorpusError where it is empty."""
    from data.shards.table import ShardTable

    first, last = part_bounds(len(table), part)
    if first == last:
        raise CorpusError(f"--part {part[0]}/{part[1]} is empty: there are {len(table)} utterances. Ask for fewer parts.")
    return ShardTable(table.shards, table.rows.slice(first, last - first), f" {first}-{last}")
