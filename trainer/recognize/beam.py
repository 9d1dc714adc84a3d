"""Recordings of any length through the beam search, in bounded memory.

    windows -> log posteriors, joined where neighbouring windows agree -> pieces of some seconds -> beam search of each,
      from the best beam of the piece before -> the frames of its units (Viterbi) -> (T,), as greedy decoding gives them

A piece ends in a frame that is most surely blank, so no unit is cut. The best beam, or as many as hypotheses are asked
for, goes on with its unfinished word and with its place in the n-gram model; the other beams end there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from data.text.normalise import collapse_spaces
from data.utterance import SAMPLE_RATE
from trainer.decoding.decoder import Decoder
from trainer.decoding.hypotheses import Found
from trainer.decoding.paths import best_path
from trainer.decoding.single import Beams
from trainer.errors import ModelError
from trainer.recognize.transcribe import LoadedModel, Progress, Windows, read_parts
from trainer.recognize.transcript import Alternative, TimedTranscript
from trainer.recognize.words import find_words, text_of

PIECE_SECONDS = 10.0
"""Frames that are searched before the best beam is chosen, where the recording is longer."""


@dataclass(frozen=True)
class Decoded:
    """A recording that was searched."""

    ids: np.ndarray
    """int64 (T,): the unit or blank of each frame on the best path of the best hypothesis."""
    log_probs: np.ndarray
    """float32 (T,): its log posterior."""
    hypotheses: tuple[Found, ...]
    """The best ones of the whole recording, the best first."""
    best_path_writes: bool = False
    """Whether the best path holds a unit that text is written with."""


@dataclass(frozen=True)
class Prefix:
    """What a beam has written up to the end of a piece."""

    before: Prefix | None
    units: tuple[int, ...]
    """Those of the piece."""
    ids: np.ndarray
    log_probs: np.ndarray

    @classmethod
    def of(
        cls, before: Prefix | None, piece: np.ndarray, units: tuple[int, ...], blank: int, *, is_last: bool
    ) -> Prefix:
        path = best_path(piece, units, blank, ends_in_blank=not is_last)
        return cls(before, units, path, piece[np.arange(len(piece)), path])

    @staticmethod
    def pieces(last: Prefix | None) -> list[Prefix]:
        """Every piece up to `last`, in order."""
        found = []
        while last is not None:
            found.append(last)
            last = last.before
        return found[::-1]


def transcribe_with(
    decoder: Decoder, recognizer: LoadedModel, name: str, waveform: np.ndarray, windows: Windows,
    progress: Progress = lambda batches, total: batches, num_best: int = 0,
) -> TimedTranscript:  # fmt: skip
    """trainer.recognize.transcribe.transcribe, by the beam search of `decoder`, with the `num_best` hypotheses as its
    alternatives."""
    vocab, decoded = recognizer.vocab, decode(recognizer, waveform, windows, decoder, progress, max(1, num_best))
    words = find_words(decoded.ids, decoded.log_probs, vocab, recognizer.geometry)
    alternatives: dict[str, Alternative] = {}
    for found in decoded.hypotheses[:num_best]:
        text = collapse_spaces(vocab.decode(found.units))
        alternatives.setdefault(text, Alternative(text, found.score, found.acoustic))
    written = text_of(decoded.ids, vocab)
    return TimedTranscript(
        name, len(waveform), words, written=written, alternatives=tuple(alternatives.values()),
        is_emptied=not written and decoded.best_path_writes,
    )  # fmt: skip


def decode(
    recognizer: LoadedModel, waveform: np.ndarray, windows: Windows, decoder: Decoder,
    progress: Progress = lambda batches, total: batches, num_best: int = 1,
) -> Decoded:  # fmt: skip
    """The search over `waveform`, float32 (num_samples,), mono at SAMPLE_RATE and not normalised."""
    parts = read_parts(recognizer, waveform, windows, progress, lambda logits: logits.float().log_softmax(-1))
    most = round(PIECE_SECONDS * SAMPLE_RATE / recognizer.geometry.stride)
    vocab, writes = recognizer.vocab, False
    written = [token in vocab.writable and not vocab.is_boundary(i) for i, token in enumerate(vocab.tokens)]
    writing = np.flatnonzero(written)

    def heard() -> Iterator[np.ndarray]:
        nonlocal writes
        for _, log_probs in parts:
            writes = writes or bool(np.isin(log_probs.argmax(1), writing).any())
            yield log_probs

    found = decode_pieces(decoder, heard(), most, num_best)
    return replace(found, best_path_writes=writes)


def decode_pieces(decoder: Decoder, parts: Iterable[np.ndarray], most: int, num_best: int = 1) -> Decoded:
    """The search over log posteriors that come in parts (T, V), in pieces of about `most` frames.

    At the end of a piece the `num_best` best beams go on, so that is how many hypotheses may differ before it.
    """
    search, blank = decoder.single, decoder.search.fusion.blank
    beams = search.begin()
    prefixes: list[Prefix | None] = [None]

    def go_on(beams: Beams, piece: np.ndarray) -> Beams:
        ending = piece.copy()  # every beam ends in a blank, however unlikely
        ending[-1, np.arange(ending.shape[1]) != blank] = -np.inf
        best, written = search.best(search.search(beams, torch.from_numpy(ending)), num_best)
        if not best:
            raise ModelError("the model's posteriors are not numbers, or rule out every text. Is its checkpoint whole?")
        prefixes[:] = [Prefix.of(prefixes[origin], piece, units, blank, is_last=False) for origin, units in written]
        return best

    rest = np.zeros((0, decoder.num_units), np.float32)
    for part in parts:
        rest = np.concatenate([rest, part])
        while len(rest) > 2 * most:
            last_half = rest[most // 2 : most + most // 2, blank]
            cut = most // 2 + int(last_half.argmax()) + 1
            beams = go_on(beams, rest[:cut])
            rest = rest[cut:]
    found = search.finish(search.search(beams, torch.from_numpy(rest)), num_best)
    best = Prefix.of(prefixes[found[0].origin], rest, found[0].units, blank, is_last=True)
    pieces = Prefix.pieces(best)
    whole = [
        replace(one, units=tuple(u for p in Prefix.pieces(prefixes[one.origin]) for u in p.units) + one.units)
        for one in found
    ]
    ids, log_probs = (np.concatenate([getattr(p, name) for p in pieces]) for name in ("ids", "log_probs"))
    return Decoded(ids, log_probs, tuple(whole))
