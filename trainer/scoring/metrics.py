"""Error rates from integer counts: jiwer aligns each utterance, the counts are summed over the corpus, divided once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import jiwer

from data.text.normalise import collapse_spaces
from data.text.vocab import Vocab


@dataclass(frozen=True)
class EditCounts:
    """Hits and errors of one alignment, or their sums over many."""

    hits: int = 0
    substitutions: int = 0
    insertions: int = 0
    deletions: int = 0

    def __add__(self, other: EditCounts) -> EditCounts:
        return EditCounts(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.insertions + other.insertions,
            self.deletions + other.deletions,
        )

    @property
    def num_errors(self) -> int:
        return self.substitutions + self.insertions + self.deletions

    @property
    def num_reference(self) -> int:
        """Number of words (or characters) in the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def rate(self) -> float:
        """Errors per reference word, as a fraction. For an empty reference 0, or infinite if anything was written."""
        if self.num_reference == 0:
            return math.inf if self.num_errors else 0.0
        return self.num_errors / self.num_reference


def pool(counts: Iterable[EditCounts]) -> EditCounts:
    """The sum of the counts. A corpus' rate is computed from it and is not a mean of rates."""
    return sum(counts, EditCounts())


def count_word_errors(reference: str, hypothesis: str) -> EditCounts:
    """Word edits that turn `reference` into `hypothesis`; words are what white space separates."""
    if not reference.split():  # jiwer counts otherwise; here all that was written is insertions
        return EditCounts(insertions=len(hypothesis.split()))
    return _counts(jiwer.process_words(collapse_spaces(reference), collapse_spaces(hypothesis)))


def count_character_errors(reference: str, hypothesis: str) -> EditCounts:
    """Character edits; the single spaces between words count as characters."""
    reference, hypothesis = collapse_spaces(reference), collapse_spaces(hypothesis)
    if not reference:
        return EditCounts(insertions=len(hypothesis))
    return _counts(jiwer.process_characters(reference, hypothesis))


def count_sentence_errors(reference: str, hypothesis: str) -> EditCounts:
    """The utterance counts as one unit, which is right as a whole or substituted."""
    is_right = collapse_spaces(reference) == collapse_spaces(hypothesis)
    return EditCounts(hits=int(is_right), substitutions=int(not is_right))


def _counts(out: jiwer.WordOutput | jiwer.CharacterOutput) -> EditCounts:
    return EditCounts(out.hits, out.substitutions, out.insertions, out.deletions)


@dataclass(frozen=True)
class Metric:
    """An error rate: errors over reference units, both summed over the utterances of a split."""

    title: str
    count: Callable[[str, str], EditCounts]
    """A function from a reference and a hypothesis to the edits between them."""
    of: tuple[str, ...] = ("words",)
    """What transcripts consist of where this rate means something: names of UNITS."""


METRICS = {
    "wer": Metric("word error rate", count_word_errors),
    "per": Metric("phone error rate", count_word_errors, of=("phones",)),  # a text of phones has spaces between them
    "uer": Metric("unit error rate", count_word_errors, of=("units",)),
    "cer": Metric("character error rate", count_character_errors),
    "ser": Metric("sentence error rate", count_sentence_errors, of=("words", "phones", "units")),
}
"""Key in results.json -> error rate. A new entry appears in the evaluation lines, TensorBoard, metrics.jsonl,
results.json, the model card and the report of the runs whose transcripts it is `of`."""


@dataclass(frozen=True)
class Units:
    """What a run's transcripts consist of. The errors in them are counted by `main`, which also selects weights."""

    name: str
    one: str
    main: str
    """A key of METRICS."""

    @property
    def label(self) -> str:
        """The main error rate as it is printed: WER."""
        return self.main.upper()

    @property
    def title(self) -> str:
        """The main error rate's full name."""
        return METRICS[self.main].title

    @property
    def metrics(self) -> dict[str, Metric]:
        """The error rates that mean something, the main one first."""
        return {key: metric for key, metric in METRICS.items() if self.name in metric.of}


WORDS, PHONES, SPACED = Units("words", "word", "wer"), Units("phones", "phone", "per"), Units("units", "unit", "uer")
"""Of SPACED it is known that there are spaces between them, and not what they are: syllables, perhaps."""
UNITS = {units.name: units for units in (WORDS, PHONES, SPACED)}


def units_written(vocab: Vocab) -> Units:
    """What a vocabulary's text consists of."""
    if not vocab.phonemes:
        return WORDS
    return SPACED if vocab.units_are == "spaced" else PHONES


def describe_rule(vocab: Vocab) -> str:
    """How units are compared, which is to be said wherever their error rate stands; empty for words."""
    if vocab.scoring is not None:
        return vocab.scoring.describe()
    return "units as they are written" if vocab.phonemes else ""


def units_of(record: Mapping[str, object]) -> Units:
    """The units that a record of results.json is about: it holds their main error rate."""
    return next((units for units in UNITS.values() if units.main in record), WORDS)
