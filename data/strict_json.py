"""JSON in which no object has a key twice: the json module would keep the last one and say nothing."""

from __future__ import annotations

import json
from typing import Any


class TwiceError(ValueError):
    """The key that stands twice."""


def loads(text: str) -> Any:
    """json.loads; TwiceError, a ValueError as json's own, when an object has a key twice."""
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        raise TwiceError(next(key for key in keys if keys.count(key) > 1))
    return row
