"""How normalised text is spelled in a checkpoint's units: capitals or not, composed or decomposed.

A checkpoint that somebody else fine-tuned was trained on text of its own making: capitals (wav2vec 2.0 on
LibriSpeech), letters and accents apart (Unicode's NFD, as some Vietnamese vocabularies are), Korean syllables taken
apart into letters. `CANDIDATES` are tried on the references: see trainer.prepare.vocabulary.spelled.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from data.text.casing import upper

Case = Literal["", "upper", "lower"]
Form = Literal["", "nfc", "nfd", "jamo"]


@dataclass(frozen=True)
class Spelling:
    """Case first, then Unicode's form; "" leaves the text as it is."""

    case: Case = ""
    form: Form = ""

    @property
    def name(self) -> str:
        """As --corpus.spelling names it.

        >>> Spelling().name, Spelling("upper", "nfd").name
        ('as-is', 'upper-nfd')
        """
        return "-".join(part for part in (self.case, self.form) if part) or "as-is"

    def describe(self) -> str:
        """In words, for a sentence that begins "text is written ..."."""
        case = {"": "", "upper": "in capitals", "lower": "in lower case"}[self.case]
        form = {
            "": "",
            "nfc": "with composed characters (NFC)",
            "nfd": "with decomposed characters (NFD)",
            "jamo": "with Korean syllables as single letters",
        }[self.form]
        return ", ".join(part for part in (case, form) if part) or "as it is"

    def spell(self, text: str, units: Collection[str]) -> str:
        """`text` as a vocabulary of `units` has it.

        >>> Spelling("upper").spell("straße", set("AERST")), Spelling("upper").spell("straße", set("AERSTß"))
        ('STRASSE', 'STRAßE')
        """
        if self.case == "upper":
            text = _upper(text, units)
        elif self.case == "lower":
            text = _lower(text, units)
        if self.form:
            text = unicodedata.normalize("NFC" if self.form == "nfc" else "NFD", text)
        return text.translate(_letters_of_jamo()) if self.form == "jamo" else text


AS_IS = Spelling()
_FORMS: tuple[Form, ...] = ("", "nfc", "nfd", "jamo")
_CASES: tuple[Case, ...] = ("", "upper", "lower")
CANDIDATES = tuple(Spelling(case, form) for form, case in itertools.product(_FORMS, _CASES))
"""In the order of preference among those that spell a text alike: the fewest changes first."""
BY_NAME = {spelling.name: spelling for spelling in CANDIDATES}


def _upper(text: str, units: Collection[str]) -> str:
    """Capitals. A letter that becomes two (the German sharp s) stays where the vocabulary has it, or its capital."""
    if "ẞ" in units:
        text = text.replace("ß", "ẞ")
    language = _language(units)
    return "".join(c if len(c.upper()) > 1 and c in units else upper(c, language) for c in text)


def _lower(text: str, units: Collection[str]) -> str:
    if _language(units):
        text = text.replace("I", "ı")
    return text.replace("İ", "i").lower()  # not data.text.casing's, which composes: that is the form's part


def _language(units: Collection[str]) -> str:
    """Whose rules of case hold: only Turkish and its relatives have a dotted capital I and a dotless small one."""
    return "tr" if "İ" in units or "ı" in units else ""


@functools.cache
def _letters_of_jamo() -> dict[int, str]:
    """From the letters inside a syllable (U+1100 to U+11FF, what NFD gives) to those that stand alone (U+3131 on)."""
    letters: dict[int, str] = {}
    for code in range(0x1100, 0x1200):
        role, _, letter = unicodedata.name(chr(code), "").removeprefix("HANGUL ").partition(" ")
        if role in ("CHOSEONG", "JUNGSEONG", "JONGSEONG"):
            with contextlib.suppress(KeyError):  # letters of older Korean, some of which never stand alone
                letters[code] = unicodedata.lookup(f"HANGUL LETTER {letter}")
    return letters
