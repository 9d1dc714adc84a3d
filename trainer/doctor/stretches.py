"""Words that the transcript has and the audio has not, and the other way round: what an alignment leaves over.

trainer.align leaves out words that are not heard and speech that is not written. Here it becomes signs with times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from data.examples.example import Example
from data.utterance import SAMPLE_RATE
from trainer.align.align import align_many
from trainer.align.alignment import Alignment
from trainer.align.search import AlignOptions
from trainer.recognize.transcribe import LoadedModel, Windows

AT_ONCE = 16
"""Utterances that are aligned together."""


@dataclass(frozen=True)
class Leftovers:
    """What an alignment leaves over. Times in seconds."""

    num_words: int
    """Words of the transcript that have units."""
    unheard: tuple[tuple[int, str, float], ...]
    """(Which word, the word, where it would be) of those that are not heard."""
    unwritten: tuple[tuple[float, float, str], ...]
    """(Start, end, what the model reads) of speech that is not in the transcript."""
    first: float
    """Where the first aligned word begins, and `last` where the last one ends; both 0 where none is."""
    last: float
    seconds: float


def leftovers(model: LoadedModel, examples: Sequence[Example]) -> Iterator[Leftovers | None]:
    """What the alignment of each example leaves over; None where it cannot be aligned, as without audio or text."""
    options = AlignOptions(normalizer="none", windows=Windows(batch_size=AT_ONCE))
    for begin in range(0, len(examples), AT_ONCE):
        some = examples[begin : begin + AT_ONCE]
        items = {i: (e.utterance.id, e.load(), e.text) for i, e in enumerate(some) if e.num_samples}
        aligned = dict(zip(items, align_many(model, items.values(), options=options), strict=True))
        for i in range(len(some)):
            found = aligned.get(i)
            yield read(found) if isinstance(found, Alignment) else None


def read(alignment: Alignment) -> Leftovers:
    """What `alignment` leaves over."""
    words = [word for word in alignment.words if word.status in ("aligned", "unmatched")]
    aligned = [word for word in words if word.status == "aligned"]
    return Leftovers(
        len(words),
        tuple((i, word.text, word.start / SAMPLE_RATE) for i, word in enumerate(words) if word.status == "unmatched"),
        tuple((s.start / SAMPLE_RATE, s.end / SAMPLE_RATE, s.heard) for s in alignment.unwritten),
        aligned[0].start / SAMPLE_RATE if aligned else 0.0,
        aligned[-1].end / SAMPLE_RATE if aligned else 0.0,
        alignment.seconds,
    )
