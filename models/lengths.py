"""How long the utterances were that a model was trained on. Its configuration keeps that: the config.json of a model
folder and the state.json of a checkpoint have it, and transformers passes it on. Another program's model has none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from transformers import PreTrainedConfig

KEY = "training_utterance_seconds"
"""Name of the entry in the configuration."""


@dataclass(frozen=True)
class UtteranceLengths:
    """Seconds of the training utterances, before any change of speed."""

    shortest: float
    median: float
    most: float
    """95 of 100 utterances are at most this long; a single long one does not move it."""
    longest: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> UtteranceLengths:
        """Of utterances of these lengths, at least one.

        >>> UtteranceLengths.of([2.0, 1.0, 4.0])
        UtteranceLengths(shortest=1.0, median=2.0, most=4.0, longest=4.0)
        """
        ordered = sorted(seconds)
        places = (0, len(ordered) // 2, math.ceil(0.95 * len(ordered)) - 1, -1)
        return cls(*(round(float(ordered[i]), 3) for i in places))


def write_lengths(config: PreTrainedConfig, lengths: UtteranceLengths) -> None:
    """Put `lengths` into a model's configuration, in place of those of the checkpoint that training began with."""
    setattr(config, KEY, asdict(lengths))


def read_lengths(config: PreTrainedConfig) -> UtteranceLengths | None:
    """What `config` says; None where it says nothing, or nothing that can be."""
    found = getattr(config, KEY, None)
    try:
        lengths = UtteranceLengths(**{name: float(value) for name, value in found.items()})  # type: ignore[union-attr]
    except (AttributeError, TypeError, ValueError):
        return None
    is_possible = 0 < lengths.shortest <= lengths.median <= lengths.most <= lengths.longest < math.inf
    return lengths if is_possible else None
