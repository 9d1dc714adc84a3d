"""What a rank has found in its share of an evaluation, on its way to the other ranks."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from trainer.scoring.confidence import NUM_FIGURES, WordEvidence
from trainer.scoring.metrics import EditCounts


class Scored(NamedTuple):
    """What the model wrote for an utterance, and the errors in it."""

    hypothesis: str
    words: EditCounts
    characters: EditCounts
    loss: float
    num_frames: int
    num_blank_frames: int
    evidence: WordEvidence | None = None


@dataclass
class Found:
    """What is known of some utterances of a split, by their positions in it."""

    scored: dict[int, Scored] = field(default_factory=dict)
    posteriors: dict[int, np.ndarray] = field(default_factory=dict)
    """float32 (T, V), of those that are followed."""
    failures: dict[str, str] = field(default_factory=dict)
    """Id -> reason, for utterances whose audio could not be decoded."""


def to_json(found: Found) -> dict[str, Any]:
    """`found` as JSON can hold it, bit for bit: counts are whole numbers, and a float is written so that it reads back
    as it is."""
    return {
        "scored": [
            [i, s.hypothesis, astuple(s.words), astuple(s.characters), s.loss, s.num_frames, s.num_blank_frames]
            for i, s in found.scored.items()
        ],
        "posteriors": [
            [i, p.shape, base64.b64encode(p.astype(np.float32).tobytes()).decode()] for i, p in found.posteriors.items()
        ],
        "evidence": [
            [i, base64.b64encode(e.units.tobytes()).decode(), e.lengths.tolist()]
            for i, e in ((i, s.evidence) for i, s in found.scored.items())
            if e is not None
        ],
        "failures": found.failures,
    }


def from_json(record: dict[str, Any]) -> Found:
    """What `to_json` was given."""
    found = Found(failures=record["failures"])
    for i, hypothesis, words, characters, *rest in record["scored"]:
        found.scored[i] = Scored(hypothesis, EditCounts(*words), EditCounts(*characters), *rest)
    for i, content, of_words in record["evidence"]:
        units = np.frombuffer(base64.b64decode(content), np.float32).reshape(-1, NUM_FIGURES).copy()
        found.scored[i] = found.scored[i]._replace(evidence=WordEvidence(units, np.array(of_words, np.int32)))
    for i, shape, content in record["posteriors"]:
        found.posteriors[i] = np.frombuffer(base64.b64decode(content), np.float32).reshape(shape).copy()
    return found


def join_found(of_ranks: Iterable[Found], plan: Sequence[Sequence[int]]) -> Found:
    """What all ranks have found together: every utterance of `plan` once, or the run ends here."""
    whole, times = Found(), Counter[int]()
    for found in of_ranks:
        times.update(found.scored.keys())
        whole.scored |= found.scored
        whole.posteriors |= found.posteriors
        whole.failures |= found.failures
    planned = Counter(i for batch in plan for i in batch)
    assert times <= planned, f"scored more than once: {sorted((times - planned).keys())[:4]}"
    assert len(planned - times) <= len(whole.failures), f"not scored: {sorted((planned - times).keys())[:4]}"
    return whole
