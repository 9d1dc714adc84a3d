"""Where utterances come from: every module or package here that defines a subclass of CorpusConfig is a kind of corpus.

A kind is found by its file alone. All of them are imported before the command line is parsed, so a reader of heavy
packages (as data.corpora.hub) is imported by `open`, when it is needed.
"""

from __future__ import annotations

import importlib
import pkgutil

from data.config import CorpusConfig
from data.utterance import Corpus


def _find_kinds() -> dict[str, type[CorpusConfig]]:
    kinds: dict[str, type[CorpusConfig]] = {}
    for name in sorted(module.name for module in pkgutil.iter_modules(__path__, f"{__name__}.")):
        for kind in vars(importlib.import_module(name)).values():
            if not (isinstance(kind, type) and issubclass(kind, CorpusConfig) and kind.__module__ == name):
                continue  # its own classes only, not what it imports
            if other := kinds.get(kind.__name__):
                raise ImportError(
                    f"{name} and {other.__module__} both define {kind.__name__}. Rename one: config.json names a "
                    "corpus by its class.",
                    name=name,
                )
            kinds[kind.__name__] = kind
    return kinds


KINDS = _find_kinds()
"""Class name -> class of the options of every kind of corpus, in the order of their modules' names."""


def reading_notes(corpus: Corpus) -> list[str]:
    """How the corpus was read where its files leave a choice (names of columns, delimiters), a line each.

    Complete once its splits were read.
    """
    return list(getattr(corpus, "notes", ()))  # TIMIT's tree leaves no choice
