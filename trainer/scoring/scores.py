"""What an evaluation has found: a hypothesis for each utterance, and the figures pooled over all of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from trainer.scoring.confidence import WordEvidence
from trainer.scoring.metrics import METRICS, WORDS, EditCounts, Units, pool


@dataclass(frozen=True)
class Hypothesis:
    """What the model wrote for one utterance."""

    id: str
    reference: str
    hypothesis: str
    words: EditCounts
    """The edits that the main error rate counts: of words, or of phones where `units` says so."""
    characters: EditCounts
    """None are counted where the units are phones."""
    loss: float
    """Nats per unit; infinite where CTC cannot write the reference, or where there is no audio."""
    seconds: float | None = None
    speaker: str | None = None
    sex: str | None = None
    dialect: str | None = None
    """Length, speaker, sex and dialect region are None where they are not known."""
    failure: str = ""
    """Why the utterance has no audio; empty if it has."""
    num_frames: int = 0
    num_blank_frames: int = 0
    """Frames whose most likely unit is the blank."""
    units: Units = WORDS
    evidence: WordEvidence | None = field(default=None, compare=False, repr=False)
    """What confidences in its words are computed from; None where it was not asked for or is not known."""
    confidences: tuple[float, ...] | None = None
    """P(right) of each word that was written; None where it is not known."""

    def counts(self, metric: str) -> EditCounts:
        """The edits that `metric` of METRICS counts. Those of `words` and `characters` are already there."""
        kept = {self.units.main: self.words, "cer": self.characters}.get(metric)
        return METRICS[metric].count(self.reference, self.hypothesis) if kept is None else kept


@dataclass(frozen=True)
class Followed:
    """An utterance whose posteriors are drawn at every evaluation."""

    id: str
    targets: tuple[int, ...]
    num_seconds: float
    posteriors: np.ndarray
    """float32 (T, V), probabilities."""


@dataclass(frozen=True)
class Scores:
    """One evaluation of one split, utterances in corpus order."""

    split: str
    hypotheses: tuple[Hypothesis, ...]
    seconds: float
    num_audio_seconds: float
    failures: dict[str, str]
    """Id -> reason, for utterances whose audio could not be decoded; they count as deletions."""
    followed: tuple[Followed, ...] = ()
    protocol: str = ""
    """The name under which figures of this split are published, such as core-192; empty where there is none."""
    units: Units = WORDS
    """What its transcripts consist of."""
    rule: str = ""
    """How phones were compared; empty for words."""

    @property
    def words(self) -> EditCounts:
        return pool(h.words for h in self.hypotheses)

    @property
    def characters(self) -> EditCounts:
        return pool(h.characters for h in self.hypotheses)

    @property
    def rates(self) -> dict[str, float]:
        """Every error rate of METRICS that means something here, as a fraction."""
        return {metric: pool(h.counts(metric) for h in self.hypotheses).rate for metric in self.units.metrics}

    @property
    def blank_share(self) -> float:
        """Share of frames whose most likely unit is the blank."""
        num_frames = sum(h.num_frames for h in self.hypotheses)
        return sum(h.num_blank_frames for h in self.hypotheses) / num_frames if num_frames else float("nan")

    @property
    def num_infinite(self) -> int:
        """Utterances with an infinite loss, which `loss` leaves out."""
        return sum(h.loss == float("inf") for h in self.hypotheses)

    @property
    def loss(self) -> float:
        """Mean of the finite losses."""
        finite = [h.loss for h in self.hypotheses if h.loss != float("inf")]
        return sum(finite) / len(finite) if finite else float("nan")
