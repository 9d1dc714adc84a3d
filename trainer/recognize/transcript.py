"""What a recogniser hands over: words with their times and confidences. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from data.utterance import SAMPLE_RATE


class Span:
    """A stretch of a recording, in samples at SAMPLE_RATE."""

    start: int
    end: int

    @property
    def start_seconds(self) -> float:
        return self.start / SAMPLE_RATE

    @property
    def end_seconds(self) -> float:
        return self.end / SAMPLE_RATE


@dataclass(frozen=True)
class Word(Span):
    """A word where the model wrote it, in samples at SAMPLE_RATE.

    A word begins with the first frame of its first unit and ends with the last frame of its last unit. CTC writes a
    unit only when it is sure, so these times may lie within the spoken word.
    """

    text: str
    start: int
    end: int
    confidence: float
    """P(the word is right) where that is calibrated, else the geometric mean of its units' highest posteriors."""
    times: tuple[tuple[int, int], ...] = ()
    """(start, end) of each character of `text`; () when not known."""


@dataclass(frozen=True)
class Alternative:
    """What else may have been said, by a beam search (docs/decode.md)."""

    text: str
    score: float
    """Natural log; what alternatives are ranked by, with language model and hot words."""
    acoustic: float
    """log p(text | audio) alone."""


@dataclass(frozen=True)
class TimedTranscript:
    """What the model wrote for one recording."""

    name: str
    """The file's path, as the user gave it."""
    num_samples: int
    """Length in samples at SAMPLE_RATE."""
    words: tuple[Word, ...]
    label: str = ""
    """A name without suffix that is unique among the recordings; empty: the file's stem."""
    channel: int | None = None
    """The one that was read, 1 the first; None: the mean of all."""
    written: str | None = None
    """The text as the checkpoint's tokenizer writes it; None: the words with spaces between them."""
    is_calibrated: bool = False
    """Whether the words' confidences are probabilities, calibrated on a development split."""
    alternatives: tuple[Alternative, ...] = ()
    """The best hypotheses, the best first, where they were asked for; the first is the text itself."""
    is_emptied: bool = False
    """Whether the beam writes nothing where the best path writes something."""

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words) if self.written is None else self.written

    @property
    def confidence(self) -> float | None:
        """The mean of its words' confidences: the share of them to expect to be right. None without words."""
        return sum(word.confidence for word in self.words) / len(self.words) if self.words else None

    @property
    def seconds(self) -> float:
        return self.num_samples / SAMPLE_RATE
