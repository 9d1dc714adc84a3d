"""Lower and upper case by language, where Unicode has rules of a language's own (SpecialCasing.txt): tr, az, lt.

Turkish and Azeri have two letters: dotted İ i and dotless I ı. Lithuanian keeps the dot of i below an accent.
"""

from __future__ import annotations

import re
import unicodedata

CASED_LANGUAGES = {"tr": "tr", "tur": "tr", "az": "az", "aze": "az", "azj": "az", "azb": "az", "lt": "lt", "lit": "lt"}
"""ISO 639 codes of the languages that have rules, two and three letters long, and the name of the rules."""

_TURKIC_LOWER = str.maketrans({"İ": "i", "I": "ı"})
_TURKIC_UPPER = str.maketrans({"i": "İ"})
_DOT_ABOVE = re.compile("[iı]\u0307+")
# A second accent above keeps the dot: Lithuanian dictionaries write i, dot, acute
_LONE_DOT_ABOVE = re.compile("[iı]\u0307+(?![\u0300\u0301\u0303\u0307])")
_LITHUANIAN_APART = str.maketrans({"Ì": "I\u0300", "Í": "I\u0301", "Ĩ": "I\u0303"})
_LITHUANIAN_ACCENTED = re.compile("([IJĮ])(?=[\u0300\u0301\u0303])")
_LITHUANIAN_DOT = re.compile("([ijį])\u0307")


def rules_of(language: str) -> str:
    """The name of a language's own rules of case, or "" where it has none.

    >>> rules_of("tr-TR"), rules_of("aze"), rules_of("de"), rules_of("")
    ('tr', 'az', '', '')
    """
    return CASED_LANGUAGES.get(re.split("[-_]", language.lower())[0], "")


def lower(text: str, language: str = "") -> str:
    """Composed (NFC) `text` in lower case, composed again.

    A capital dotted İ becomes a plain i in every language, and so does an i with a combining dot: that is what
    str.lower() makes of İ, and corpora that were lowered with it are full of it.

    >>> lower("İSTANBUL IŞIK", "tr"), lower("İSTANBUL IŞIK")
    ('istanbul ışık', 'istanbul işik')
    """
    rules = rules_of(language)
    if rules == "lt":
        text = _LITHUANIAN_ACCENTED.sub("\\1\u0307", text.translate(_LITHUANIAN_APART))
        text = _LONE_DOT_ABOVE.sub("i", text.lower())
    else:
        text = _DOT_ABOVE.sub("i", (text.translate(_TURKIC_LOWER) if rules else text).lower())
    return unicodedata.normalize("NFC", text)


def upper(text: str, language: str = "") -> str:
    """Composed `text` in upper case, composed again; ß becomes SS, as Unicode has it.

    >>> upper("istanbul ışık", "az"), upper("straße")
    ('İSTANBUL IŞIK', 'STRASSE')
    """
    rules = rules_of(language)
    if rules == "lt":
        text = _LITHUANIAN_DOT.sub(r"\1", text)
    elif rules:
        text = text.translate(_TURKIC_UPPER)
    return unicodedata.normalize("NFC", text.upper())
