"""A TIMIT-shaped corpus made on the spot by a speech synthesizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data.config import option
from data.corpora.synthetic.tree import ensure_tree
from data.corpora.timit import TimitCorpus
from data.corpora.timit.phones import PhoneConfig
from data.utterance import Corpus


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig(PhoneConfig):
    """A TIMIT-shaped tree spoken by espeak-ng, made on the spot."""

    size: Literal["tiny", "demo", "full"] = "demo"
    """tiny: 40/40 utterances, for tests; demo: 1200/240; full: 4620/1680 with TIMIT's lengths."""

    seed: int = 0
    """Which corpus: sentences, speakers and voices follow from it."""

    protocol: Literal["hf", "kaldi", "no-sa"] = option("no-sa", common=True)
    """As for TIMIT."""

    def language_code(self) -> str:
        return "en"

    def open(self, cache_dir: Path, progress: Callable[[int, int], None]) -> Corpus:
        root = ensure_tree(self.size, self.seed, cache_dir, progress=progress)
        return TimitCorpus(root, self.protocol, self.normalizer, units=self.units)
