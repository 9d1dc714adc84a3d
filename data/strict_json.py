"""JSON as its standard has it (RFC 8259), where the json module is more lenient; and the types of its values.

Read: no object has a key twice; the module would keep the last one and say nothing. Written: no NaN and no Infinity;
the module would write both, and other programs refuse the whole file.
"""

from __future__ import annotations

import json
import math
import types
import typing
from typing import Any, Literal


class TwiceError(ValueError):
    """The key that stands twice."""


def loads(text: str) -> Any:
    """json.loads; TwiceError, a ValueError as json's own, when an object has a key twice."""
    return json.loads(text, object_pairs_hook=_unique)


def dumps(value: Any, *, indent: int | None = None, ensure_ascii: bool = False) -> str:
    """json.dumps of `finite(value)`; in ASCII if it holds what UTF-8 cannot: the lone surrogates of a file's name that
    is not UTF-8 itself."""
    text = json.dumps(finite(value), indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)
    if any("\ud800" <= character <= "\udfff" for character in text):
        return dumps(value, indent=indent, ensure_ascii=True)
    return text


def finite(value: Any) -> Any:
    """`value` with None for every float in it that is no number.

    >>> finite({"best": {"wer": float("inf")}, "losses": (1.0, float("nan"))})
    {'best': {'wer': None}, 'losses': [1.0, None]}
    """
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        raise TwiceError(next(key for key in keys if keys.count(key) > 1))
    return row


DECODER = json.JSONDecoder(object_pairs_hook=_unique)
"""For a value that is not the whole text: `DECODER.raw_decode`."""


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
