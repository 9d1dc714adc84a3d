"""Shards that scripts.shards packed: a corpus in a few large files, on a disk or in an object store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data.config import CorpusConfig, option
from data.utterance import Corpus


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
        from data.corpora.shards.corpus import ShardsCorpus  # fsspec and pyarrow: a fifth of a second

        return ShardsCorpus(self, cache_dir)
