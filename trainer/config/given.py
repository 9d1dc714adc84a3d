"""A Config whose corpus a Python program hands over."""

from __future__ import annotations

from dataclasses import replace

from data.corpora.given import GivenConfig
from data.utterance import Corpus
from trainer.config.schema import Config
from trainer.errors import ConfigError

PRESET = "python"
"""What stands for the preset of such a run; no command line knows it."""


def with_given(config: Config, corpus: Corpus | None) -> Config:
    """`config` for a `corpus` that is handed over, or as it is without one; ConfigError where the two do not fit."""
    if corpus is None:
        return config
    if not isinstance(config.corpus, GivenConfig):
        raise ConfigError(
            f"corpus=... and the {type(config.corpus).__name__} of Config both name a corpus. For one that is handed "
            "over, give Config(corpus=GivenConfig(...)), which says how its text is read."
        )
    return replace(config, preset=PRESET)
