"""data.text.characters: what becomes of every code point, against Unicode's own categories and names (unicodedata)."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from data.text.characters import APOSTROPHES, JOINERS, MIDDLE_DOT, becomes
from data.text.normalise import plain

# Planes 0 and 1 but most of Han and Hangul, and the tags and selectors of plane 14
BLOCKS = [(0, 0x4E80), (0x9F00, 0xAC80), (0xD700, 0xD800), (0xE000, 0x17080), (0x18A80, 0x20000), (0xE0000, 0xE0200)]
EVERY_CHARACTER = [chr(code) for first, end in BLOCKS for code in range(first, end)]
# Exceptions to the categories, each for a reason of its script's (docs/howto-own-data.md)
ARMENIAN_INSIDE_WORDS = "՛՜՞՟"
SPOKEN_SIGNS = "၌၍၎၏႞႟᧞᧟꩷꩸꩹"
STRETCHES = "\u0640\u07fa"
VOICING = "\u309b\u309c"
OTHER_SHAPES = ("<wide>", "<narrow>", "<font>", "<initial>", "<medial>", "<final>", "<isolated>")
# Default_Ignorable_Code_Point of DerivedCoreProperties.txt, those that are not Cf or unassigned
IGNORABLE = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x3164, 0xFFA0,
             *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)}  # fmt: skip


def of(*categories: str, but: str = "") -> Iterator[str]:
    """Every character of these general categories that is not another's shape."""
    for c in EVERY_CHARACTER:
        is_another = unicodedata.decomposition(c).startswith(OTHER_SHAPES)
        if unicodedata.category(c) in categories and not is_another and c not in but and ord(c) not in IGNORABLE:
            yield c


def test_punctuation_and_symbols_become_spaces():
    kept = APOSTROPHES + MIDDLE_DOT + ARMENIAN_INSIDE_WORDS + SPOKEN_SIGNS + VOICING
    for c in of("Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "So", but=kept):
        radical = unicodedata.name(c).startswith(
            ("KANGXI RADICAL", "CJK RADICAL MOTHER", "CJK RADICAL C-SIMPLIFIED TU")
        )
        assert becomes(c) == (unicodedata.normalize("NFKC", c) if radical else " "), f"U+{ord(c):04X}"


def test_every_dash_of_unicode_separates_words():
    """Reference: category Pd, and what has MINUS SIGN, HYPHEN or DASH in its name; modifier letters and marks aside."""
    dashes = [c for c in EVERY_CHARACTER if unicodedata.category(c) == "Pd"]
    dashes += [c for c in EVERY_CHARACTER if unicodedata.category(c)[0] in "PS"
               and any(word in unicodedata.name(c, "") for word in ("MINUS SIGN", "HYPHEN", " DASH"))
               and not unicodedata.name(c).startswith("MODIFIER LETTER")]  # fmt: skip
    assert len(dashes) > 30
    for c in dashes:
        assert plain(f"well{c}known") == "well known", f"U+{ord(c):04X}"


def test_format_characters_go_and_join_but_the_zero_width_space_separates():
    for c in of("Cf", but="\u200b" + JOINERS):
        assert plain(f"a{c}b") == "ab", f"U+{ord(c):04X}"
    assert plain("a\u200bb") == "a b"
    assert plain("a\u200cb\u200dc") == "abc"


def test_letters_and_digits_stay_in_lower_case():
    for c in of("Lu", "Ll", "Lt", "Lo", "Nd", "Nl", "No", but="İI"):
        if not unicodedata.decomposition(c).startswith("<compat>") and c != "ŉ":
            expected = unicodedata.normalize("NFC", unicodedata.normalize("NFC", f"x{c}y").lower())
            assert plain(f"x{c}y") == expected, f"U+{ord(c):04X}"


def test_modifier_letters_and_tone_letters_stay():
    """Reference: category Lm, and Sk by name (tone letters, rhotic hook); the spacing accents and skin tones go."""
    for c in of("Lm", but=STRETCHES):
        assert plain(f"a{c} {c}a") == unicodedata.normalize("NFC", f"a{c} {c}a"), f"U+{ord(c):04X}"
    assert {plain(f"a{c}b") for c in STRETCHES} == {"ab"}
    for c in of("Sk", but=APOSTROPHES + VOICING):
        is_letter = "MODIFIER LETTER" in unicodedata.name(c) or c == "\uab5b"
        if unicodedata.normalize("NFC", c) not in APOSTROPHES:
            assert plain(f"a{c}b") == (f"a{c}b" if is_letter else "a b"), f"U+{ord(c):04X}"


def test_marks_stay_on_letters_and_go_without_one():
    for c in of("Mn", "Mc"):
        assert plain(f"ክ{c}") == unicodedata.normalize("NFC", f"ክ{c}"), f"U+{ord(c):04X}"
        assert plain(f"! {c}") == "", f"U+{ord(c):04X}"
    for c in of("Me"):
        assert plain(f"5{c}") == "5"


def test_invisible_letters_and_marks_go():
    for code in IGNORABLE:
        assert plain(f"a{chr(code)}b") == "ab", f"U+{code:04X}"


def test_what_is_another_shape_of_a_letter_becomes_the_letter():
    """Reference: NFKC, for wide, narrow, mathematical and Arabic presentation forms and ligatures."""
    for c in EVERY_CHARACTER:
        if unicodedata.decomposition(c).startswith(OTHER_SHAPES):
            assert plain(f"x{c}y") == plain("x" + unicodedata.normalize("NFKC", c) + "y"), f"U+{ord(c):04X}"
    assert [plain(c) for c in "ﬁﬄĳǈÅ℮"] == ["fi", "ffl", "ij", "lj", "å", ""]


def test_plain_is_composed_idempotent_lower_and_blind_to_decomposition_for_every_character():
    """Reference: unicodedata; between letters, so that a mark has something to combine with; 128 at a time."""
    may_stay = set("' " + SPOKEN_SIGNS + "".join(of("Sk")))
    for start in range(0, len(EVERY_CHARACTER), 128):
        where = f"from U+{ord(EVERY_CHARACTER[start]):04X}"
        text = " ".join(f"e{c}o" for c in EVERY_CHARACTER[start : start + 128])
        result = plain(text)
        assert unicodedata.is_normalized("NFC", result), where
        assert plain(result) == result, where
        assert result == unicodedata.normalize("NFC", result.lower()), where
        assert plain(unicodedata.normalize("NFD", text)) == result, where
        assert {c for c in set(result) - may_stay if unicodedata.category(c)[0] not in "LMN"} == set(), where
        assert "  " not in result
