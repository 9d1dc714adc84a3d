"""Transcripts that break their corpus's own habits: digits where the rest spells numbers, capitals, markup, mojibake.

What a habit is, is learned by counting: a thing that more than one transcript in twenty does is no sign. Transcripts
are looked at as the corpus wrote them; what the normaliser undoes is no more than possible.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from data.examples.example import Example
from data.text.normalise import collapse_spaces
from trainer.signs.sign import Certainty, Sign

RARE, VERY_RARE = 0.05, 0.01
"""Shares of the transcripts: what more than the first do is a habit; what at most the second do is likely wrong."""
AT_LEAST = 2
"""Transcripts that may do a thing, however small the corpus is, for it to be rare."""
ENOUGH = 20
"""Transcripts from which on a habit is known."""
RARE_UNIT, FEW_FOR_UNITS = 1 / 2000, 100
"""Share of the transcripts that have it: it is hardly learned. One transcript alone is as rare, among so many."""
MOST_NAMED = 3
"""Units that a sign names, and utterances that have one."""
MOST_SHOWN = 40
"""Characters of a transcript that a sign cites."""

MARKUP = re.compile(
    r"<[^<>\s][^<>]{0,39}>|\[[^\[\]\s][^\[\]]{0,39}\]|\{[^{}\s][^{}]{0,39}\}|&#?\w{2,8};|\+\+\w+\+\+|(?<!\S)%\w+|\*\*|\(\("
)
NO_VALUES = frozenset(["nan", "NaN", "None", "null", "NULL", "undefined", "N/A", "#N/A", "<NA>", "NA"])
"""What programs write for a text that is not there. Each may also be what was said."""
PLAIN = re.compile(r"[a-z']+(?: [a-z']+)*")
"""Most transcripts: nothing to look for in them but their length."""
Find = Callable[[str], "str | None"]
"""What of a transcript is of a kind, or None."""


def _first(pattern: str) -> Find:
    compiled = re.compile(pattern)

    def find(text: str) -> str | None:
        match = compiled.search(text)
        return match[0] if match else None

    return find


def _is_plain(text: str) -> bool:
    return PLAIN.fullmatch(text) is not None and text not in NO_VALUES


def _mojibake(text: str) -> str | None:
    """A word that is UTF-8 read as another encoding: written in that encoding, its bytes are UTF-8."""
    if text.isascii():
        return None
    for word in text.split():
        if "\ufffd" in word:
            return word
        for encoding in ("cp1252", "latin-1", "cp1251"):
            if _is_misread(word, encoding):
                return word
    return None


@lru_cache(10_000)
def _is_misread(word: str, encoding: str) -> bool:
    try:
        meant = word.encode(encoding).decode("utf-8")
    except UnicodeError:
        return False
    return len(meant) < len(word) and all(c.isprintable() for c in meant)


SCRIPTS = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE")
"""With letters that look the same in another of them."""


@lru_cache(10_000)
def _script(character: str) -> str:
    """The first word of a letter's name in Unicode: LATIN, CYRILLIC, CJK ...; "" for what is no letter."""
    if not character.isalpha():
        return ""
    words = unicodedata.name(character, "").split()
    if words[:1] in (["HIRAGANA"], ["KATAKANA"], ["KATAKANA-HIRAGANA"]):
        return "CJK"  # Japanese is written in all three
    return "LATIN" if "LATIN" in words else words[0] if words else ""


def _mixed_word(text: str) -> str | None:
    """A word with letters of two scripts that look alike."""
    if text.isascii():
        return None
    for word in text.split():
        if len({s for c in word if (s := _script(c)) in SCRIPTS}) > 1:
            return word
    return None


def _invisible(text: str) -> str | None:
    if text.isascii():
        return None
    for character in text:
        if unicodedata.category(character) in ("Cf", "Cc", "Co", "Zl", "Zp"):
            return f"U+{ord(character):04X}"
    return None


def _spaces(text: str) -> str | None:
    if text == collapse_spaces(text):
        return None
    return "spaces at an end, or several" if text.split(" ") != text.split() else "a space that is none of the usual"


def _unbalanced(text: str) -> str | None:
    for opening, closing in ("()", "[]", "{}", "«»", "“”"):
        if opening == "“" and "„" in text:
            continue  # „German“ quotes close with the sign that opens English ones
        if text.count(opening) != text.count(closing):
            return opening if text.count(opening) else closing
    return '"' if text.count('"') % 2 else None


def _case(text: str) -> str:
    """upper, lower, or mixed; "" where no letter has a case."""
    if text == text.lower():
        return "lower" if text != text.upper() else ""
    return "upper" if text == text.upper() and sum(map(str.isalpha, text)) > 1 else "mixed"


@dataclass(frozen=True)
class Kind:
    """A thing that a transcript may do."""

    name: str
    find: Find
    is_wrong: bool = False
    """In whatever corpus: it is certain where it is rare."""
    is_harmless: bool = False
    """A normaliser undoes it, or it matters to nobody but the reader: never more than possible."""


KINDS = (
    Kind("mojibake", _mojibake, is_wrong=True),
    Kind("no value", lambda text: text.strip() if text.strip() in NO_VALUES else None, is_harmless=True),
    Kind("mixed scripts", _mixed_word),
    Kind("markup", lambda text: match[0] if (match := MARKUP.search(text)) else None),
    Kind("time stamp", _first(r"(?<!\d)\d{1,2}:\d{2}(?::\d{2})?(?:[.,]\d+)?(?!\d)")),
    Kind("address", _first(r"https?://\S+|www\.\S+|\S+@\S+\.\S+")),
    Kind("digits", _first(r"\d[\d.,:]*")),
    Kind("invisible characters", _invisible, is_harmless=True),
    Kind("unbalanced quotes", _unbalanced, is_harmless=True),
    Kind("odd spaces", _spaces, is_harmless=True),
)


class Habits:
    """How often the transcripts of `examples` do what."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.num = len(examples)
        self.counts: Counter[str] = Counter()
        self.cases: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
        """By whether the transcripts are normalised."""
        self.scripts: Counter[str] = Counter()
        """Transcripts by the script that most of their letters have."""
        self.ends: Counter[bool] = Counter()
        """Transcripts by whether they end in punctuation."""
        self.units: Counter[str] = Counter()
        """Transcripts, normalised, that have it."""
        self.with_unit: dict[str, list[str]] = {}
        """The first utterances that have it."""
        for example in examples:
            text = example.utterance.text
            units = _units(example)
            self.units.update(units)
            for unit in units:
                if self.units[unit] <= MOST_NAMED:
                    self.with_unit.setdefault(unit, []).append(example.utterance.id)
            self.cases[True][_case(example.text)] += 1
            if _is_plain(text):
                self.cases[False]["lower"] += 1
                self.scripts["LATIN"] += 1
                self.ends[False] += 1
                continue
            self.cases[False][_case(text)] += 1
            self.scripts[_main_script(text)] += 1
            self.ends[_ends_in_punctuation(text)] += 1
            self.counts.update(kind.name for kind in KINDS if kind.find(text) is not None)
        most = max(1, self.num * RARE_UNIT) if self.num >= FEW_FOR_UNITS else 0
        rare = {unit: count for unit, count in self.units.items() if count <= most}
        # where many transcripts have one, as in languages with thousands of characters, it is how the language is
        self.rare_units = rare if sum(rare.values()) <= max(AT_LEAST, RARE * self.num) else {}

    def signs(self, example: Example) -> Iterator[Sign]:
        """Of one of those examples."""
        if self.num < ENOUGH:
            return
        text = example.utterance.text
        if not _is_plain(text):
            for kind in KINDS:
                certainty = self._certainty(self.counts[kind.name])
                if certainty and (found := kind.find(text)) is not None:
                    certainty = "certain" if kind.is_wrong else "possible" if kind.is_harmless else certainty
                    what = f"{found[:MOST_SHOWN]!r} stands in {self._few(self.counts[kind.name])}"
                    yield Sign(kind.name, what, certainty)
        yield from self._case(example)
        script = _main_script(text)
        if script and (certainty := self._certainty(self.scripts[script])):
            usual = self.scripts.most_common(1)[0][0].capitalize()
            what = f"{script.capitalize()} letters, as in {self._few(self.scripts[script])}; {usual} ones are usual"
            yield Sign("another script", what, certainty)
        ends = _ends_in_punctuation(text)
        if self._certainty(self.ends[ends]):
            what = f"ends {'in' if ends else 'without'} punctuation, as {self._few(self.ends[ends])}"
            yield Sign("punctuation", what, "possible")
        rare = sorted(self.rare_units.keys() & _units(example)) if self.rare_units else []
        told = []
        for unit in rare[:MOST_NAMED]:
            others = [other for other in self.with_unit[unit] if other != example.utterance.id]
            where = f", also in {', '.join(others)}" if others else ""
            told.append(f"{unit!r} stands in {self._few(self.rare_units[unit])}{where}")
        if told:
            yield Sign("rare unit", "; ".join(told), "possible")

    def _case(self, example: Example) -> Iterator[Sign]:
        for is_learned, text in ((True, example.text), (False, example.utterance.text)):
            case, cases = _case(text), self.cases[is_learned]
            usual = max(("lower", "upper", "mixed"), key=cases.__getitem__)
            certainty = self._certainty(cases[case]) if case else None
            if certainty and case != usual:
                what = f"in {case} case, as {self._few(cases[case])}; {usual} is usual"
                yield Sign("case", what, certainty if is_learned else "possible")
                return

    def _certainty(self, count: int) -> Certainty | None:
        """How sure a thing is a fault that so many transcripts do; None where it is a habit."""
        if count > max(AT_LEAST, RARE * self.num):
            return None
        return "likely" if count <= max(AT_LEAST, VERY_RARE * self.num) else "possible"

    def _few(self, count: int) -> str:
        return f"{count} of {self.num} transcripts"


def _units(example: Example) -> set[str]:
    """The characters of the normalised transcript, or its phones where it consists of them."""
    words = example.text.split()
    return set(words if len(words) == len(example.targets) else example.text)


def _main_script(text: str) -> str:
    """The script of most letters; "" where there are none."""
    if text.isascii():
        return "LATIN" if any(map(str.isalpha, text)) else ""
    scripts = Counter(map(_script, text))
    del scripts[""]
    return scripts.most_common(1)[0][0] if scripts else ""


def _ends_in_punctuation(text: str) -> bool:
    return unicodedata.category(text.rstrip()[-1])[0] == "P" if text.rstrip() else False
