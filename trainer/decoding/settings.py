"""What a user asks of decoding, from the command line or from the decoding.json of an evaluation."""

from __future__ import annotations

import json
import math
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from data import strict_json
from data.text.utf8 import wrong_byte
from trainer.decoding.beam import BeamOptions
from trainer.decoding.fusion import Weights
from trainer.errors import ConfigError
from trainer.rundir.disk import sha256

FILE = "decoding.json"
AUTO = "auto"
HOT_WEIGHT = 4.0
"""What a hot word gains if nothing is said: as a word that is e**4 times as likely."""


@dataclass(frozen=True)
class Decoding:
    """Which model, which weights and how wide a beam."""

    lm: Path | None = None
    weights: Weights = field(default_factory=Weights)
    of_units: bool = False
    """The model is one of units, as characters or phonemes, where units are no words by themselves."""
    lexicon: str = ""
    """A file, or LM_WORDS: the words of the model; empty: any spelling."""
    hot_words: dict[str, float] = field(default_factory=dict)
    beam: BeamOptions = field(default_factory=BeamOptions)
    tuned_on: str = ""
    """The split that the weights were tuned on; empty: they were given."""

    @property
    def describe(self) -> str:
        """For a line on the terminal."""
        parts = [f"beam of {self.beam.width}"]
        if self.lm is not None:
            parts.append(f"{self.lm.name}, weight {self.weights.lm:g}, word score {self.weights.word:g}")
        if self.lexicon:
            parts.append("words of the model only" if self.lexicon == LM_WORDS else f"lexicon {self.lexicon}")
        if self.hot_words:
            parts.append(f"{len(self.hot_words)} hot words")
        return ", ".join(parts)


LM_WORDS = "lm"


def read_weight(text: str, option: str) -> float:
    """A finite number; ConfigError names the option."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"{option} {text}: give a number.")
    return value


def read_lines(path: Path, option: str) -> list[str]:
    """The lines of a text file that `option` names; ConfigError, with the line, where they are not UTF-8."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{option} {path}: {error.strerror or error}. Give a text file in UTF-8.") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number, byte = wrong_byte(error)
        what = "packed with gzip" if raw.startswith(b"\x1f\x8b") else f"not UTF-8 (byte 0x{byte:02x})"
        raise ConfigError(f"{path}:{number}: {what}. {option} takes a text file in UTF-8.") from None
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")


def read_hot_words(given: Sequence[str]) -> dict[str, float]:
    """`--hot-word NAME` or NAME=WEIGHT, each once; a file is @FILE, one phrase a line, with its weight behind a tab.

    >>> read_hot_words(["Saoirse", "São Paulo=6"])
    {'Saoirse': 4.0, 'São Paulo': 6.0}
    """
    found: dict[str, float] = {}

    def add(phrase: str, gain: float, where: str) -> None:
        if phrase in found:
            raise ConfigError(f"{where}: {phrase} is given twice. Give it once, with one weight.")
        found[phrase] = gain

    for text in given:
        if not text.startswith("@"):
            phrase, equals, weight = text.rpartition("=")
            gain = read_weight(weight, f"--hot-word {phrase}: the weight behind =,") if equals else HOT_WEIGHT
            add((phrase if equals else text).strip(), gain, "--hot-word")
            continue
        path = Path(text[1:])
        for number, line in enumerate(read_lines(path, "--hot-word"), 1):
            phrase, tab, weight = line.partition("\t")
            if phrase.strip():
                gain = read_weight(weight, f"{path}:{number}: the weight behind the tab,") if tab else HOT_WEIGHT
                add(phrase.strip(), gain, f"{path}:{number}")
    if "" in found:
        raise ConfigError("--hot-word: there is no word before its weight.")
    return found


def from_options(args: Namespace, weights: Weights | None = None) -> Decoding:
    """What the options of trainer.decoding.options ask for. `weights` are tuned ones, which options change one by one.

    ConfigError over an impossible value. --lm-weight auto counts as not given.
    """
    weights = weights or Weights()
    given = {
        "lm": ("--lm-weight", None if args.lm_weight == AUTO else args.lm_weight),
        "word": ("--word-score", args.word_score),
        "unknown": ("--unknown-score", args.unknown_score),
    }
    changes = {name: read_weight(text, option) for name, (option, text) in given.items() if text is not None}
    weights = replace(weights, **changes)
    if weights.lm < 0:
        raise ConfigError(f"--lm-weight {weights.lm:g}: give 0 or more.")
    if args.lm is not None and not args.lm.is_file():
        raise ConfigError(
            f"--lm {args.lm}: no such file. Give an n-gram model in ARPA format (python -m scripts.ngram)."
        )
    beam = BeamOptions() if args.beam is None else BeamOptions(width=args.beam)
    return Decoding(args.lm, weights, args.units, args.lexicon, read_hot_words(args.hot_word), beam)


def as_record(decoding: Decoding) -> dict[str, Any]:
    """What decoding.json and results.json say of it."""
    record = {
        "lm": None if decoding.lm is None else str(decoding.lm),
        "lm_sha256": None if decoding.lm is None else sha256(decoding.lm),
        "lm_weight": decoding.weights.lm,
        "word_score": decoding.weights.word,
        "unknown_score": decoding.weights.unknown,
        "of_units": decoding.of_units,
        "lexicon": decoding.lexicon,
        "hot_words": decoding.hot_words,
        "beam": asdict(decoding.beam),
        "tuned_on": decoding.tuned_on,
    }
    return record


def write_decoding(folder: Path, decoding: Decoding) -> None:
    (folder / FILE).write_text(strict_json.dumps(as_record(decoding), indent=2) + "\n", encoding="utf-8")


def tuned_weights(folder: Path, lm: Path) -> tuple[Weights, str] | None:
    """The weights that an evaluation in `folder` tuned for the model `lm`, and the split; None where it did not.

    ConfigError when its file is there and cannot be read.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        weights = Weights(float(record["lm_weight"]), float(record["word_score"]), float(record["unknown_score"]))
        is_same, split = record["lm_sha256"] == sha256(lm), str(record["tuned_on"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not readable as weights ({error}). Give --lm-weight and --word-score.") from None
    return (weights, split) if is_same and split else None
