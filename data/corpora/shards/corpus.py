"""The utterances of shards, as a table: nothing but the index is read, and no audio is opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow.compute as pc

from data.corpora.shards import ShardsConfig
from data.faults import Faults
from data.shards.index import in_words
from data.shards.parts import part_bounds, read_part
from data.shards.table import Shards, ShardTable
from data.utterance import Splits, Utterance
from trainer.errors import CorpusError


class ShardsCorpus:
    """Two folders of shards, one to train on and one to score; a third one, if given, is the test split."""

    splits = Splits(train="train", monitor="eval", headline="eval", closing=("eval",))

    def __init__(self, config: ShardsConfig, cache_dir: Path) -> None:
        self.config, self.cache_dir = config, cache_dir
        self.part = read_part(config.part) if config.part else None
        self.notes: list[str] = []
        self.folders = {"train": config.train, "eval": config.eval, "test": config.test}
        are_same = config.test.rstrip("/") == config.eval.rstrip("/")
        self.splits = self.splits.with_given_test(config.eval, config.test, are_same=are_same)

    @property
    def title(self) -> str:
        names = [url.rstrip("/").rpartition("/")[2] for url in self.folders.values() if url]
        return f"the shards {', '.join(names[:-1])} and {names[-1]}" if names[1:] else f"the shards {names[0]}"

    def utterances(self, split: str, faults: Faults | None = None) -> Sequence[Utterance]:
        """A ShardTable: utterances are made when they are asked for, and nothing but the index is read."""
        faults, url = faults or Faults(), self.folders[split]
        with faults.noted("shards that cannot be read", split):
            table = ShardTable(Shards(url, self.cache_dir, int(self.config.range_cache_gb * 1e9)))
            seal = table.shards.seal
            hours = seal.samples / 16_000 / 3600
            note = f"{url}: {in_words(len(seal.shards))}, {seal.utterances} utterances, {hours:.2f} h"
            if seal.dropped:
                note += f"; {len(seal.dropped)} utterances were left out when it was packed ({seal.dropped[0][0]}, ...)"
            lack = table.shards.cache and table.shards.cache.describe_lack(pc.sum(table.rows["bytes"]).as_py())
            self.notes += [told for told in (note, lack) if told and told not in self.notes]
            return take_part(table, self.part) if self.part and split != self.splits.train else table
        return []

    def checksum(self, words_per_split: dict[str, int]) -> None:
        """None: nobody published this corpus' counts."""


def take_part(table: ShardTable, part: tuple[int, int]) -> ShardTable:
    """The stretch of the table; CorpusError where it is empty."""
    first, last = part_bounds(len(table), part)
    if first == last:
        raise CorpusError(
            f"--part {part[0]}/{part[1]} is empty: there are {len(table)} utterances. Ask for fewer parts."
        )
    return table.slice(first, last)
