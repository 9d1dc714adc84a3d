"""Words that the transcript has and the audio has not, and the other way round: what an alignment leaves over.

trainer.align leaves out words that are not heard and speech that is not written. Here it becomes signs with times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from data.example import Example
from data.utterance import SAMPLE_RATE
from trainer.align.align import align_many
from trainer.align.alignment import Alignment
from trainer.align.search import AlignOptions
from trainer.errors import CorpusError
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
    score: float
    """Mean score of the aligned words, 0 to 1."""


def leftovers(model: LoadedModel, examples: Sequence[Example]) -> Iterator[Leftovers | None]:
    """What the alignment of each example leaves over; None where there is nothing to align."""
    options = AlignOptions(normalizer="none", windows=Windows(batch_size=AT_ONCE))
    for begin in range(0, len(examples), AT_ONCE):
        some = [examples[i] for i in range(begin, min(len(examples), begin + AT_ONCE))]
        sound = [example for example in some if example.num_samples and example.text.strip()]
        aligned = iter(align_many(model, [(e.utterance.id, e.load(), e.text) for e in sound], options=options))
        for example in some:
            found = next(aligned) if example.num_samples and example.text.strip() else None
            yield None if found is None or isinstance(found, CorpusError) else read(found)


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
        alignment.score or 0.0,
    )
