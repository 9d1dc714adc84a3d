"""What every corpus, its batches and its augmentation need to know. Plain dataclasses: no torch here.

The options of one kind of corpus stand beside its reader, in data.corpora.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from data.text.normalise import normalizer
from data.text.phones import PHONE_SETS, PhoneScoring, Silences
from data.text.units import TextUnits, unit_rule
from data.utterance import Corpus

T = TypeVar("T")


def option(default: T, *, common: bool = False, free: bool = False, place: bool = False) -> T:
    """A field of a CorpusConfig of which more is to be said than its name, type, default and meaning.

    common: `--help` shows it; `--help-all` shows every option.
    free: a resumed run may change it, since the utterances themselves are compared.
    place: it says where the corpus lies. It is free, and the model card does not list it as a hyper-parameter.
    """
    return field(default=default, metadata={"common": common, "free": free or place, "place": place})


def options_marked(mark: str, config: CorpusConfig | type[CorpusConfig]) -> set[str]:
    """The names of the fields of `config` that `option` marks as "common", "free" or "place"."""
    return {f.name for f in fields(config) if f.metadata.get(mark)}


@dataclass(frozen=True, kw_only=True)
class CorpusConfig(abc.ABC):
    """What every corpus has: how its text is normalised and which utterances are kept.

    A kind of corpus is a subclass in a module of data.corpora. It adds its options, each with a default, and
    overrides the methods below.
    """

    preset: ClassVar[str] = ""
    """The preset of this corpus with every option at its default; `--help` tells it by the docstring's first paragraph.
    Empty: it has none but those of trainer.config.presets."""

    has_digests: ClassVar[bool] = False
    """Whether recordings are told apart by a digest even where no audio is stored."""

    normalizer: Literal["plain", "plain-upper", "hf-timit"] = "plain"
    """Transcript normalisation: plain (lower case, punctuation to space, apostrophe kept), plain-upper, or hf-timit."""

    language: str = option("", free=True)
    """ISO 639 code of the transcripts' language: tr, az and lt have their own rules of case; told in the card;
    none: not said."""

    units: TextUnits = "auto"
    """What transcripts consist of: words, learned by their characters; phones with spaces between them; other units
    that are spaced (syllables, ...); phones61, phones48, phones39: TIMIT's labels, folded; auto: what the checkpoint
    writes, else words."""

    silences: Silences = option("kept", free=True)  # noqa: RUF009
    """How the error rate of TIMIT's phones counts silences (closures and pauses too): kept, merged with neighbours, or
    removed."""

    vocabulary: Literal["auto", "own", "new"] = "auto"
    """auto: the checkpoint's own units if every character of the training text has one; own: whatever has none is its
    unknown unit; new: built from that text."""

    spelling: Literal[
        "auto", "as-is", "upper", "lower", "nfc", "upper-nfc", "lower-nfc", "nfd", "upper-nfd", "lower-nfd",
        "jamo", "upper-jamo", "lower-jamo"
    ] = "auto"  # fmt: skip
    """How text is written in a checkpoint's own units (capitals, composed or decomposed characters, Korean letters);
    auto: the one way in which they can write all references."""

    bos_eos: bool = False
    """Add the never-used units <s> and </s> to a new vocabulary, as the Hugging Face CTC example does."""

    on_bad: Literal["error", "drop"] = option("error", common=True, free=True)
    """A bad training utterance stops the run (error) or is left out, counted and named (drop)."""

    on_bad_eval: Literal["error", "deletions"] = option("error", free=True)
    """Evaluation audio that cannot be read stops the run (error), or its words count as deletions, and are counted."""

    max_seconds: float = 30.0
    """Training utterances longer than this count as bad."""

    max_eval_seconds: float = option(1800.0, free=True)
    """An evaluation utterance longer than this is an error, since none is left out; memory must hold it whole."""

    exclude: str = option("", place=True)
    """File of training utterances to leave out: ids, one a line, or JSON lines with "id"; none: all are used."""

    patch: str = option("", place=True)
    """File of corrected transcripts, JSON lines: {"id": ..., "text": ...}, or "drop": true in place of a text;
    none: transcripts are the corpus' own."""

    store: bool = option(True, free=True)
    """Decode all audio once into a memory-mapped file under --cache-dir; --corpus.no-store decodes on the fly."""

    def required(self, training: bool) -> list[tuple[str, str]]:
        """(What a message asks for, its value) of each option without which there is nothing to read.

        Without `training`, only what scoring needs.
        """
        return []

    def language_code(self) -> str | None:
        """The language of the transcripts, for the model card; None where nothing states it."""
        return self.language or None

    def kind_of_speech(self) -> str:
        """Which speech this is, for the model card's limits."""
        return "this corpus, which does not say whether it was read or spoken freely"

    def problem(self) -> str:
        """Why these options cannot stand together, and the remedy; empty if they can."""
        if self.silences != "kept" and self.units not in PHONE_SETS:
            return (
                f"--corpus.silences {self.silences} is about the silences of TIMIT's phones: leave it out, or give "
                "--corpus.units phones39"
            )
        return ""

    def are_units(self) -> bool | None:
        """Whether transcripts consist of units with spaces between them; None: as the checkpoint writes, else words."""
        return {"auto": None, "words": False}.get(self.units, True)

    def phone_scoring(self) -> PhoneScoring | None:
        """How phones of TIMIT are compared; None where what is written is compared as it stands."""
        return PhoneScoring(self.silences) if self.units in PHONE_SETS else None

    def text_rule(self, *, are_units: bool | None = None) -> Callable[[str], str]:
        """What makes of a transcript what the model should write. `are_units` decides where the options do not."""
        if self.are_units() or (self.are_units() is None and are_units):
            return unit_rule(self.units)
        return normalizer(self.normalizer, self.language)

    @abc.abstractmethod
    def open(self, cache_dir: Path, progress: Callable[[int, int], None]) -> Corpus:
        """The corpus that these options name; CorpusError where there is none.

        What has to be made first is made under `cache_dir`, and progress(done, total) is called meanwhile.
        """


@dataclass(frozen=True, kw_only=True)
class BatchingConfig:
    """How utterances become batches."""

    batch_size: int | None = 32
    """Utterances per microbatch at most; none: no limit but max_batch_seconds."""

    max_batch_seconds: float | None = None
    """Padded audio seconds per microbatch at most, the first to lower when memory runs out; none: no limit."""

    frame_grid: int | None = None
    """Pad batches to multiples of this many frames (20 ms each), so that a GPU meets few shapes; auto: 8 with CUDA,
    else 1."""

    worker_timeout: float = 600.0
    """Seconds without a batch after which a loader worker counts as hung."""

    num_workers: int | None = None
    """Processes that load and collate, 0: the training process itself. Changes no result; auto: 2 with CUDA, else 0."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Waveform augmentation of training utterances."""

    speeds: tuple[float, ...] = ()
    """Speed factors, one drawn per utterance and epoch, by resampling (Ko et al. 2015); none: speech as it is."""
