"""What torch's allocator for CUDA is told, through the environment and before torch is imported."""

from __future__ import annotations

import os
import platform


def allocator_settings() -> dict[str, str]:
    """Environment variables that let CUDA's allocator grow its segments, so that batches of many lengths do not leave
    gaps that nothing fits into. None on WSL, where the first allocation may then fail (pytorch issue 192330)."""
    return {} if "microsoft" in platform.release().lower() else {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}


def grow_segments() -> None:
    """Set `allocator_settings`, which torch reads before its first allocation. What the user has set stays."""
    if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:  # the older name
        for name, value in allocator_settings().items():
            os.environ.setdefault(name, value)
