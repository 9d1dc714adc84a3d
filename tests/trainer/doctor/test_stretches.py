"""trainer.doctor.stretches: each utterance has its own alignment, whatever cannot be aligned among them.

pytest tests/trainer/doctor/test_stretches.py
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from data.examples.example import Example
from tests.helpers.voices import example
from trainer.align.alignment import AlignedWord, Alignment
from trainer.doctor.stretches import AT_ONCE, leftovers
from trainer.errors import CorpusError

AUDIO = np.zeros(100, np.float32)


def test_what_cannot_be_aligned_leaves_over_nothing_and_the_others_keep_their_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []

    def align_many(model: Any, items: list[tuple[str, np.ndarray, str]], *, options: Any) -> list[Any]:
        calls.append(len(items))
        return [
            Alignment(name, len(audio), (AlignedWord(name, "aligned", 0, 9, 0.5),), ())
            if text
            else CorpusError("the transcript is empty")
            for name, audio, text in items
        ]

    def fail() -> np.ndarray:
        raise AssertionError("it has no audio that could be loaded")

    def of(i: int) -> Example:
        e = example(AUDIO[: i + 1], "a" if i % 5 else "", f"u{i}")
        return e if i % 3 else replace(e, num_samples=0, load=fail)

    monkeypatch.setattr("trainer.doctor.stretches.align_many", align_many)
    found = list(leftovers(None, [of(i) for i in range(AT_ONCE + 10)]))  # type: ignore[arg-type]
    assert [None if one is None else round(one.seconds * 16_000) for one in found] == [
        i + 1 if i % 3 and i % 5 else None for i in range(AT_ONCE + 10)
    ]
    assert len(calls) == 2
