"""The first words of a run: they appear before torch is imported, which takes seconds."""

from __future__ import annotations

from dataclasses import fields

from data.config import CorpusConfig, options_marked
from trainer.cli.console import Console
from trainer.config.schema import Config


def greet(config: Config) -> None:
    """Say which recipe goes into which folder, and what is read for it."""
    console = Console()
    console.say(f"{config.preset} -> {config.run_dir}")
    console.item("reads", what_is_read(config))


def what_is_read(config: Config) -> str:
    """The corpus and the encoder, as the options name them."""
    encoder = config.model.pretrained or f"no checkpoint ({config.model.size}, random weights)"
    return f"{places(config.corpus)}; {encoder}"


def places(corpus: CorpusConfig) -> str:
    """Where a corpus lies; of one that is made on the spot, what it is."""
    marked = options_marked("place", corpus)
    named = [str(getattr(corpus, f.name)) for f in fields(corpus) if f.name in marked and getattr(corpus, f.name)]
    about = (type(corpus).__doc__ or "").strip().partition("\n\n")[0].rstrip(".")
    return ", ".join(named) or about[:1].lower() + about[1:]
