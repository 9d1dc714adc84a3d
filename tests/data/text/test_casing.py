"""data.text.casing against Unicode's SpecialCasing.txt: its lines for lt, tr and az, copied by hand."""

from __future__ import annotations

import unicodedata

import pytest

from data.text.casing import lower, rules_of, upper

# (language, text, lower, upper); code points as the file has them, composed where Unicode composes
SPECIAL_CASING = [
    ("lt", "I\u0300", "i\u0307\u0300", "Ì"), ("lt", "J\u0301", "j\u0307\u0301", "J\u0301"),
    ("lt", "Į\u0303", "į\u0307\u0303", "Į\u0303"), ("lt", "Ì", "i\u0307\u0300", "Ì"), ("lt", "Í", "i\u0307\u0301", "Í"),
    ("lt", "Ĩ", "i\u0307\u0303", "Ĩ"), ("lt", "i\u0307\u0301", "i\u0307\u0301", "Í"), ("lt", "I", "i", "I"),
    ("lt", "j\u0307\u0303", "j\u0307\u0303", "J\u0303"),
    ("tr", "İ", "i", "İ"), ("tr", "I\u0307", "i", "İ"), ("tr", "I", "ı", "I"), ("tr", "i", "i", "İ"),
    ("tr", "ı", "ı", "I"), ("az", "İ", "i", "İ"), ("az", "I\u0307", "i", "İ"), ("az", "I", "ı", "I"),
    ("az", "i", "i", "İ"), ("az", "ı", "ı", "I"),
    ("", "I", "i", "I"), ("", "i", "i", "I"), ("", "ı", "ı", "I"), ("", "ß", "ß", "SS"), ("", "Í", "í", "Í"),
    ("", "ẞ", "ß", "ẞ"), ("de", "ΣΑΣ", "σας", "ΣΑΣ"), ("", "ΐ", "ΐ", "Ϊ\u0301"), ("", "ǰ", "ǰ", "J\u030c"),
]  # fmt: skip


@pytest.mark.parametrize(("language", "text", "small", "capital"), SPECIAL_CASING)
def test_case_follows_special_casing(language: str, text: str, small: str, capital: str):
    text = unicodedata.normalize("NFC", text)
    assert (lower(text, language), upper(text, language)) == (small, unicodedata.normalize("NFC", capital))


@pytest.mark.parametrize("language", ["", "en", "tr", "az", "lt"])
@pytest.mark.parametrize("text", ["İstanbul", "i\u0307stanbul", unicodedata.normalize("NFC", "I\u0307stanbul")])
def test_a_dotted_capital_becomes_a_plain_i_in_every_language(language: str, text: str):
    assert lower(text, language) == "istanbul"


def test_other_letters_have_pythons_case_in_every_language():
    """Reference: str.lower and str.upper, on all letters of the Basic Multilingual Plane but i and its kin."""
    special = set("Iiİıİ" + "ÌÍĨìíĩĮįJj")
    text = " ".join(chr(c) for c in range(0x10000) if chr(c).isalpha() and chr(c) not in special)
    text = unicodedata.normalize("NFC", text)
    for language in ("", "tr", "lt"):
        assert lower(text, language) == unicodedata.normalize("NFC", text.lower())
        assert upper(text, language) == unicodedata.normalize("NFC", text.upper())


@pytest.mark.parametrize(
    ("code", "rules"),
    [("tr", "tr"), ("TR", "tr"), ("tur", "tr"), ("tr-TR", "tr"), ("az_Latn_AZ", "az"), ("aze", "az"), ("azj", "az"),
     ("lit", "lt"), ("en", ""), ("trv", ""), ("lti", ""), ("", "")],
)  # fmt: skip
def test_languages_are_known_by_their_codes(code: str, rules: str):
    assert rules_of(code) == rules
