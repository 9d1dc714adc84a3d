"""The one record that every corpus yields, and what a corpus promises. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from data.faults import Faults
from trainer.errors import CorpusError

if TYPE_CHECKING:
    import numpy as np

SAMPLE_RATE = 16_000
"""Samples per second of everything behind an AudioSource; the encoders know no other rate."""


@dataclass(frozen=True)
class AudioHeader:
    """What a file says of its audio before it is decoded."""

    rate: int
    """Samples per second in the file."""
    num_channels: int
    num_frames: int
    """Samples per channel, at the file's own rate."""
    is_pcm16: bool
    """16-bit integers, which a store can keep as they are."""
    num_missing: int = 0
    """Samples per channel that the file promises beyond `num_frames`: few, or it would not be read."""
    remark: str = ""
    """What else is odd about the file, though it is read."""


class AudioSource(Protocol):
    """Audio that can be measured without being decoded: a file, or a part of one. Errors are AudioError."""

    @property
    def name(self) -> str:
        """The file's path, or data set and row."""

    @property
    def identity(self) -> str:
        """Cheap to get, and another one whenever the content may have changed (path, size and time; the part)."""

    @property
    def header(self) -> AudioHeader: ...

    @property
    def num_samples(self) -> int:
        """Samples that `load` returns: mono, at SAMPLE_RATE."""

    def raw(self) -> bytes:
        """The encoded file's bytes, the whole file's also for a part of it."""

    def mono(self) -> np.ndarray:
        """float32 (header.num_frames,), channels averaged, at the file's own rate: what `load` resamples."""

    def load(self) -> np.ndarray:
        """float32 (num_samples,), mono, at SAMPLE_RATE; full scale is 1, which resampling may overshoot."""


class Segment(NamedTuple):
    """A labelled stretch of an utterance, in samples. TIMIT has a quarter of a million of them."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class Utterance:
    """One recording and its transcript, as the corpus wrote it. Fields a corpus does not know are None or empty."""

    id: str
    audio: AudioSource
    text: str
    speaker: str | None = None
    sex: str | None = None
    """F or M."""
    dialect: str | None = None
    """TIMIT's dialect region, DR1 to DR8."""
    sentence_type: str | None = None
    """TIMIT's SA (read by all), SX (read by seven) or SI (read by one)."""
    words: tuple[Segment, ...] = field(default=(), repr=False)
    phones: tuple[Segment, ...] = field(default=(), repr=False)
    origin: str = ""
    """Where the corpus found it, for messages: file, or file:line."""
    stated_duration: float | None = None
    """Seconds that the corpus says the whole file lasts; None where it says nothing, and for a part of a file."""


SELECTED = "optimistic: the weights were selected on it"
"""What is said of a split whose WER chose among the weights that it is then scored with."""


@dataclass(frozen=True)
class Splits:
    """What a corpus (and its protocol) is trained and scored on."""

    train: str
    monitor: str
    """Scored during training."""
    headline: str
    """Whose figures stand at the top of results.json."""
    closing: tuple[str, ...]
    """Scored at the end, with the weights that are exported."""
    selects: bool = False
    """`monitor` is there to select weights: the best ones on it are exported unless the user says otherwise."""
    unselected: dict[str, str] = field(default_factory=dict)
    """Splits that overlap `monitor`, scored with the last weights only, and the note that says so."""
    within: dict[str, str] = field(default_factory=dict)
    """Split -> a split that holds all its utterances. Where both are scored, the smaller is taken from the larger."""
    protocols: dict[str, str] = field(default_factory=dict)
    """Split -> the name under which its figures are published; {} in it stands for the number of utterances."""
    notes: dict[str, str] = field(default_factory=dict)
    """Split -> what must be said of its figures after training on `train`."""

    def protocol(self, split: str, num_utterances: int) -> str:
        """The published name of a split of so many utterances, as core-192; "" where it has none.

        The number is counted: a tree that lacks files must not claim the name of a whole one.
        """
        return self.protocols.get(split, "").format(num_utterances)

    def around(self, split: str) -> list[str]:
        """The splits that hold all utterances of `split`, the smallest first."""
        found: list[str] = []
        while (split := self.within.get(split, "")) and split not in found:
            found.append(split)
        return found

    def note(self, split: str, *, selected: bool) -> str:
        """What must be said of a split's figures: how its utterances took part in training and, if the weights were
        `selected` on `monitor`, in that choice; "" if there is nothing to say."""
        selection = self._selection(split) if selected else self.unselected.get(split, "")
        return "; ".join(filter(None, [selection, self.notes.get(split, "")]))

    def _selection(self, split: str) -> str:
        if split == self.monitor:
            return SELECTED
        if self.monitor in self.around(split):
            return f"optimistic: part of {self.monitor}, on which the weights were selected"
        if split in self.around(self.monitor):
            return f"optimistic: contains {self.monitor}, on which the weights were selected"
        return ""

    def with_test(self, test: str) -> Splits:
        """The same with a test split besides: `monitor` selects the weights, `test` is reported first."""
        return replace(self, headline=test, closing=(test, *self.closing), selects=True)

    def with_given_test(self, evaluation: str, test: str, *, are_same: bool) -> Splits:
        """The same for what --corpus.eval and --corpus.test name, either empty if it was not given. A test split alone
        is all that is scored. CorpusError if both name one place (`are_same`)."""
        if not test:
            return self
        if not evaluation:  # a model is only scored
            return replace(self, monitor="test", headline="test", closing=("test",))
        if are_same:
            raise CorpusError(
                f"--corpus.test and --corpus.eval are both {test}. The test split must be another one: the evaluation "
                "split selects the weights. Without one, leave out --corpus.test."
            )
        return self.with_test("test")


class Corpus(Protocol):
    """Where utterances come from. Nothing downstream asks which one it was."""

    @property
    def title(self) -> str:
        """For the model card."""

    @property
    def splits(self) -> Splits: ...

    def utterances(self, split: str, faults: Faults | None = None) -> Iterable[Utterance]:
        """In a fixed order, ids unique; CorpusError where the corpus itself is malformed, unless `faults` collects."""

    def checksum(self, words_per_split: dict[str, int]) -> tuple[str, bool] | None:
        """(Line comparing the corpus as read with its published counts, whether it is worth a warning); or None."""
