"""One way to use a model from Python: everything that the commands and the page do with one.

from trainer.recognizer import Recognizer

recognizer = Recognizer("runs/demo/model")
transcript = recognizer.transcribe("speech.wav")
print(transcript.text, transcript.confidence, [(w.text, w.start_seconds, w.confidence) for w in transcript.words])
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.audio.media import load_recording
from data.audio.sampled import recording_of
from data.text.vocab import Vocab
from data.utterance import SAMPLE_RATE
from models.geometry import FrameGeometry
from trainer.align.align import align
from trainer.align.alignment import Alignment
from trainer.align.times import SpikeTimes, times_beside
from trainer.errors import AudioError, CorpusError
from trainer.recognize import transcribe
from trainer.recognize.streaming import Chunks, Stream
from trainer.recognize.transcribe import LoadedModel, Progress, Windows, load_recognizer, read_frames
from trainer.recognize.transcript import TimedTranscript

# Where the parent has computed in several threads, a forked child has none of them and would wait for ever
os.register_at_fork(after_in_child=functools.partial(torch.set_num_threads, 1))


def no_progress(batches: Any, total: int) -> Any:
    return batches


class Recognizer:
    """A fine-tuned model, in evaluation mode on its device, that transcribes files, arrays and streams.

    `source` is a run, one of its checkpoints, a model folder or a hub id; ModelError when it has no CTC head. It may
    also be a model that is loaded already; then `revision`, `device` and `language` are not read.
    `windows` says how long recordings are cut: see trainer.recognize.transcribe.

    Audio is the path of a file of any format and rate, or samples at `rate`: floating-point with full scale 1, or
    signed integers; (n,), or (channels, n), which are averaged. Arrays, tensors and whatever numpy reads will do.
    AudioError says why audio cannot be used: no samples, nothing but zeros, NaN, or shorter than one frame (25 ms).

    Threads may share one. It cannot be pickled: each process makes its own, or is forked and computes in one thread.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | LoadedModel,
        *,
        revision: str | None = None,
        device: str = "auto",
        language: str | None = None,
        windows: Windows | None = None,
    ) -> None:
        loaded = source
        if not isinstance(loaded, LoadedModel):
            loaded = load_recognizer(os.fspath(loaded), revision, device, language)
        self.loaded: LoadedModel = loaded
        """The model itself, on its device, and what belongs to it."""
        self.windows = windows or Windows()

    @property
    def vocab(self) -> Vocab:
        """The units, one for each column of `logits`."""
        return self.loaded.vocab

    @property
    def geometry(self) -> FrameGeometry:
        """Where the frames of `logits` lie in the samples."""
        return self.loaded.geometry

    def transcribe(
        self,
        audio: Any,
        rate: int = SAMPLE_RATE,
        *,
        name: str = "",
        windows: Windows | None = None,
        progress: Progress = no_progress,
    ) -> TimedTranscript:
        """The words of `audio` with times and confidences; trainer.recognize.formats writes it in many formats.

        `name` is the transcript's, a path unless given; `rate` is that of samples, a file has its own. `progress` wraps
        the batches of windows, as tqdm does.
        """
        waveform, name = self.read(audio, rate, name)
        return transcribe.transcribe(self.loaded, name, waveform, windows or self.windows, progress)

    def logits(self, audio: Any, rate: int = SAMPLE_RATE, *, windows: Windows | None = None) -> np.ndarray:
        """Logits float32 (T, V) of `audio`: `vocab.tokens` are the units, and frame t stands for the `geometry.stride`
        samples at 16 kHz from `geometry.boundary(t)` on."""
        waveform, _ = self.read(audio, rate)
        return read_frames(self.loaded, waveform, windows or self.windows, keep=lambda logits: logits)[1]

    def align(self, audio: Any, text: str, rate: int = SAMPLE_RATE, *, name: str = "") -> Alignment:
        """Where each word of `text` is said in `audio`, of any length: trainer.align.alignment says what is known of a
        word, and trainer.align.formats writes it. CorpusError where the two cannot be aligned at all.

        Times are corrected as the model's folder says (scripts.align --learn-times), if it does.
        """
        if not isinstance(text, str):
            raise CorpusError(f"{name or 'audio'}: a transcript of type {type(text).__name__}. Give one str.")
        waveform, name = self.read(audio, rate, name)
        return align(self.loaded, name, waveform, text, times=self._spike_times)

    @functools.cached_property
    def _spike_times(self) -> SpikeTimes | None:
        return times_beside(self.loaded.source, self.vocab.writable)

    def stream(self, rate: int = SAMPLE_RATE, chunks: Chunks | None = None) -> Stream:
        """A stream of speech at `rate`, for a microphone: feed it samples, and it gives words as they are settled."""
        return Stream(self.loaded, rate, chunks or Chunks())

    def read(self, audio: Any, rate: int = SAMPLE_RATE, name: str = "") -> tuple[np.ndarray, str]:
        """(float32 (num_samples,), mono at 16 kHz; the name) of `audio`, which all methods take."""
        if isinstance(audio, str | os.PathLike):
            waveform, name = load_recording(Path(audio)), name or os.fspath(audio)
        else:
            name = name or "audio"
            waveform = recording_of(audio, rate, name)
        if self.loaded.model.num_frames(len(waveform)) == 0:
            raise AudioError(
                f"{name}: {len(waveform) / SAMPLE_RATE:.4f} s are shorter than one frame of the model "
                f"({self.geometry.receptive_field / SAMPLE_RATE:g} s)."
            )
        return waveform, name
