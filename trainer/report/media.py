"""What a page needs to play and draw one utterance: compressed audio, waveform, spectrogram, posteriors of every frame.

It is small enough to stand in the page as base64: about 15 kB for each second of speech.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import soundfile
import torch
from PIL import Image
from torch import Tensor

from data.audio.decode import normalize
from data.examples.prepare import Example
from data.text.vocab import Vocab
from data.utterance import SAMPLE_RATE, Segment, Utterance
from models.ctc import CTCModel
from trainer.recognize.words import find_words

FEWEST_WAVE_BINS, WAVE_BINS_PER_SECOND = 400, 50
FFT, WINDOW, MOST_COLUMNS, ROWS = 512, 256, 8000, 128
"""Spectrogram: FFT and window in samples (16 ms, which is fine in time), largest width and height in pixels."""
DECIBELS = 60.0
"""Range of the spectrogram, below its loudest point."""


def utterance_media(
    model: CTCModel, example: Example, vocab: Vocab, do_normalize: bool, device: torch.device, *, pictures: bool = True
) -> dict[str, Any]:
    """What the page needs to play and draw `example`, ready for JSON. AudioError when its audio does not decode."""
    waveform = example.load()
    audio = {"audio": to_base64(encode_audio(waveform)), "seconds": round(len(waveform) / SAMPLE_RATE, 4)}
    if not pictures:
        return audio
    posteriors = read_posteriors(model, waveform, do_normalize, device)
    return {
        **audio,
        "wave": to_base64(wave_outline(waveform).tobytes()),
        "spectrogram": to_base64(spectrogram(waveform)),
        **frame_posteriors(model, posteriors),
        **spoken(example.utterance, vocab),
        "written": written_words(model, posteriors, vocab),
    }


def spoken(utterance: Utterance, vocab: Vocab) -> dict[str, list[list[Any]]]:
    """[start, end, label] of all that the corpus knows the times of, in seconds.

    `said` is in the units that are scored: words, or phones as they are compared. `words` and `phones` are the corpus'.
    """
    words, phones = _seconds(utterance.words), _seconds(utterance.phones)
    if vocab.scoring is not None:
        return {"said": vocab.scoring.spans(phones), "words": words, "phones": phones}
    return {"said": [] if vocab.phonemes else words, "words": [], "phones": phones}


def encode_audio(waveform: np.ndarray) -> bytes:
    """Ogg Vorbis at about 45 kbit/s, which browsers play. Opus is half as large but takes ten times as long."""
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer, "w", SAMPLE_RATE, 1, format="OGG", subtype="VORBIS", compression_level=0.9
    ) as file:
        for start in range(0, len(waveform), SAMPLE_RATE):  # libsndfile's encoder overflows on long blocks
            file.write(np.clip(waveform[start : start + SAMPLE_RATE], -1.0, 1.0))
    return buffer.getvalue()


def wave_outline(waveform: np.ndarray) -> np.ndarray:
    """int8 (bins, 2): lowest and highest sample of each stretch, scaled so that the loudest sample of all is 127."""
    number = max(FEWEST_WAVE_BINS, WAVE_BINS_PER_SECOND * len(waveform) // SAMPLE_RATE)
    number = min(number, len(waveform))
    starts = np.arange(number) * len(waveform) // number
    outline = np.stack([np.minimum.reduceat(waveform, starts), np.maximum.reduceat(waveform, starts)], axis=1)
    loudest = max(float(np.abs(outline).max()), 1e-6)
    return np.round(outline / loudest * 127).astype(np.int8)


def spectrogram(waveform: np.ndarray) -> bytes:
    """A WebP picture, 0 to 8 kHz from bottom to top, dark where it is loud. Its width grows with the length."""
    signal = torch.from_numpy(np.append(waveform[:1], waveform[1:] - 0.97 * waveform[:-1]))  # lifts high frequencies
    hop = max(64, -(-len(waveform) // MOST_COLUMNS))
    window = torch.hann_window(WINDOW)
    power = torch.stft(signal, FFT, hop, WINDOW, window, pad_mode="constant", return_complex=True).abs().square()
    level = 10 * torch.log10(power + 1e-10)
    shade = ((level.max() - level) / DECIBELS).clamp(0, 1).mul(255).to(torch.uint8)[1:].flip(0).numpy()
    picture = Image.fromarray(np.ascontiguousarray(shade)).resize((shade.shape[1], ROWS), Image.Resampling.BOX)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=30, method=2)
    return buffer.getvalue()


@torch.inference_mode()
def read_posteriors(model: CTCModel, waveform: np.ndarray, do_normalize: bool, device: torch.device) -> Tensor:
    """The posterior of every unit in every frame, float32 (T, V) on the CPU; T is 0 if the audio has no frame."""
    if model.num_frames(len(waveform)) == 0:
        return torch.zeros(0, 1)
    samples = torch.from_numpy(normalize(waveform) if do_normalize else waveform)
    return model.read(samples[None].to(device))[0].softmax(-1).cpu()


def written_words(model: CTCModel, posteriors: Tensor, vocab: Vocab) -> list[list[Any]]:
    """[start, end, word, confidence] of each word of the best path, in seconds, as scripts.transcribe finds them.

    Phones are in the form in which they are compared.
    """
    if len(posteriors) == 0:
        return []
    best, units = posteriors.max(-1)
    words = find_words(units.numpy(), best.log().numpy(), vocab, model.geometry)
    spans = [[round(w.start_seconds, 3), round(w.end_seconds, 3), w.text, round(w.confidence, 3)] for w in words]
    return spans if vocab.scoring is None else vocab.scoring.spans(spans)


def frame_posteriors(model: CTCModel, posteriors: Tensor) -> dict[str, str | float]:
    """For each frame: the best unit other than the blank (uint16), its posterior, and the blank's (both 0 to 255).

    The best path takes the greater of the two. `first` and `step` are in seconds: the centre of frame 0 and the
    distance from frame to frame, from the convolutions' geometry.
    """
    frames = model.geometry
    geometry = {"first": frames.receptive_field / 2 / SAMPLE_RATE, "step": frames.stride / SAMPLE_RATE}
    if len(posteriors) == 0:
        return {"units": "", "best": "", "blank": "", **geometry}
    blank, others = posteriors[:, model.blank_id], posteriors.clone()
    others[:, model.blank_id] = -1
    best, units = others.max(-1)
    return {
        "units": to_base64(units.numpy().astype("<u2").tobytes()),
        "best": to_base64(best.mul(255).round().to(torch.uint8).numpy().tobytes()),
        "blank": to_base64(blank.mul(255).round().to(torch.uint8).numpy().tobytes()),
        **geometry,
    }


def to_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _seconds(segments: Sequence[Segment]) -> list[list[Any]]:
    return [[round(s.start / SAMPLE_RATE, 4), round(s.end / SAMPLE_RATE, 4), s.label] for s in segments]
