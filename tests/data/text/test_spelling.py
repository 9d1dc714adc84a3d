"""data.text.spelling against Unicode's own tables.

pytest tests/data/text/test_spelling.py
"""

from __future__ import annotations

import doctest
import unicodedata
from collections.abc import Collection

import pytest

import data.text.spelling
from data.text.spelling import BY_NAME, CANDIDATES


def test_examples_in_docstrings_hold() -> None:
    assert doctest.testmod(data.text.spelling).failed == 0


@pytest.mark.parametrize(
    ("name", "text", "units", "expected"),
    [
        ("as-is", "Straße", "", "Straße"),
        ("upper", "straße", "", "STRASSE"),
        ("upper", "straße", "ß", "STRAßE"),
        ("upper", "straße", "ẞ", "STRAẞE"),
        ("upper", "işık ve istanbul", "Iİ", "İŞIK VE İSTANBUL"),
        ("upper", "istanbul", "I", "ISTANBUL"),
        ("lower", "IŞIK VE İSTANBUL", "ıi", "ışık ve istanbul"),
        ("lower", "İSTANBUL", "i", "istanbul"),
        ("lower", "ΟΔΟΣ", "", "οδος"[:-1] + "ς"),
        ("upper-nfd", "tiếng", "", "TIE\u0302\u0301NG"),
        ("nfc", "tie\u0302\u0301ng", "", "tiếng"),
        ("nfd", "각", "", "\u1100\u1161\u11a8"),
        ("jamo", "값 까", "", "ㄱㅏㅄ ㄲㅏ"),
        ("jamo", "tiếng", "", "tie\u0302\u0301ng"),
    ],
)
def test_text_is_spelled_by_case_then_form(name: str, text: str, units: Collection[str], expected: str) -> None:
    """Reference: German, Turkish, Greek and Korean spelling, by hand."""
    assert BY_NAME[name].spell(text, units) == expected


def test_every_syllable_of_korean_is_spelled_with_letters_that_stand_alone() -> None:
    """Reference: NFKD, which takes the letters that stand alone back to the first and middle letters of syllables; a
    last letter that is two consonants has no first letter, and stays."""
    letters = {chr(c) for c in range(0x3131, 0x3164)}
    for code in range(0xAC00, 0xD7A4):
        spelled = BY_NAME["jamo"].spell(chr(code), ())
        assert set(spelled) <= letters
        first_and_middle = unicodedata.normalize("NFD", chr(code))[:2]
        assert unicodedata.normalize("NFKD", spelled[:2]) == first_and_middle
        assert len(spelled) == len(unicodedata.normalize("NFD", chr(code)))


def test_names_are_those_of_the_option() -> None:
    from typing import get_args, get_type_hints

    from data.config import CorpusConfig

    assert set(get_args(get_type_hints(CorpusConfig)["spelling"])) == {"auto", *(c.name for c in CANDIDATES)}
