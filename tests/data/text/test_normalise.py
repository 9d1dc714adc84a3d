"""data.text.normalise: the normalisers, `hf-timit` against the reference run's own regular expression.

What becomes of single characters is in test_characters.py, case in test_casing.py.
"""

from __future__ import annotations

import random
import re
import typing
import unicodedata

import pytest

from data.config import CorpusConfig
from data.text.normalise import (
    NORMALIZERS,
    collapse_spaces,
    control_character,
    hf_timit,
    impossible_character,
    normalizer,
    plain,
    plain_upper,
)
from tests.helpers.paths import ROOT

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
        ("first—second – third−fourth", "first second third fourth"),
        ("and/or under_score", "and or under score"),
        ("  many\t kinds\nof\u00a0space\u3000here ", "many kinds of space here"),
        ("CAFE\u0301 naïve ÅNGSTRÖM", "café naïve ångström"),
        ("\x07bell", "bell"),
        ("-", ""),
        ("", ""),
        # punctuation stands between words even where no space does
        ("wait…what, wait...what", "wait what wait what"),
        ("yes,I said:hello!world", "yes i said hello world"),
        ("at 10:30", "at 10 30"),
        ("U.S.A. e.g. AT&T C++ me@home.org", "u s a e g at t c me home org"),
        ("$5 & 7% @ #1 <b> 1st", "5 7 1 b 1st"),
        ("3.14 1,000 1.000,50 −5 ½ m²", "3 14 1 000 1 000 50 5 ½ m²"),
        ("٣٫١٤ ۵٬۰۰۰", "٣ ١٤ ۵ ۰۰۰"),
    ],
)  # fmt: skip
def test_plain_separates_words_at_punctuation_and_symbols(text: str, expected: str):
    assert plain(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't, don’t, don`t, don´t, don‘t, don＇t, don′t", " ".join(["don't"] * 7)),
        ("'Tis the dogs' 'bone'", "tis the dogs bone"),
        ("rock 'n' roll, rock’n’roll", "rock n roll rock'n'roll"),
        ("‘quoted’ ‚quoted‘ ''quoted'' ``quoted'' `quoted´", "quoted quoted quoted quoted quoted"),
        ("said''quoted''", "said quoted"),
        ("' '' '", ""),
        ("l’homme d´accord qu'il", "l'homme d'accord qu'il"),  # French
        ("п’ять п'ять", "п'ять п'ять"),  # Ukrainian
        ("пʼять", "пʼять"),  # with the letter apostrophe, which stays
        ("oʻzbek maʼno", "oʻzbek maʼno"),  # Uzbek: two letters
        ("ʻOkina Hawaiʻi", "ʻokina hawaiʻi"),
        ("Yáʼátʼééh atooʼ", "yáʼátʼééh atooʼ"),  # Navajo: at the end of a word too
        ("Ꞌa mbeꞌe", "ꞌa mbeꞌe"),  # saltillo
        ("ἀλλ᾽ ἐγώ", "ἀλλ ἐγώ"),
        ("ŉ man", "n man"),  # Afrikaans
    ],
)
def test_apostrophes_stay_inside_words_and_letters_that_look_like_them_everywhere(text: str, expected: str):
    assert plain(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Привет, мир! Ёж—ёж «да».", "привет мир ёж ёж да"),
        ("你好，世界。“是的”、好", "你好 世界 是的 好"),
        ("こんにちは、カール・マルクス　スーパー々", "こんにちは カール マルクス スーパー々"),
        ("ＡＢＣ１２ ｶﾞｯｺｳ か゛", "abc12 ガッコウ が"),
        ("안녕하세요. 세계!", "안녕하세요 세계"),
        ("¿Qué? ¡Sí!", "qué sí"),
        ("« Oui », dit-il", "oui dit il"),
        ("„Straße“", "straße"),
        ("Col·legi COL·LEGI paraŀlel col•legi", "col·legi col·legi paral·lel col·legi"),  # Catalan
        ("des·har in·hèrn", "des·har in·hèrn"),  # Occitan
        ("l· ·l a·b l·h n·l 尔·马", "l l a b l h n l 尔 马"),
        ("Ի՞նչ ինչո՞ւ, ո՛չ՝ այո՜։", "ինչ ինչու ոչ այո"),  # Armenian: signs above the vowel
        ("צה״ל צה\"ל צה''ל צה”ל", "צהל צהל צהל צהל"),  # Hebrew abbreviations
        ("ג׳ירפה צ'יפס ג׳ורג׳ 'שלום' \"שלום\"", "ג'ירפה צ'יפס ג'ורג' שלום שלום"),
        ("בית־ספר", "בית ספר"),
        ("مرحبا، كيف؟ نعم؛ لا۔", "مرحبا كيف نعم لا"),
        ("کـتـاب ﻛﺘﺎﺏ", "کتاب كتاب"),  # tatweel; presentation forms
        ("می\u200cخواهم", "میخواهم"),  # Persian non-joiner
        ("नमस्ते। कैसे हो॥", "नमस्ते कैसे हो"),
        ("ශ්\u200dරී", "ශ්\u200dරී"),  # Sinhala: a joiner at a virama is spelling
        ("র\u200d্যাব র্যাব", "র\u200d্যাব র্যাব"),  # Bengali: two sounds
        ("അവന്\u200d അവൻ", "അവൻ അവൻ"),  # Malayalam: two ways to write one letter
        ("उसाँय्\u200c है", "उसाँय् है"),  # at the end of a word a joiner does nothing
        ("សួស្តី\u200bពិភពលោក។", "សួស្តី ពិភពលោក"),
        ("ไทย\u200bภาษา ๆ", "ไทย ภาษา ๆ"),
        ("မြန်မာ။ သူ၏၊", "မြန်မာ သူ၏"),
        ("བཀྲ་ཤིས་བདེ་ལེགས།", "བཀྲ ཤིས བདེ ལེགས"),
        ("ሰላም፡ለዓለም።", "ሰላም ለዓለም"),
        ("ta˥˩ ˈkʰæt̚ tʃaː˞ ǃa ŋ͡m", "ta˥˩ ˈkʰæt̚ tʃaː˞ ǃa ŋ͡m"),  # IPA
        ("co\u00adop \ufeffx\u2060y \u200eab\u200f", "coop xy ab"),
        ("I ❤\ufe0f NY 5\ufe0f\u20e3 👩\u200d👧🏽 ♪la♪", "i ny 5 la"),
        ("ﬁnd eﬀort ǆep 𝐛𝐨𝐥𝐝", "find effort džep bold"),
        ("cafe.\u0301 \u0301x ◌\u0301", "cafe x"),  # a mark goes with the sign below it
        ("e\u00ad\u0301", "é"),  # but stays with a letter
        ("ΟΔΟΣ.ΑΒΓ", "οδος αβγ"),  # final sigma before punctuation
    ],
)
def test_plain_by_language(text: str, expected: str):
    """Reference: written by hand from the scripts' own orthographies (The Unicode Standard, chapters 6 to 18)."""
    assert plain(text) == unicodedata.normalize("NFC", expected)


def documented() -> typing.Iterator[tuple[str, str, str]]:
    """(Written, learned, language) of the table in docs/howto-own-data.md, where both columns have as many examples."""
    for line in (ROOT / "docs" / "howto-own-data.md").read_text(encoding="utf-8").splitlines():
        cells = line.split(" | ")
        if line.startswith("| ") and len(cells) > 2:
            written, learned = ([code for _, code in re.findall(r"(`+)(.+?)\1(?!`)", cell)] for cell in cells[:2])
            language = "tr" if "--corpus.language tr" in cells[2] else ""
            if len(written) == len(learned):
                yield from ((a, b, language) for a, b in zip(written, learned, strict=True))


def test_the_documented_table_is_what_happens():
    rows = list(documented())
    assert len(rows) > 45
    assert [(a, plain(a, language)) for a, _, language in rows] == [(a, b) for a, b, _ in rows]


@pytest.mark.parametrize("normalize", [plain, plain_upper])
def test_plain_is_composed_idempotent_trimmed_and_works_word_by_word(normalize: typing.Callable[[str], str]):
    """On 4000 random mixtures of what the rules look at: letters, marks, joiners, quotes, dots, spaces."""
    signs = [*"abliInshΣςßİıéŀ·•'’`\".,…-5२אבג׳״ŉﬁ゛か්නശ്നാʼԱ՞❤ \n", "\u0301", "\u05b0", "\u200b", "\u200c", "\u200d",
             "\u00ad", "\ufe0f"]  # fmt: skip
    rng = random.Random(0)
    for _ in range(4000):
        text = "".join(rng.choices(signs, k=rng.randint(1, 12)))
        result = normalize(text)
        assert unicodedata.is_normalized("NFC", result), ascii(text)
        assert normalize(result) == result, ascii(text)
        assert result == " ".join(result.split(" ")).strip(), ascii(text)
        assert result == collapse_spaces(" ".join(map(normalize, text.split()))), ascii(text)


def test_plain_upper_is_plain_in_capitals():
    assert plain_upper("Don't—ask! Straße ʻokina") == "DON'T ASK STRASSE ʻOKINA"


def test_every_normalizer_has_its_option_and_every_option_its_normalizer():
    hints = typing.get_type_hints(CorpusConfig)
    assert set(typing.get_args(hints["normalizer"])) == set(NORMALIZERS)


@pytest.mark.parametrize(
    ("name", "language", "expected"),
    [
        ("plain", "", "istanbul işik"), ("plain", "tr", "istanbul ışık"), ("plain", "de", "istanbul işik"),
        ("plain-upper", "", "ISTANBUL IŞIK"), ("plain-upper", "az", "İSTANBUL IŞIK"),
        ("hf-timit", "tr", "i\u0307stanbul işik "),
    ],
)  # fmt: skip
def test_normalizer_by_name_knows_the_language(name: str, language: str, expected: str):
    assert normalizer(name, language)("İstanbul IŞIK") == expected


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("don\x92t", "U+0092"), ("a\x00b", "U+0000"), ("a\ud800b", "U+D800"),
        ("caf\ufffd", "U+FFFD"), ("\ue000", "U+E000"), ("a\uf8ffb", "U+F8FF"), ("\U000f0000", "U+F0000"),
        ("\U0010fffd", "U+10FFFD"), ("\ufffe", "U+FFFE"), ("\ufdd0", "U+FDD0"), ("\U0001ffff", "U+1FFFF"),
        ("two\twords\r\n", ""), ("é…’ \u200b\u00ad\ufeff❤️", ""), ("\ufffc", ""), ("", ""),
    ],
)  # fmt: skip
def test_impossible_characters_are_found(text: str, found: str):
    assert impossible_character(text) == found


def test_impossible_characters_are_those_of_unicodes_categories():
    """Reference: unicodedata: Cc but white space, Cs, Co; and U+FFFD, and the 66 noncharacters."""
    tried = [*range(0x3100), *range(0xD700, 0x11000), *(edge + i for edge in range(0x1FF00, 0x10FFFF, 0x10000)
                                                        for i in range(0x200))]  # fmt: skip
    tried = [code for code in tried if code < 0x110000]
    found = {code for code in tried if impossible_character(chr(code))}
    categories = {code: unicodedata.category(chr(code)) for code in tried}
    assert found - {0xFFFD} == {
        code for code, category in categories.items()
        if category in ("Cs", "Co") or (category == "Cc" and not chr(code).isspace())
    } | {plane + last for plane in range(0, 0x110000, 0x10000) for last in (0xFFFE, 0xFFFF)} | set(
        range(0xFDD0, 0xFDF0)
    )  # fmt: skip


def test_ids_may_hold_what_transcripts_may_not_but_no_control_character():
    assert control_character("rec\uf022one\ufffd.wav") == ""
    assert control_character("rec\x1b[2J") == "U+001B"


@pytest.mark.parametrize(
    ("text", "expected"), [("a  b", "a b"), (" a b ", "a b"), ("a\tb\n", "a b"), (" ", ""), ("", ""), ("ab", "ab")]
)
def test_collapsed_text_has_single_spaces_and_none_at_its_ends(text: str, expected: str):
    assert collapse_spaces(text) == expected
