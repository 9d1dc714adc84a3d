"""Write NIST SPHERE files as TIMIT has them: a 1024-byte text header, then 16 kHz 16-bit mono PCM.

Reading is elsewhere: data.audio.formats.sphere_header and data.audio.
"""

from pathlib import Path

import numpy as np

HEADER_BYTES = 1024
SAMPLE_RATE = 16_000


def write_sphere(path: Path, samples: np.ndarray, *, database_id: str = "SYNTHETIC", utterance_id: str) -> None:
    """Write `samples`, int16 (n,) at 16 kHz, as a NIST_1A file; fields, order and byte order are TIMIT's."""
    assert samples.dtype == np.int16, samples.dtype
    assert samples.ndim == 1, samples.shape
    fields: list[tuple[str, str | int]] = [
        ("database_id", database_id),
        ("database_version", "1.0"),
        ("utterance_id", utterance_id),
        ("channel_count", 1),
        ("sample_count", len(samples)),
        ("sample_rate", SAMPLE_RATE),
        ("sample_min", int(samples.min(initial=0))),
        ("sample_max", int(samples.max(initial=0))),
        ("sample_n_bytes", 2),
        ("sample_byte_format", "01"),
        ("sample_sig_bits", 16),
    ]
    lines = ["NIST_1A", f"{HEADER_BYTES:>7}"]
    for name, value in fields:
        kind = "-i" if isinstance(value, int) else f"-s{len(value)}"
        lines.append(f"{name} {kind} {value}")
    header = "\n".join([*lines, "end_head", ""]).encode("ascii")
    assert len(header) <= HEADER_BYTES
    path.write_bytes(header.ljust(HEADER_BYTES, b" ") + samples.astype("<i2").tobytes())
