"""Where utterances come from. `open_corpus` is the only place that knows all corpora."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from data.config import CorpusConfig, HubConfig, ManifestConfig, SyntheticConfig, TimitConfig
from data.corpora.manifest import ManifestCorpus
from data.corpora.synthetic.tree import ensure_tree
from data.corpora.timit import TimitCorpus
from data.utterance import Corpus


def open_corpus(config: CorpusConfig, cache_dir: Path, synthesis_progress: Callable[[int, int], None]) -> Corpus:
    """The corpus that `config` names; the synthetic one is made first if it is not in the cache."""
    match config:
        case TimitConfig():
            return TimitCorpus(
                Path(config.root), config.protocol, config.normalizer, allow_incomplete=config.allow_incomplete
            )
        case SyntheticConfig():
            root = ensure_tree(config.size, config.seed, cache_dir, progress=synthesis_progress)
            return TimitCorpus(root, config.protocol, config.normalizer)
        case ManifestConfig():
            return ManifestCorpus(config)
        case HubConfig():
            from data.corpora.hub import HubCorpus  # datasets, pandas and pyarrow: a third of a second

            return HubCorpus(config)


def reading_notes(corpus: Corpus) -> list[str]:
    """How the corpus was read where its files leave a choice (names of columns, delimiters), a line each.

    Complete once its splits were read.
    """
    return list(getattr(corpus, "notes", ()))  # TIMIT's tree leaves no choice
