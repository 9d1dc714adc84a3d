"""From the best unit of each frame to words with their times and confidences."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from data.text.normalise import collapse_spaces
from data.text.vocab import Vocab
from models.geometry import FrameGeometry
from trainer.recognize.transcript import Word
from trainer.scoring.confidence import Calibration, WordEvidence
from trainer.scoring.units import Unit, find_units, group_words


def find_words(
    ids: np.ndarray,
    log_probs: np.ndarray,
    vocab: Vocab,
    geometry: FrameGeometry,
    evidence: np.ndarray | None = None,
    calibration: Calibration | None = None,
) -> tuple[Word, ...]:
    """The words, in order, from each frame's best unit (T,) and its log posterior (T,). Of phonemes each is a word.

    With a `calibration`, confidences are its probabilities; it needs the frames' `evidence` (T, 3) of
    trainer.scoring.confidence. Joined by spaces the words are the text that trainer.scoring.evaluate scores.
    """
    figures = log_probs[:, None] if evidence is None else evidence
    words = list(group_words(find_units(ids, figures, vocab), vocab))
    if calibration is None:
        sure = [math.exp(sum(min(0.0, float(u.evidence[0])) for u in units) / len(units)) for _, units in words]
    else:
        assert evidence is not None
        sure = calibration.confidences(WordEvidence.of(units for _, units in words), len(vocab)).tolist()
    return tuple(
        Word(
            text,
            geometry.boundary(units[0].first),
            geometry.boundary(units[-1].last + 1),
            confidence,
            _character_times(text, units, vocab, geometry),
        )
        for (text, units), confidence in zip(words, sure, strict=True)
    )


def _character_times(
    text: str, units: Sequence[Unit], vocab: Vocab, geometry: FrameGeometry
) -> tuple[tuple[int, int], ...]:
    """(Start, end) of each character of `text` in samples: those of the unit that wrote it.

    Empty where the units' own texts have another number of characters: nobody knows then which wrote which.
    """
    times = tuple(
        (geometry.boundary(unit.first), geometry.boundary(unit.last + 1))
        for unit in units
        for _ in vocab.decode([unit.id])
    )
    return times if len(times) == len(text) else ()


def text_of(ids: np.ndarray, vocab: Vocab) -> str:
    """What transformers' tokenizer writes for each frame's best unit (T,), white space collapsed."""
    return collapse_spaces(vocab.decode(unit.id for unit in find_units(ids, np.zeros((len(ids), 1)), vocab)))
