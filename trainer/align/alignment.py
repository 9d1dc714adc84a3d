"""What an alignment hands over. Times are samples at SAMPLE_RATE. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from data.utterance import SAMPLE_RATE
from trainer.recognize.transcript import Span

Status = Literal["aligned", "unmatched", "unspelled", "silent"]


@dataclass(frozen=True)
class AlignedUnit(Span):
    """A unit of the model's vocabulary where it is said."""

    text: str
    start: int
    end: int
    score: float
    """Its highest posterior where the path writes it, 0 to 1."""


@dataclass(frozen=True)
class AlignedWord(Span):
    """A word of the transcript, in its order."""

    text: str
    """As the transcript has it."""
    status: Status
    """aligned; unmatched: it is not heard, so it has no length and stands where it would be; unspelled: none of its
    characters has a unit, so it has the stretch in which something else than its neighbours is said; silent: a sign
    that is not spoken, without length."""
    start: int
    end: int
    score: float | None
    """Geometric mean of its units' scores; None unless it is aligned."""
    units: tuple[AlignedUnit, ...] = ()


@dataclass(frozen=True)
class Unwritten(Span):
    """A stretch in which something is said that is not in the transcript."""

    start: int
    end: int
    heard: str
    """What the model reads there."""


@dataclass(frozen=True)
class Alignment:
    """One recording and its transcript."""

    name: str
    num_samples: int
    words: tuple[AlignedWord, ...]
    unwritten: tuple[Unwritten, ...]
    notes: tuple[str, ...] = ()
    """What the user should know: characters without a unit, words that are not heard, too few frames."""
    label: str = ""
    """A name without suffix that is unique among the recordings; empty: the file's stem."""

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)

    @property
    def seconds(self) -> float:
        return self.num_samples / SAMPLE_RATE

    @property
    def score(self) -> float | None:
        """Mean score of the aligned words; None without one."""
        scores = [word.score for word in self.words if word.score is not None]
        return sum(scores) / len(scores) if scores else None
