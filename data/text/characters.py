"""What becomes of every character of a transcript: it stays, becomes another, becomes a space, or goes.

The rule is Unicode's general category; where that does not tell what a sign does inside a word, Unicode's word
boundaries (UAX 29) or the script's own spelling does, and the sign is listed here by name.
"""

from __future__ import annotations

import unicodedata

APOSTROPHES = "'’‘‛`´′＇՚׳\u1fbd\u1fbf"
"""What people write for an apostrophe: quotes, accents, the prime; Armenian, Hebrew (geresh), polytonic Greek.

U+02BB, U+02BC and U+A78C are no apostrophes but letters (Hawaiian, Uzbek, Navajo): they stay."""

MIDDLE_DOT = "·"
JOINERS = "\u200c\u200d"

_GIVEN = {
    **dict.fromkeys(APOSTROPHES, "'"),
    **dict.fromkeys([MIDDLE_DOT, *JOINERS], None),  # they depend on their neighbours: see normalise.plain
    "\u200b": " ",  # zero width space: the word boundary of Khmer, Thai and Lao, though its category is Cf
    "\u0640": "",  # Arabic tatweel and N'Ko lajanyalan are letters by category, and only stretch a line
    "\u07fa": "",
    # Armenian signs of emphasis, exclamation, question and abbreviation stand inside a word, above its vowel
    **dict.fromkeys("՛՜՞՟", ""),
    # Kana with a voicing mark typed behind it
    "\u309b": "\u3099",
    "\u309c": "\u309a",
    "ŉ": "'n",  # Afrikaans, in one code point that Unicode deprecates
    # Signs of Burmese (locative, completed, aforementioned, genitive) and its neighbours that are read aloud as words
    **dict.fromkeys("၌၍၎၏႞႟᧞᧟꩷꩸꩹", None),
}
"""Signs by name: what each becomes, None for itself."""

_OTHER_SHAPE = ("<wide>", "<narrow>", "<font>", "<initial>", "<medial>", "<final>", "<isolated>")
_LIGATURES = frozenset(
    chr(code)
    for first, last in [
        (0xFB00, 0xFB06),  # ff, fi, ...
        (0xFB13, 0xFB17),  # Armenian
        (0x0132, 0x0133),  # Dutch ij
        (0x013F, 0x0140),  # Catalan l with middle dot
        (0x01C4, 0x01CC),  # Croatian dž, lj, nj
        (0x01F1, 0x01F3),  # dz
        (0x2E9F, 0x2E9F),  # radicals that stand for characters in text copied from PDF files
        (0x2EF3, 0x2EF3),
        (0x2F00, 0x2FD5),
    ]
    for code in range(first, last + 1)
)


def _is_ignorable(code: int) -> bool:
    """Invisible by definition (Default_Ignorable_Code_Point), though its category is a letter's or a mark's."""
    return (
        code in (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180F, 0x3164, 0xFFA0)  # joiner, fillers, inherent vowels
        or 0x180B <= code <= 0x180D  # Mongolian variation selectors
        or 0xFE00 <= code <= 0xFE0F  # variation selectors: the one behind an emoji, say
        or 0xE0100 <= code <= 0xE01EF
    )


def becomes(character: str) -> str:
    """What stands for `character` (one code point) in a plain transcript: itself, others, a space, or nothing.

    >>> [becomes(c) for c in "é…’ﬁ\\u00ad"]
    ['é', ' ', "'", 'fi', '']
    """
    if character in _GIVEN:
        given = _GIVEN[character]
        return character if given is None else given
    if character in _LIGATURES or unicodedata.decomposition(character).startswith(_OTHER_SHAPE):
        return "".join(map(becomes, unicodedata.normalize("NFKC", character)))
    category = unicodedata.category(character)
    if _is_ignorable(ord(character)) or category == "Me":  # an enclosing mark: the keycap of an emoji
        return ""
    if category[0] in "LMN" or _is_modifier_letter(character, category):
        return character
    if character.isspace() or category[0] in "PSZ" or category == "Cn":
        return " "
    return ""  # Cf: soft hyphen, signs of direction; controls and surrogates, which are refused before


def _is_modifier_letter(character: str, category: str) -> bool:
    """Tone letters and the like: symbols (Sk) by category, letters by name, use and UAX 29.

    The spacing accents (^ ¨ ˘) and the skin tones of emoji are Sk too.
    """
    name = unicodedata.name(character, "") if category == "Sk" else ""
    return name.startswith("MODIFIER LETTER") or name == "MODIFIER BREVE WITH INVERTED BREVE"


class _Table(dict[int, str]):
    """For str.translate: filled as characters are met."""

    def __missing__(self, code: int) -> str:
        self[code] = becomes(chr(code))
        return self[code]


TABLE = _Table()
