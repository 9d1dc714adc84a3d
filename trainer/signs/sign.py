"""One thing that was seen of an utterance which may be wrong, with its figures.

What looks at utterances yields signs; trainer.doctor makes one score of those of an utterance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Certainty = Literal["certain", "likely", "possible"]
"""How sure a sign is that the utterance harms training: certain, as good as no sound utterance shows it; likely, more
than half that show it are wrong; possible, worth a listen and no more."""
SURER: Mapping[Certainty, int] = {"certain": 0, "likely": 1, "possible": 2}
"""The surest has the lowest number."""


@dataclass(frozen=True)
class Sign:
    """One thing that was seen of an utterance."""

    name: str
    """Short and the same wherever it is seen, as "another transcript", "clipped", "word missing at the end"."""
    what: str
    """What was seen, with its figures: a part of a sentence, as "412 peaks are cut flat"."""
    certainty: Certainty
    start: float | None = None
    """Seconds from the beginning of the audio, where the sign is of a stretch of it."""
    end: float | None = None
