"""Speech of any length to words: a recording is normalised once and read in overlapping windows, which are joined.

    waveform -> windows of equal length that start on a frame -> best unit and log posterior of each frame
      -> in each overlap a cut where both windows agree -> (T,), as from one pass over everything -> words

With layer-norm encoders a window's convolutions give exactly the frames of the whole recording. With group norm, which
averages over time, they do not. Attention and the positional convolution see only the window, so windows overlap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.audio.decode import normalize
from data.text.vocab import Vocab
from data.utterance import SAMPLE_RATE
from models.checkpoints.pretrained import read_encoder
from models.checkpoints.weights import load_pretrained, refuse_new_head
from models.config import ModelConfig
from models.ctc import CTCModel
from models.encoder import configure
from models.geometry import FrameGeometry
from models.lengths import UtteranceLengths, read_lengths
from trainer.device import choose_device
from trainer.errors import ConfigError
from trainer.prepare.corpus import choose_vocabulary
from trainer.recognize.transcript import TimedTranscript
from trainer.recognize.words import find_words, text_of
from trainer.rundir.calibration import read_calibration
from trainer.rundir.model_source import find_model, say
from trainer.scoring.confidence import Calibration, frame_evidence

Progress = Callable[..., Iterable[Any]]


@dataclass(frozen=True)
class LoadedModel:
    """A fine-tuned model with its vocabulary: what the functions here take. trainer.recognizer has the class that
    loads one by itself and has them as methods."""

    model: CTCModel
    vocab: Vocab
    do_normalize: bool
    device: torch.device
    source: str
    calibration: Calibration | None = None
    """How confidences become probabilities; None where the model's folder does not say."""

    @property
    def geometry(self) -> FrameGeometry:
        return self.model.geometry

    @property
    def trained_on(self) -> UtteranceLengths | None:
        """How long the training utterances were; None where the model does not say."""
        return read_lengths(self.model.hf.config)


@dataclass(frozen=True)
class Windows:
    """How long recordings are cut into windows. A recording that fits into one window is read in one piece."""

    seconds: float = 20.0
    """Length of a window, overlaps included."""
    overlap_seconds: float = 4.0
    """Seconds that two neighbouring windows share."""
    batch_size: int = 4
    """Windows that go through the model at once."""

    def __post_init__(self) -> None:
        if not 0 < self.overlap_seconds <= self.seconds / 2 < math.inf:
            raise ConfigError(
                f"windows of {self.seconds:g} s cannot overlap by {self.overlap_seconds:g} s: give an overlap above 0 "
                "and up to half a window."
            )
        if self.batch_size < 1:
            raise ConfigError(f"a batch of {self.batch_size} windows: give 1 or more.")


def load_recognizer(
    source: str, revision: str | None = None, device: str = "auto", language: str | None = None
) -> LoadedModel:
    """The fine-tuned model `source` in evaluation mode; ModelError when it has no CTC head.

    `source` is whatever trainer.rundir.model_source knows: a hub id, a model folder, a run or one of its checkpoints.
    `language` is one of a multilingual checkpoint's; None: what it is set to.
    """
    chosen, source = choose_device(device), find_model(source)
    options = ModelConfig(pretrained=source, revision=revision, target_lang=language, freeze_feature_encoder=True)
    encoder = read_encoder(options)
    assert encoder.pretrained is not None
    for note in encoder.pretrained.notes:
        say(note)
    vocab, _ = choose_vocabulary("auto", [], encoder, False, training=False)
    config = configure(encoder.config, options, vocab_size=len(vocab), blank_id=vocab.blank_id)
    hf_model, report = load_pretrained(encoder.pretrained, config, 0, keep_head=True)
    refuse_new_head(source, report)
    model = CTCModel(hf_model, freeze_feature_encoder=True).eval().to(chosen)
    calibration = read_calibration(source, encoder.pretrained.commit or revision)
    return LoadedModel(model, vocab, encoder.do_normalize, chosen, source, calibration)


FAR_LONGER = 3.0
"""A piece that is this many times as long as 95 of 100 training utterances is far longer than they are."""


def advise(recognizer: LoadedModel, windows: Windows, seconds: float) -> str | None:
    """What to try where a recording of `seconds` is read in pieces that are far longer than the training utterances.

    None where they are not, or where the model does not say how long those were.
    """
    lengths, piece = recognizer.trained_on, min(seconds, windows.seconds)
    if lengths is None or piece <= FAR_LONGER * lengths.most:
        return None
    window = max(2, math.ceil(lengths.most))
    return (
        f"read in pieces of {piece:.0f} s, but 95 of 100 training utterances last {lengths.most:.1f} s or less. A "
        f"model is often at its best near those lengths: try --window {window} --overlap {max(1.0, window / 4):g} too"
    )


def transcribe(recognizer: LoadedModel, name: str, waveform: np.ndarray, windows: Windows = Windows(),
               progress: Progress = lambda batches, total: batches) -> TimedTranscript:  # fmt: skip
    """The words of `waveform`, float32 (num_samples,), mono at SAMPLE_RATE and not normalised.

    data.audio.media.load_recording reads a file so. `name` becomes the transcript's.
    """
    ids, evidence = read_frames(recognizer, waveform, windows, progress)
    vocab, calibration = recognizer.vocab, recognizer.calibration
    words = find_words(ids, evidence[:, 0], vocab, recognizer.geometry, evidence, calibration)
    written = text_of(ids, vocab)
    return TimedTranscript(name, len(waveform), words, written=written, is_calibrated=calibration is not None)


def read_frames(recognizer: LoadedModel, waveform: np.ndarray, windows: Windows,
                progress: Progress = lambda batches, total: batches,
                keep: Callable[[Tensor], Tensor] = frame_evidence) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Each frame's best unit, int64 (T,), and what `keep` makes of its logits, float32 (T, K). T is as in one pass.

    `keep` is a function from logits (B, T, V) to (B, T, K); as it is, the evidence that confidences are computed from.
    """
    parts = list(read_parts(recognizer, waveform, windows, progress, keep))
    if not parts:
        width = keep(torch.zeros(1, 1, len(recognizer.vocab))).shape[-1]
        return np.zeros(0, np.int64), np.zeros((0, width), np.float32)
    return np.concatenate([ids for ids, _ in parts]), np.concatenate([figures for _, figures in parts])


def read_parts(recognizer: LoadedModel, waveform: np.ndarray, windows: Windows, progress: Progress,
               keep: Callable[[Tensor], Tensor]) -> Iterator[tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    """The same in parts that follow one another, each when it is known: memory holds a batch of windows."""
    geometry = recognizer.geometry
    num_frames = recognizer.model.num_frames(len(waveform))
    if num_frames == 0:
        return iter(())
    if recognizer.do_normalize:
        waveform = normalize(waveform)
    frame_rate = SAMPLE_RATE / geometry.stride
    overlap = max(2, round(windows.overlap_seconds * frame_rate))
    window = min(num_frames, max(2 * overlap, round(windows.seconds * frame_rate)))
    starts = window_starts(num_frames, window, overlap)
    batches = [starts[i : i + windows.batch_size] for i in range(0, len(starts), windows.batch_size)]
    return stitch(starts, _read_windows(recognizer, waveform, window, progress(batches, total=len(batches)), keep))


def window_starts(num_frames: int, window: int, overlap: int) -> list[int]:
    """First frames of windows of `window` frames that cover `num_frames`. Neighbours share at least `overlap` frames.

    The last window ends with the recording, so all windows have the same length.

    >>> window_starts(100, 40, 10)
    [0, 30, 60]
    >>> window_starts(101, 40, 10)
    [0, 30, 60, 61]
    """
    if window == num_frames:
        return [0]
    return [*range(0, num_frames - window, window - overlap), num_frames - window]


def stitch(
    starts: Sequence[int], windows: Iterable[tuple[np.ndarray, np.ndarray]]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The frames of overlapping windows once each, a part of every window: (ids, figures).

    Window k begins at `starts[k]`; `windows` are their (ids, figures).
    """
    begin, before = 0, (np.zeros(0, np.int64), np.zeros(0, np.float32))
    for k, now in enumerate(windows):
        if k:
            start = starts[k - 1]
            end = start + len(before[0])
            shared = max(begin, starts[k])  # the last window may begin before the previous seam
            cut = shared + seam(before[0][shared - start :], now[0][shared - starts[k] : end - starts[k]])
            yield before[0][begin - start : cut - start], before[1][begin - start : cut - start]
            begin = cut
        before = now
    yield before[0][begin - starts[-1] :], before[1][begin - starts[-1] :]


SURE = 8
"""Two windows that agree over this many frames on either side of a seam count as aligned there (0.16 s)."""


def seam(left: np.ndarray, right: np.ndarray, allowed: range | None = None) -> int:
    """The frame at which to change from window `left` to window `right`; both (n,) are readings of the same frames.

    Two windows may write a unit one or two frames apart, and a cut between the two places would lose or double it. So
    the cut lies where both windows agree for SURE frames on either side, or for as many as possible. It lies in the
    inner half of the frames, or among those `allowed`, as near to their middle as possible.
    """
    agree = left == right
    n, before, after = len(agree), np.zeros(len(agree) + 1, np.int64), np.zeros(len(agree) + 1, np.int64)
    for i in range(n):
        before[i + 1] = before[i] + 1 if agree[i] else 0
        after[n - 1 - i] = after[n - i] + 1 if agree[n - 1 - i] else 0
    inner = range(n // 4, n - n // 4 + 1) if allowed is None else allowed
    middle = inner[0] + inner[-1]
    return max(inner, key=lambda t: (min(before[t], after[t], SURE), -abs(2 * t - middle)))


@torch.inference_mode()
def _read_windows(
    recognizer: LoadedModel, waveform: np.ndarray, window: int, batches: Iterable[Sequence[int]],
    keep: Callable[[Tensor], Tensor],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    """(ids, what `keep` makes of the logits) of each window. All windows have the same length, so none is padded."""
    model, geometry = recognizer.model, recognizer.geometry
    is_whole = model.num_frames(len(waveform)) == window  # then read to the last sample, as in an evaluation
    for starts in batches:
        rows = waveform[None] if is_whole else np.stack([waveform[geometry.seen(s, s + window)] for s in starts])
        waveforms = torch.from_numpy(rows).to(recognizer.device)
        logits = model.read(waveforms)
        yield from zip(logits.argmax(-1).cpu().numpy(), keep(logits).cpu().numpy(), strict=True)
