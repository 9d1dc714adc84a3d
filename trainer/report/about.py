"""What a report says of its run before any figure: model, corpus, date, command, seed, and files beside it. HTML."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import time
from html import escape
from pathlib import Path
from typing import Any

from trainer.config.as_json import read_config
from trainer.config.schema import Config
from trainer.errors import ConfigError

FILES = {
    "model/README.md": "model card",
    "results.json": "results",
    "hypotheses.jsonl": "transcripts",
    "metrics.jsonl": "figures of every step",
}
"""Files of a run's folder that the report leads to."""
PLACES = ("root", "train", "eval", "test", "dataset", "subset", "size", "protocol", "units")
"""Options of a corpus that say which one it is."""


def about(run_dir: Path, results: dict[str, Any], headline: str) -> str:
    """A list of facts. What the run's files do not tell is left out."""
    facts: dict[str, str] = {}
    seed = ""
    with contextlib.suppress(ConfigError):  # a folder without a config.json still has its results
        config = read_config(run_dir / "config.json", lenient=True)
        facts |= {"Model": escape(model_of(config)), "Corpus": escape(corpus_of(config))}
        seed = str(config.seed)
    scored = time.strftime("%Y-%m-%d", time.localtime((run_dir / "results.json").stat().st_mtime))
    facts["Scored"] = f"{escape(headline)}, {scored}"
    if corrections := results.get("corrections"):
        facts["Corrected"] = "; ".join(f"{escape(split)}: {escape(done)}" for split, done in corrections.items())
    if command := results.get("command"):
        words = ("python", "-m", "trainer.run", *map(shlex.quote, command))  # a line never ends within an option
        facts["Command"] = f"<code>{' '.join(f'<span>{escape(word)}</span>' for word in words)}</code>"
    if seed and "steps" in results:  # scoring alone draws nothing
        facts["Seed"] = seed
    links = [f'<a href="{name}">{title}</a>' for name, title in FILES.items() if (run_dir / name).exists()]
    if links:
        facts["Beside this file"] = ", ".join(links)
    return f'<dl class="about">{"".join(f"<dt>{term}</dt><dd>{html}</dd>" for term, html in facts.items())}</dl>'


def model_of(config: Config) -> str:
    """`facebook/wav2vec2-base, revision abc` or `unispeech small, from random weights`."""
    model = config.model
    if model.pretrained is None:
        return f"{model.family} {model.size}, from random weights"
    return model.pretrained + (f", revision {model.revision}" if model.revision else "")


def corpus_of(config: Config) -> str:
    """The preset, and where its corpus lies: `manifest (train data/train.jsonl, eval data/eval.jsonl)`."""
    known = {f.name: getattr(config.corpus, f.name) for f in dataclasses.fields(config.corpus)}
    said = [f"{name} {known[name]}" for name in PLACES if known.get(name)]
    return config.preset + (f" ({', '.join(said)})" if said else "")
