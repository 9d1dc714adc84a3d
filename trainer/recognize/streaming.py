"""Words while somebody speaks: samples come in pieces of any size, words leave as soon as they are settled.

    samples -> windows at fixed places: left context, a chunk, look-ahead -> the frames of each chunk
    -> neighbouring windows joined just behind the chunk where both read the same -> words up to the last one begun

The encoder reads in both directions, so a frame needs some of what follows it: the look-ahead. Windows lie at places
that depend on the number of samples alone, so words are the same however the samples are cut into pieces.

Where a model wants normalised waveforms, a window is normalised by mean and variance of all samples up to its end. A
whole recording is normalised by its own mean and variance, so early windows of a stream differ from it, most where a
recording begins with silence and is loud later. A stream that ends within its first window is read as a whole one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import soxr
import torch

from data.audio.sampled import to_mono, whole_rate
from data.utterance import SAMPLE_RATE
from trainer.errors import AudioError, ConfigError
from trainer.recognize.transcribe import SURE, LoadedModel, seam
from trainer.recognize.transcript import Word
from trainer.recognize.words import find_words
from trainer.scoring.confidence import NUM_FIGURES, frame_evidence
from trainer.scoring.units import find_units

RESAMPLED_TOGETHER = 0.1
"""Seconds of audio of another rate that go through the resampler at once, however they come."""
PAUSE_SECONDS = 1.0
"""After so long without a unit the last word is settled too, whether or not a delimiter follows."""
WORDS_HELD_BACK = 4
"""Words that wait for those behind them where the tokenizer joins them ("it ' s"): it joins no more."""


@dataclass(frozen=True)
class Chunks:
    """How a stream is read. Each chunk costs a pass over a window of all three lengths together."""

    seconds: float = 1.0
    """Of a chunk: how often words come."""
    look_ahead_seconds: float = 1.0
    """What follows a frame, at least, when its unit is settled; half of it just behind a chunk."""
    left_seconds: float = 3.0
    """What is read again before a chunk."""

    def __post_init__(self) -> None:
        if not (0.1 <= self.seconds < math.inf and 0 <= self.look_ahead_seconds < math.inf
                and 0 <= self.left_seconds < math.inf):  # fmt: skip
            raise ConfigError(
                f"chunks of {self.seconds:g} s with a look-ahead of {self.look_ahead_seconds:g} s and "
                f"{self.left_seconds:g} s before them: give a chunk of 0.1 s or more, and the others 0 or more."
            )


class Stream:
    """One stream of speech. `feed` it, and `finish` it."""

    def __init__(self, recognizer: LoadedModel, rate: int = SAMPLE_RATE, chunks: Chunks = Chunks()) -> None:
        self.recognizer, self.rate = recognizer, whole_rate(rate, "a stream")
        frame_rate = SAMPLE_RATE / recognizer.geometry.stride
        self._chunk = max(1, round(chunks.seconds * frame_rate))
        self._ahead = round(chunks.look_ahead_seconds * frame_rate)
        self._left = round(chunks.left_seconds * frame_rate)
        self._resampler = None if rate == SAMPLE_RATE else soxr.ResampleStream(self.rate, SAMPLE_RATE, 1, "float32")
        self._given = np.zeros(0, np.float32)  # samples at `rate` that still wait for the resampler
        self._samples, self._first = np.zeros(0, np.float32), 0  # what may still be read, and its place in the stream
        self._sums, self._summed = np.zeros(2), 0  # of the first `_summed` samples: their sum, and that of squares
        self._num_chunks = 0
        self._window: tuple[int, np.ndarray, np.ndarray] | None = None  # the last one: its first frame, ids, evidence
        self._ids, self._evidence = np.zeros(0, np.int64), np.zeros((0, NUM_FIGURES), np.float32)
        self._begin = 0  # the frame with which those settled ones begin that have no word yet
        self._is_over = False

    @property
    def delay_seconds(self) -> float:
        """A frame is at most this old when its unit is settled: a chunk, its look-ahead, and what the frame sees.

        A word is settled with the delimiter behind it, or PAUSE_SECONDS without a unit.
        """
        geometry = self.recognizer.geometry
        return ((self._chunk + self._ahead) * geometry.stride + geometry.receptive_field) / SAMPLE_RATE

    def feed(self, samples: Any) -> tuple[Word, ...]:
        """Take the next samples, (n,) or (channels, n) at `rate`; the words that are settled now, with their times in
        the stream. AudioError when they are no samples; those before are unharmed."""
        if self._is_over:
            raise AudioError("this stream is finished. Open another one.")
        given = to_mono(samples, "a stream's piece")
        with np.errstate(over="ignore", invalid="ignore"):
            is_sound = math.isfinite(float(given @ given))  # as data.audio.decode asks of a whole recording
        if not is_sound:
            raise AudioError(
                "a stream's piece: holds samples that are not numbers (NaN, infinity or beyond all measure)."
            )
        self._take(given, is_last=False)
        return self._read_what_is_there()

    def finish(self) -> tuple[Word, ...]:
        """The stream is over: the rest of its words."""
        if self._is_over:
            raise AudioError("this stream is finished. Open another one.")
        self._take(np.zeros(0, np.float32), is_last=True)
        words = self._read_what_is_there()
        self._is_over = True
        num_frames = self.recognizer.geometry.num_frames(self._num_samples)
        first = self._num_chunks * self._chunk
        if num_frames > first:
            self._read_window(first, num_frames, is_last=True)
        self._window = None
        return words + self._words(self._ids, self._evidence)

    @property
    def partial(self) -> tuple[Word, ...]:
        """The words behind the settled ones as they were last read, with less look-ahead: they may still change."""
        if self._window is None:
            return ()
        first, ids, evidence = self._window
        settled = self._begin + len(self._ids)
        rest = slice(settled - first, len(ids))
        return self._words(np.append(self._ids, ids[rest]), np.concatenate([self._evidence, evidence[rest]]))

    @property
    def _num_samples(self) -> int:
        return self._first + len(self._samples)

    def _take(self, given: np.ndarray, *, is_last: bool) -> None:
        if self._resampler is not None:
            # in blocks of one size, so that rounding does not depend on how the samples come
            block, waiting = round(RESAMPLED_TOGETHER * self.rate), np.append(self._given, given)
            whole = len(waiting) - len(waiting) % block
            parts = [self._resampler.resample_chunk(waiting[i : i + block]) for i in range(0, whole, block)]
            if is_last:
                parts.append(self._resampler.resample_chunk(waiting[whole:], last=True))
            self._given, given = waiting[whole:], np.concatenate([np.zeros(0, np.float32), *parts])
        self._samples = np.append(self._samples, given)

    def _read_what_is_there(self) -> tuple[Word, ...]:
        geometry, words = self.recognizer.geometry, tuple[Word, ...]()
        while True:
            first = self._num_chunks * self._chunk
            last = first + self._chunk + self._ahead
            if geometry.seen(first, last).stop > self._num_samples:
                return words
            self._read_window(first, last, is_last=False)
            self._num_chunks += 1
            words += self._settle()

    def _read_window(self, first: int, last: int, *, is_last: bool) -> None:
        """Read frames [first, last) with what is before them, and settle frames up to where the last window ends."""
        start, geometry = max(0, first - self._left), self.recognizer.geometry
        seen = geometry.seen(start, last)
        stop = self._num_samples if is_last else seen.stop
        samples = self._samples[seen.start - self._first : stop - self._first]
        ids, evidence = self._read(samples, stop)
        before, self._window = self._window, (start, ids, evidence)
        settled = last if is_last else first + self._chunk
        if before is not None:
            # Both windows have read the frames from the later start to the earlier end; the cut lies among the first
            # ones behind `first`, up to half of the look-ahead
            common, end = max(start, before[0]), min(before[0] + len(before[1]), last)
            left = before[1][common - before[0] : end - before[0]]
            right = ids[common - start : end - start]
            most = min(self._ahead // 2, 2 * SURE, end - first, settled - first)
            cut = common + seam(left, right, range(first - common, first - common + most + 1))
            self._append(before, first, cut)
            self._append(self._window, cut, settled)
        else:
            self._append(self._window, first, settled)
        keep = max(0, (self._num_chunks + 1) * self._chunk - self._left) * geometry.stride
        if keep > self._first and not is_last:
            self._samples, self._first = self._samples[keep - self._first :], keep

    def _append(self, window: tuple[int, np.ndarray, np.ndarray], first: int, last: int) -> None:
        """Add frames [first, last) of `window` to the settled ones."""
        start, ids, evidence = window
        self._ids = np.append(self._ids, ids[first - start : last - start])
        self._evidence = np.concatenate([self._evidence, evidence[first - start : last - start]])

    @torch.inference_mode()
    def _read(self, samples: np.ndarray, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """(ids, evidence) of a window, normalised by all samples of the stream before `stop`."""
        if self.recognizer.do_normalize:
            new = self._samples[self._summed - self._first : stop - self._first].astype(np.float64)
            self._sums += new.sum(), new @ new
            self._summed = stop
            mean = self._sums[0] / stop
            variance = max(0.0, self._sums[1] / stop - mean**2)
            samples = ((samples - mean) / math.sqrt(variance + 1e-7)).astype(np.float32)
        logits = self.recognizer.model.read(torch.from_numpy(samples[None].copy()).to(self.recognizer.device))
        return logits[0].argmax(-1).cpu().numpy(), frame_evidence(logits[0]).cpu().numpy()

    def _settle(self) -> tuple[Word, ...]:
        """The words that nothing changes any more. Their frames are let go."""
        recognizer, frames = self.recognizer, len(self._ids)
        geometry, vocab = recognizer.geometry, recognizer.vocab
        words, units = self._words(self._ids, self._evidence), find_units(self._ids, self._evidence, vocab)
        if not units or frames - 1 - units[-1].last >= PAUSE_SECONDS * SAMPLE_RATE / geometry.stride:
            num_open = 0
        elif vocab.clean_up:
            num_open = WORDS_HELD_BACK
        else:
            is_open = not vocab.is_boundary(units[-1].id) and (not vocab.phonemes or units[-1].last == frames - 1)
            num_open = int(is_open)
        done, still_open = words[: max(0, len(words) - num_open)], words[max(0, len(words) - num_open) :]
        kept = frames
        if still_open:
            kept = (still_open[0].start - geometry.boundary(self._begin)) // geometry.stride
        self._ids, self._evidence, self._begin = self._ids[kept:], self._evidence[kept:], self._begin + kept
        return done

    def _words(self, ids: np.ndarray, evidence: np.ndarray) -> tuple[Word, ...]:
        recognizer, by = self.recognizer, self._begin * self.recognizer.geometry.stride
        words = find_words(
            ids, evidence[:, 0], recognizer.vocab, recognizer.geometry, evidence, recognizer.calibration
        )  # fmt: skip
        return tuple(
            replace(w, start=w.start + by, end=w.end + by, times=tuple((a + by, b + by) for a, b in w.times))
            for w in words
        )
