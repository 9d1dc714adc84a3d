"""Text that a file in UTF-8 can hold, and where a file is none.

Names of files may hold bytes that are no UTF-8, which Python reads as lone surrogates.
"""

from __future__ import annotations


def in_utf8(text: str) -> str:
    """`text` with a backslash escape for each lone surrogate.

    >>> in_utf8("é\\udcff")
    'é\\\\udcff'
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def wrong_byte(error: UnicodeDecodeError) -> tuple[int, int]:
    """(Line, value) of the first byte that is no UTF-8. What was decoded is taken from `error`, since utf-8-sig counts
    behind a byte order mark."""
    return error.object[: error.start].count(b"\n") + 1, error.object[error.start]
