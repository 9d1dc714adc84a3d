"""Every recording of a corpus is measured once, with all cores: a row of figures each, 100 bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import fields

import numpy as np

from data.audio.envelope import Envelope, measure_envelope
from data.audio.fingerprint import BITS, fingerprint
from data.audio.pitch import measure_pitch
from data.audio.quality import Quality, measure_quality
from data.examples.example import Example
from data.machine.limits import num_cores
from data.machine.processes import do_tasks
from data.utterance import SAMPLE_RATE
from trainer.errors import AudioError

SLICE = 64
"""Utterances that a process is given at a time."""
WORTH_A_PROCESS = 4 * SLICE
"""Utterances that take longer than a process to start."""

Progress = Callable[[Sequence, int], Iterable]
"""As Console.progress: an iterable that tells of its steps, of which there are so many."""


def quietly(items: Sequence, total: int) -> Iterable:
    """Tells nobody."""
    return items


ROW = np.dtype([
    *((field.name, "f4") for field in (*fields(Quality), *fields(Envelope))),
    ("pitch", "f4"),
    ("seconds", "f4"),
    ("units", "i4"),
    ("rate", "i4"),
    ("content", "u8"),
    ("fingerprint", "u1", BITS // 8),
    ("is_measured", "?"),
])  # fmt: skip
"""Fields of Quality and Envelope; pitch in Hz or NaN; seconds; units of the transcript; the file's rate in Hz; a digest
of the samples, rounded to 16 bits; data.audio.fingerprint from the first to the last speech. All zero, but `units`,
where the audio cannot be decoded."""


def measure_all(examples: Sequence[Example], progress: Progress) -> np.ndarray:
    """ROW (n,), one for each example. Every sample is looked at once."""
    rows = np.zeros(len(examples), ROW)
    bounds = [*range(0, len(examples), SLICE), len(examples)]

    def work(task: int) -> np.ndarray:
        some = np.zeros(bounds[task + 1] - bounds[task], ROW)
        for i, row in enumerate(some):
            _measure(examples[bounds[task] + i], row)
        return some

    processes = min(num_cores(), len(examples) // WORTH_A_PROCESS)
    bar = iter(progress(range(len(examples)), len(examples)))
    with closing(do_tasks(work, len(bounds) - 1, processes)) as answers:
        for task, some in answers:
            rows[bounds[task] : bounds[task + 1]] = some
            for _ in range(len(some)):
                next(bar, None)
    next(bar, None)
    return rows


def _measure(example: Example, row: np.void) -> None:
    row["units"] = len(example.targets)
    if example.num_samples <= 0:
        return
    try:
        samples = example.load()
    except AudioError:  # decoded on the fly: what cannot be is a fault already
        return
    quality, envelope = measure_quality(samples), measure_envelope(samples)
    for measures in (quality, envelope):
        for field in fields(measures):
            row[field.name] = getattr(measures, field.name)
    row["pitch"] = measure_pitch(samples)
    row["seconds"] = len(samples) / SAMPLE_RATE
    row["rate"] = example.utterance.audio.header.rate
    in_16_bits = np.rint(samples * np.float32(32768)).astype(np.int32)
    row["content"] = int.from_bytes(hashlib.blake2b(in_16_bits.tobytes(), digest_size=8).digest(), "big")
    silence, rest = (round(s * SAMPLE_RATE) for s in (envelope.lead, envelope.trail))
    row["fingerprint"] = fingerprint(samples[silence : max(silence + 1, len(samples) - rest)])
    row["is_measured"] = True
