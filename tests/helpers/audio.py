"""Audio files in memory, whole and odd, and how they are prepared, for the tests of what is refused."""

from __future__ import annotations

import io
from typing import BinaryIO

import numpy as np
import soundfile

from data.audio.decode import EncodedAudio
from data.examples.prepare import prepare_training
from data.text.normalise import plain
from data.text.vocab import Vocab
from data.utterance import Utterance
from models.geometry import FrameGeometry
from tests.helpers.corpora import ManifestFolder


class BytesAudio(EncodedAudio):
    """Audio whose encoded bytes are at hand."""

    def __init__(self, data: bytes, name: str, identity: str) -> None:
        self.data, self.name, self.identity = data, name, identity

    def open(self) -> BinaryIO:
        return io.BytesIO(self.data)


MODEL = ["--model.size", "tiny"]

ALPHABET = Vocab.build(["abcdefghijklmnopqrstuvwxyz a"])
NUM_FRAMES = FrameGeometry.of((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)).num_frames
"""The encoders' real geometry: 400 samples give the first frame."""


def prepare(*utterances: Utterance, on_bad: str = "error", max_seconds: float = 30.0):
    """The examples and drops of a training split."""
    return prepare_training(
        utterances, plain, ALPHABET, NUM_FRAMES, max_seconds=max_seconds, max_speed=1.0, on_bad=on_bad, split="train"
    )


def utterance(content: bytes, text: str = "a") -> Utterance:
    """One of this encoded audio."""
    return Utterance("u1", BytesAudio(content, "a.wav", "a"), text, origin="train.jsonl:1")


def sound(num_samples: int, seed: int = 0) -> np.ndarray:
    """float32 (num_samples,) of noise."""
    return (0.1 * np.random.default_rng(seed).standard_normal(num_samples)).astype(np.float32)


def noisy_speech(seconds: float = 2.0, rate: int = 16_000, seed: int | None = None) -> np.ndarray:
    """Noise whose loudness goes up and down four times a second, as syllables do; no two peaks are alike."""
    n = round(seconds * rate)
    loudness = 0.03 + 0.07 * np.sin(2 * np.pi * 2 * np.arange(n) / rate) ** 2
    return (loudness * np.random.default_rng(n if seed is None else seed).standard_normal(n)).astype(np.float32)


def load(content: bytes) -> np.ndarray:
    """What reading a file of this content gives: its header first, as everywhere."""
    audio = BytesAudio(content, "a.wav", "a")
    samples = audio.load()
    assert len(samples) == audio.num_samples
    return samples


def encoded(samples: np.ndarray, format: str = "WAV", subtype: str = "PCM_16", rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    return file.getvalue()


def flac_damaged_inside(num_samples: int = 16_000) -> bytes:
    """FLAC whose header and end are whole: what is wrong shows in decoding only."""
    content = bytearray(encoded(sound(num_samples), "FLAC"))
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)
    return bytes(content)


def put_audio(corpus: ManifestFolder, split: str, row: int, content: bytes) -> None:
    (corpus.folder / corpus.rows[split][row]["audio_filepath"]).write_bytes(content)


def sphere_file(
    samples: np.ndarray, *, dtype: str = "<i2", size: int = 1024, drop: str = "", **fields: object
) -> bytes:
    """A NIST_1A file; `fields` replace those of a plain 16-bit file, `drop` leaves one out."""
    values: dict[str, object] = {
        "channel_count": 1, "sample_count": len(samples), "sample_rate": 16_000,
        "sample_n_bytes": np.dtype(dtype).itemsize, "sample_byte_format": "01", **fields,
    }  # fmt: skip
    values.pop(drop, None)
    lines = [f"{k} -i {v}" if isinstance(v, int) else f"{k} -s{len(str(v))} {v}" for k, v in values.items()]
    header = "\n".join(["NIST_1A", f"{size:7d}", *lines, "end_head", ""]).encode()
    return header.ljust(size) + quantized(samples).astype(dtype).tobytes()


def quantized(samples: np.ndarray) -> np.ndarray:
    return np.round(samples * 32768).astype(np.int16)
