"""JSON read strictly: no object has a key twice, and a value is of the type that it should be.

Of two equal keys the json module would keep the last one and say nothing.
"""

from __future__ import annotations

import json
import types
import typing
from typing import Any, Literal


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


def fits(value: Any, hint: Any) -> bool:
    """Whether a value of JSON is one of type `hint`: a plain type, a Literal, a union, a list or a tuple of any length.

    A float may be written without a point; an int must fit into 64 bits; neither may be true or false.

    >>> fits(3, float | None), fits(True, int), fits([1, 2.5], tuple[float, ...]), fits("a", Literal["a", "b"])
    (True, False, True, True)
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return any(value == arg and type(value) is type(arg) for arg in args)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, arg) for arg in args)
    if origin in (list, tuple):
        return isinstance(value, list) and all(fits(v, args[0]) for v in value)
    if hint is int:
        return type(value) is int and abs(value) < 2**63
    return type(value) in ((int, float) if hint is float else (hint,))
