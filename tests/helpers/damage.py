"""What can befall a file on a disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: os.truncate(path, path.stat().st_size - 1),
    "empty": lambda path: os.truncate(path, 0),
    "one bit flipped": flip_a_bit,
    "missing": lambda path: path.unlink(),
}
