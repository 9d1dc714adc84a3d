"""Everything that is seen of a corpus without a model: each utterance with its signs, the surest first.

for example, signs in signs_of(examples, console.progress): ...
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from data.examples.example import Example
from trainer.signs.duplicates import find_duplicates
from trainer.signs.measured import Progress, measure_all, quietly
from trainer.signs.pace import Pace
from trainer.signs.recording import Usual, recording_signs
from trainer.signs.sign import SURER, Sign
from trainer.signs.transcripts import Habits


def signs_of(examples: Sequence[Example], progress: Progress = quietly) -> Iterator[tuple[Example, list[Sign]]]:
    """Every example in its order, with what was seen of it; none for a sound one.

    What is usual is learned from all `examples`, so give those of one corpus. Each recording is loaded once, by forked
    processes that touch no GPU; `progress` wraps an iterable as Console.progress does, and has a step for each.
    """
    rows = measure_all(examples, progress)
    numbers: dict[str, int] = {}
    speakers = np.array(
        [-1 if (s := e.utterance.speaker) is None else numbers.setdefault(s, len(numbers)) for e in examples], np.int32
    )
    usual = Usual(rows, speakers)
    speech = np.maximum(rows["seconds"] - rows["lead"] - rows["trail"], 0)
    pace = Pace(rows["seconds"], speech, rows["units"], speakers)
    duplicates = find_duplicates(examples, rows, speakers)
    habits = Habits(examples)
    for i, example in enumerate(examples):
        found = [
            *recording_signs(rows[i], int(speakers[i]), usual, pace, i),
            *duplicates.get(i, ()),
            *habits.signs(example),
        ]
        yield example, sorted(found, key=lambda sign: SURER[sign.certainty])
