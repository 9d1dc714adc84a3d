"""data.text.normalise: the normalisers, `hf-timit` against the reference run's own regular expression."""

from __future__ import annotations

import re
import typing
import unicodedata

import pytest

from data.config import CorpusConfig
from data.text.normalise import NORMALIZERS, collapse_spaces, hf_timit, plain, plain_upper

# The arguments of --chars_to_ignore in the reference run's run.sh, as the shell hands them over
CHARS_TO_IGNORE = [",", "?", ".", "!", "-", ";", ":", '"', "“", "%", "‘", "”", "�"]


def reference_hf_timit(text: str) -> str:
    """What run_speech_recognition_ctc.py of October 2021 does: the characters joined into a class, unescaped."""
    return re.sub(f"[{''.join(CHARS_TO_IGNORE)}]", "", text).lower() + " "


def test_hf_timit_equals_the_reference_scripts_regex_on_every_character():
    """Reference: the script's expression built here from its arguments, on U+0000 to U+2FFF and U+FF00 up."""
    for code in [*range(0x3000), *range(0xFF00, 0x10000)]:
        text = f"a{chr(code)}b"
        assert hf_timit(text) == reference_hf_timit(text), f"U+{code:04X}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("She had your dark suit in greasy wash water.", "she had your dark suit in greasy wash water "),
        ("Don't ask me to carry an oily rag like that.", "dont ask me to carry an oily rag like that "),
        ("A well-known, so-called \"expert\"!", "a wellknown socalled expert "),
        ("#1 & (2) * 3 + 4/5 = $6", "       =  "),
        ("a <b> = c_d@e", "a <b> = c_d@e "),
        ("", " "),
    ],
)  # fmt: skip
def test_hf_timit_deletes_from_exclamation_mark_to_semicolon_and_ends_with_a_space(text: str, expected: str):
    assert hf_timit(text) == expected == reference_hf_timit(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("So it goes.", "so it goes"),
        ("A well-known, so-called \"expert\"!", "a well known so called expert"),
        ("Don't, don’t, DONʼT, don`t", "don't don't don't don't"),
        ("'Tis the dogs' 'bone'", "tis the dogs bone"),
        ("rock 'n' roll", "rock n roll"),
        ("first—second – third−fourth", "first second third fourth"),
        ("and/or under_score", "and or under score"),
        ("  many\t kinds\nof\u00a0space\u3000here ", "many kinds of space here"),
        ("$5 & 7% @ #1 <b>", "5 7 1 b"),
        ("CAFE\u0301 naïve ÅNGSTRÖM", "café naïve ångström"),
        ("Привет, мир! 你好。", "привет мир 你好"),
        ("zero\u200bwidth \x07bell", "zerowidth bell"),
        ("-", ""),
        ("' '' '", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_plain_by_example(text: str, expected: str):
    assert plain(text) == expected


def test_plain_leaves_only_letters_marks_digits_apostrophes_and_single_spaces():
    text = "".join(f"x{chr(code)}y " for code in range(0x3000))
    result = plain(text)
    assert {unicodedata.category(c)[0] for c in set(result) - {"'", " "}} <= set("LMN")
    assert "  " not in result
    assert result == result.strip()


@pytest.mark.parametrize("blocks", [range(0xD800), range(0xE000, 0x20000)], ids=["below surrogates", "above"])
def test_plain_is_composed_idempotent_and_blind_to_decomposition_for_every_character(blocks: range):
    """Reference: unicodedata; between letters, so that a mark has something to combine with."""
    for code in blocks:
        text = f"e{chr(code)}o"
        result = plain(text)
        assert unicodedata.is_normalized("NFC", result), f"U+{code:04X}"
        assert plain(result) == result, f"U+{code:04X}"
        if (decomposed := unicodedata.normalize("NFD", text)) != text:
            assert plain(decomposed) == result, f"U+{code:04X}"


def test_dropping_punctuation_under_a_mark_leaves_composed_text():
    assert plain("cafe.\u0301") == "caf\u00e9"


def test_plain_upper_is_plain_in_capitals():
    assert plain_upper("Don't—ask!") == "DON'T ASK"


def test_every_normalizer_has_its_option_and_every_option_its_normalizer():
    hints = typing.get_type_hints(CorpusConfig)
    assert set(typing.get_args(hints["normalizer"])) == set(NORMALIZERS)


@pytest.mark.parametrize(
    ("text", "expected"), [("a  b", "a b"), (" a b ", "a b"), ("a\tb\n", "a b"), (" ", ""), ("", ""), ("ab", "ab")]
)
def test_collapsed_text_has_single_spaces_and_none_at_its_ends(text: str, expected: str):
    assert collapse_spaces(text) == expected
