"""Align a recording, or many at once, with what is said in them.

transcript -> words in the model's units (spelled) -> lattice
waveform -> log posteriors (posteriors) -> pieces between anchors (anchors) -> best path of each piece (viterbi)
  -> spikes of each unit -> word times (times) -> Alignment
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from trainer.align.alignment import Alignment
from trainer.align.reading import to_alignment
from trainer.align.search import AS_USUAL, AlignOptions, Found, Prepared, prepare, search
from trainer.align.times import SpikeTimes
from trainer.errors import CorpusError
from trainer.recognize.transcribe import LoadedModel


def align(
    recognizer: LoadedModel,
    name: str,
    waveform: np.ndarray,
    text: str,
    *,
    times: SpikeTimes | None = None,
    options: AlignOptions = AS_USUAL,
) -> Alignment:
    """Where each word of `text` is said in `waveform`, float32 (num_samples,), mono at SAMPLE_RATE, not normalised.

    data.audio.media.load_recording reads a file so. CorpusError where the text or the audio cannot be aligned at all.
    """
    (found,) = align_many(recognizer, [(name, waveform, text)], times=times, options=options)
    if isinstance(found, CorpusError):
        raise found
    return found


def align_many(
    recognizer: LoadedModel,
    items: Iterable[tuple[str, np.ndarray, str]],
    *,
    times: SpikeTimes | None = None,
    options: AlignOptions = AS_USUAL,
) -> list[Alignment | CorpusError]:
    """`align` of each (name, waveform, text), their searches together; what is wrong with one stands in its place."""
    return [
        found if isinstance(found, CorpusError) else to_alignment(recognizer, *found, times)
        for found in find_many(recognizer, items, options)
    ]


def find_many(
    recognizer: LoadedModel, items: Iterable[tuple[str, np.ndarray, str]], options: AlignOptions = AS_USUAL
) -> list[tuple[Prepared, Found] | CorpusError]:
    """The frames of every unit of each (name, waveform, text), from which `to_alignment` and `word_spikes` read."""
    prepared: list[Prepared | CorpusError] = []
    for name, waveform, text in items:
        try:
            prepared.append(prepare(recognizer, name, waveform, text, options))
        except CorpusError as error:
            prepared.append(error)
    searched = iter(search(recognizer, [one for one in prepared if not isinstance(one, CorpusError)], options))
    return [one if isinstance(one, CorpusError) else (one, next(searched)) for one in prepared]
