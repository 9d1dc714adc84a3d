"""What a container holds, counted: the stretches that are decoded one after the other, and their true lengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from data.utterance import AudioHeader
from trainer.errors import AudioError

MOST_SHORT_SECONDS, MOST_SHORT_SHARE = 0.5, 0.05
"""How much shorter than promised a file may be: such ones are in public corpora, and every program reads them."""


@dataclass(frozen=True)
class Part:
    """A stretch that libsndfile decodes by itself."""

    open: Callable[[], BinaryIO]
    num_frames: int
    """Samples per channel that belong to the sound, behind those skipped."""
    skip: int = 0
    """Decoded samples at the start that are no sound (an encoder's delay)."""
    raw: Mapping[str, Any] = field(default_factory=dict)
    """soundfile's arguments for samples without a header."""
    is_mpeg: bool = False
    """libmpg123 decodes it, which writes on the terminal (data.audio.quiet)."""


@dataclass(frozen=True)
class Contents:
    """What a file holds, whoever wrote its header."""

    header: AudioHeader
    parts: tuple[Part, ...]
    """In their order; together they have the header's `num_frames`. Empty where only the header was asked for."""


def reason_of(error: Exception) -> str:
    """What libsndfile says, for a message of ours."""
    # str(LibsndfileError) begins with the repr of our file object
    return str(getattr(error, "error_string", error)).strip().rstrip(".")


def refuse_short(
    name: str, num_missing: int, num_frames: int, rate: int, cause: str = "truncated?", header: str = "its header"
) -> None:
    """AudioError when `num_missing` samples beyond the `num_frames` that are there are too many to be passed over."""
    promised = num_frames + num_missing
    if num_missing > min(MOST_SHORT_SECONDS * rate, MOST_SHORT_SHARE * promised):
        raise AudioError(f"{name}: {header} says {promised} samples, {num_frames} are there: {cause}")
