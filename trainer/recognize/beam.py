"""Recordings of any length through the beam search, in bounded memory.

    windows -> log posteriors, joined where neighbouring windows agree -> pieces of some seconds -> beam search of each,
      from the best beam of the piece before -> the frames of its units (Viterbi) -> (T,), as greedy decoding gives them

A piece ends in a frame that is most surely blank, so no unit is cut. The best beam goes on with its unfinished word and
with its place in the n-gram model; the other beams end there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch

from data.audio.decode import normalize
from data.utterance import SAMPLE_RATE
from trainer.decoding.beam import State
from trainer.decoding.decoder import Decoder
from trainer.decoding.hypotheses import trace
from trainer.decoding.paths import best_path
from trainer.recognize.transcribe import LoadedModel, Progress, Windows, seam, window_starts
from trainer.recognize.transcript import TimedTranscript
from trainer.recognize.words import find_words, text_of

PIECE_SECONDS = 10.0
"""Frames that are searched before the best beam is chosen, where the recording is longer."""


def transcribe_with(
    decoder: Decoder, recognizer: LoadedModel, name: str, waveform: np.ndarray, windows: Windows,
    progress: Progress = lambda batches, total: batches,
) -> TimedTranscript:  # fmt: skip
    """trainer.recognize.transcribe.transcribe, by the beam search of `decoder`."""
    ids, log_probs = beam_frames(recognizer, waveform, windows, decoder, progress)
    words = find_words(ids, log_probs, recognizer.vocab, recognizer.geometry)
    return TimedTranscript(name, len(waveform), words, written=text_of(ids, recognizer.vocab))


def beam_frames(
    recognizer: LoadedModel, waveform: np.ndarray, windows: Windows, decoder: Decoder,
    progress: Progress = lambda batches, total: batches,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """The unit that the best hypothesis has in each frame, int64 (T,), and its log posterior, float32 (T,)."""
    geometry, num_frames = recognizer.geometry, recognizer.model.num_frames(len(waveform))
    if num_frames == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    if recognizer.do_normalize:
        waveform = normalize(waveform)
    frame_rate = SAMPLE_RATE / geometry.stride
    overlap = max(2, round(windows.overlap_seconds * frame_rate))
    window = min(num_frames, max(2 * overlap, round(windows.seconds * frame_rate)))
    starts = window_starts(num_frames, window, overlap)
    batches = [starts[i : i + windows.batch_size] for i in range(0, len(starts), windows.batch_size)]
    read = _log_posteriors(recognizer, waveform, window, progress(batches, total=len(batches)))
    return decode_pieces(decoder, joined(starts, read), round(PIECE_SECONDS * frame_rate))


@torch.inference_mode()
def _log_posteriors(
    recognizer: LoadedModel, waveform: np.ndarray, window: int, batches: Iterable[Sequence[int]]
) -> Iterator[np.ndarray]:
    """(T, V) of each window."""
    model, geometry = recognizer.model, recognizer.geometry
    is_whole = model.num_frames(len(waveform)) == window
    for starts in batches:
        rows = waveform[None] if is_whole else np.stack([waveform[geometry.seen(s, s + window)] for s in starts])
        waveforms = torch.from_numpy(rows).to(recognizer.device)
        yield from model.read(waveforms).float().log_softmax(-1).cpu().numpy()


def joined(starts: Sequence[int], windows: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The windows' frames (T, V) once each, cut where trainer.recognize.transcribe cuts them; two are in memory."""
    begin, before = 0, np.zeros((0, 0), np.float32)
    for k, now in enumerate(windows):
        if k:
            end = starts[k - 1] + len(before)
            shared = max(begin, starts[k])
            left, right = before[shared - starts[k - 1] :], now[shared - starts[k] : end - starts[k]]
            cut = shared + seam(left.argmax(1), right.argmax(1))
            yield before[begin - starts[k - 1] : cut - starts[k - 1]]
            begin = cut
        before = now
    yield before[begin - starts[-1] :]


def decode_pieces(decoder: Decoder, parts: Iterable[np.ndarray], most: int) -> tuple[np.ndarray, np.ndarray]:
    """`beam_frames` of log posteriors that come in parts (T, V), in pieces of about `most` frames."""
    search, blank = decoder.search, decoder.search.fusion.blank
    state = search.begin(1)
    kept: list[tuple[np.ndarray, np.ndarray]] = []

    def decode(piece: np.ndarray, state: State, *, is_last: bool) -> State:
        after, steps = search.search(state, torch.from_numpy(piece))
        if is_last:
            units = search.finish(after, steps, 1)[0].units
        else:
            place = search.best_beams(after, 1)
            units = trace(steps, place)[0]
            after = search.only(after, place)
        path = best_path(piece, units, blank, ends_in_blank=not is_last)
        kept.append((path, piece[np.arange(len(piece)), path]))
        return after

    rest = np.zeros((0, search.fusion.num_units), np.float32)
    for part in parts:
        rest = np.concatenate([rest, part])
        while len(rest) > 2 * most:
            last_half = rest[most // 2 : most + most // 2, blank]
            cut = most // 2 + int(last_half.argmax()) + 1
            state = decode(rest[:cut], state, is_last=False)
            rest = rest[cut:]
    decode(rest, state, is_last=True)
    return np.concatenate([ids for ids, _ in kept]), np.concatenate([log_probs for _, log_probs in kept])
