"""Text that a file in UTF-8 can hold.

Names of files may hold bytes that are no UTF-8, which Python reads as lone surrogates.
"""

from __future__ import annotations


def in_utf8(text: str) -> str:
    """`text` with a backslash escape for each lone surrogate.

    >>> in_utf8("é\\udcff")
    'é\\\\udcff'
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
