"""Transcripts: normalisers, small pure functions chosen by name.

A normaliser returns what the model should write, spaces between words. `hf-timit` ends with a space: the
reference run's targets end with a word delimiter. Which character stays, goes or becomes another is in
data.text.characters, case in data.text.casing; docs/howto-own-data.md has examples of many languages.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import partial

from data.text.casing import lower, upper
from data.text.characters import APOSTROPHES, JOINERS, MIDDLE_DOT, TABLE

# The reference run's characters to ignore, joined into a class as its script did. Inside a class `!-;` is
# a range (U+0021 to U+003B): the apostrophe, the hyphen and the digits are deleted too.
HF_TIMIT_IGNORED = re.compile('[,?.!-;:"“%‘”�]')

_HEBREW, _POINTS = "\u05d0-\u05ea", "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"
# The sign of a Hebrew abbreviation, gershayim, stands before its last letter, and is mostly typed as a quote
_GERSHAYIM = re.compile(f'([{_HEBREW}][{_POINTS}]*)(?:[״"”“]|[{APOSTROPHES}]{{2}})(?=[{_HEBREW}])')
# A geresh makes another sound of the letter before it, at the end of a word too
_FINAL_GERESH = re.compile(f"[{_HEBREW}][{_POINTS}]*'$")

# Between two l (Catalan), n and h, s and h (Occitan) a middle dot is spelling; other dots are typed for it
_DOT_FOR_MIDDLE_DOT = re.compile("(?<=[lL])[‧∙⋅•・･](?=[lL])")
_STRAY_MIDDLE_DOT = re.compile("(?<![lL])·(?![hH])|(?<=[lL])·(?![lL])|(?<![lLnNsS])·")

# Zero width joiner and non-joiner at a virama are spelling in the scripts of India, Sri Lanka and Burma: another
# letter form, often another sound. Elsewhere they only shape (Persian, emoji), as they do at the end of a word.
_VIRAMAS = "".join(
    chr(code)
    for first, last in [(0x0900, 0x1CFF), (0xA800, 0xABFF), (0x11000, 0x11FFF)]
    for code in range(first, last)
    if unicodedata.combining(chr(code)) == 9
)
_STRAY_JOINER = re.compile(f"(?<![{_VIRAMAS}])[\u200c\u200d]+(?![{_VIRAMAS}])|[\u200c\u200d]+(?=['\\s]|$)")
# Malayalam chillu letters as they were written before Unicode 5.1
_CHILLU = {"ണ": "ൺ", "ന": "ൻ", "ര": "ർ", "ല": "ൽ", "ള": "ൾ", "ക": "ൿ"}
_OLD_CHILLU = re.compile(f"([{''.join(_CHILLU)}])\u0d4d\u200d")


def hf_timit(text: str) -> str:
    """The text as the reference run (October 2021) saw it.

    >>> hf_timit("Don't ask me, 21 well-known men.")
    'dont ask me  wellknown men '
    """
    return HF_TIMIT_IGNORED.sub("", text).lower() + " "


def plain(text: str, language: str = "") -> str:
    """Lower case, NFC; letters, marks, digits, and apostrophes inside words stay, the rest separates words.

    Punctuation and symbols become spaces, between digits too; soft hyphens and other invisible signs go.
    `language` is an ISO 639 code: tr, az and lt have their own rules of case.

    >>> plain("“Don't—ask” the well-known man… ’cause it’s £5!")
    "don't ask the well known man cause it's 5"
    """
    is_ascii = text.isascii()
    if not is_ascii:
        text = unicodedata.normalize("NFC", text)
        text = _OLD_CHILLU.sub(lambda match: _CHILLU[match[1]], text)
        text = _DOT_FOR_MIDDLE_DOT.sub(MIDDLE_DOT, _GERSHAYIM.sub(r"\1", text))
    text = text.translate(TABLE)
    if not is_ascii:
        text = _STRAY_JOINER.sub("", _STRAY_MIDDLE_DOT.sub(" ", text))
        text = unicodedata.normalize("NFC", text)  # again: what went may have stood between letter and mark
    text = lower(text.replace("''", " "), language)  # two apostrophes are a quote
    words = map(_trim, text.split())
    return " ".join(word for word in words if word)


def plain_upper(text: str, language: str = "") -> str:
    """`plain` in upper case, for checkpoints whose units are capitals.

    >>> plain_upper("So it goes."), plain_upper("istanbul", "tr")
    ('SO IT GOES', 'İSTANBUL')
    """
    return upper(plain(text, language), language)


def _trim(word: str) -> str:
    """`word` without apostrophes at its ends and without the marks of a sign that went before it."""
    trimmed = word
    while trimmed and (trimmed[0] in "'" + JOINERS or unicodedata.category(trimmed[0])[0] == "M"):
        trimmed = trimmed[1:]
    if word.endswith("'") and not (trimmed == word and _FINAL_GERESH.search(word)):
        trimmed = trimmed.rstrip("'")
    return trimmed


NORMALIZERS: dict[str, Callable[..., str]] = {"hf-timit": hf_timit, "plain": plain, "plain-upper": plain_upper}


def normalizer(name: str, language: str = "") -> Callable[[str], str]:
    """The normaliser of that name; hf-timit, which is fixed to the byte, has one case for all languages."""
    chosen = NORMALIZERS[name]
    return chosen if chosen is hf_timit else partial(chosen, language=language)


def control_character(text: str) -> str:
    """The first control character (but white space) or lone surrogate of `text`, as U+XXXX; empty without one.

    Traces of another encoding (UTF-16, or Windows-1252 taken for Latin-1) or of damage.
    """
    if text.isprintable():
        return ""
    found = (c for c in text if unicodedata.category(c) in ("Cc", "Cs") and not c.isspace())
    return next((f"U+{ord(c):04X}" for c in found), "")


def impossible_character(text: str) -> str:
    """The first character of `text` that no transcript has, as U+XXXX; empty when there is none.

    Control characters, and what a normaliser would drop without a word though speech stood there: U+FFFD (bytes
    that could not be decoded), private use (a font's own signs), and code points that are no characters.

    >>> impossible_character("don\\x92t"), impossible_character("two\\twords"), impossible_character("caf\\ufffd")
    ('U+0092', '', 'U+FFFD')
    """
    if character := control_character(text):
        return character
    if text.isascii():
        return ""
    found = (c for c in text if c == "\ufffd" or unicodedata.category(c) == "Co" or _is_no_character(ord(c)))
    return next((f"U+{ord(c):04X}" for c in found), "")


def _is_no_character(code: int) -> bool:
    return code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF


def collapse_spaces(text: str) -> str:
    """`text` with single spaces and none at its ends: what is scored."""
    return " ".join(text.split())
