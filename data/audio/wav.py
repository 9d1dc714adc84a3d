"""Samples as a RIFF file, the same bytes every time."""

from __future__ import annotations

import struct

import numpy as np


def as_wav(samples: np.ndarray, rate: int) -> bytes:
    """A RIFF file of `samples` (num_frames, channels) as they are; the same bytes every time.

    libsndfile would write the time of day beside float samples.
    """
    width, channels = samples.dtype.itemsize, samples.shape[1]
    tag = 3 if samples.dtype.kind == "f" else 1
    format = struct.pack(
        "<4sIHHIIHH", b"fmt ", 16, tag, channels, rate, rate * width * channels, width * channels, 8 * width
    )
    data = samples.astype(samples.dtype.newbyteorder("<")).tobytes()
    body = b"WAVE" + format + struct.pack("<4sI", b"data", len(data)) + data + b"\0" * (len(data) % 2)
    return struct.pack("<4sI", b"RIFF", len(body)) + body
