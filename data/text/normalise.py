"""Transcripts: normalisers, small pure functions chosen by name.

A normaliser returns what the model should write, spaces between words. `hf-timit` ends with a space: the
reference run's targets end with a word delimiter.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

# The reference run's characters to ignore, joined into a class as its script did. Inside a class `!-;` is
# a range (U+0021 to U+003B): the apostrophe, the hyphen and the digits are deleted too.
HF_TIMIT_IGNORED = re.compile('[,?.!-;:"“%‘”�]')

_APOSTROPHES = dict.fromkeys(map(ord, "’‘ʼ＇`´"), "'")
_DASHES = re.compile(r"[-‐‑‒–—―−_/]")


def hf_timit(text: str) -> str:
    """The text as the reference run (October 2021) saw it.

    >>> hf_timit("Don't ask me, 21 well-known men.")
    'dont ask me  wellknown men '
    """
    return HF_TIMIT_IGNORED.sub("", text).lower() + " "


def plain(text: str) -> str:
    """Lower case, NFC, hyphens to spaces, apostrophes inside words kept, all other punctuation dropped.

    >>> plain("“Don't—ask” the well-known man, 'cause it’s £5!")
    "don't ask the well known man cause it's 5"
    """
    text = unicodedata.normalize("NFC", text).lower().translate(_APOSTROPHES)
    text = _DASHES.sub(" ", text)
    # L letters, M combining marks, N digits stay; P punctuation, S symbols and C controls go
    kept = "".join(c if c == "'" or unicodedata.category(c)[0] in "LMN" else " " if c.isspace() else "" for c in text)
    text = " ".join(word for word in (w.strip("'") for w in kept.split()) if word)
    return unicodedata.normalize("NFC", text)  # again: what was dropped may have stood between letter and mark


def plain_upper(text: str) -> str:
    """`plain` in upper case, for checkpoints whose units are capitals.

    >>> plain_upper("So it goes.")
    'SO IT GOES'
    """
    return plain(text).upper()


NORMALIZERS: dict[str, Callable[[str], str]] = {"hf-timit": hf_timit, "plain": plain, "plain-upper": plain_upper}


def impossible_character(text: str) -> str:
    """The first character of `text` that no transcript has, as U+XXXX; empty when there is none.

    Control characters other than white space, and lone surrogates: traces of another encoding (UTF-16, or
    Windows-1252 taken for Latin-1) or of damage, which a normaliser would drop without a word.

    >>> impossible_character("don\\x92t"), impossible_character("two\\twords")
    ('U+0092', '')
    """
    if text.isprintable():
        return ""
    found = (c for c in text if unicodedata.category(c) in ("Cc", "Cs") and not c.isspace())
    return next((f"U+{ord(c):04X}" for c in found), "")


def collapse_spaces(text: str) -> str:
    """`text` with single spaces and none at its ends: what is scored."""
    return " ".join(text.split())
