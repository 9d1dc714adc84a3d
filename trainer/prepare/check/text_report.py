"""What normalising did to the training transcripts, for `--check`: which characters went, and what is learned instead.

Transcripts are compared before and after, word by word. Nothing here knows a normaliser's rules, so what is told
holds for each of them.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from data.examples.prepare import Example
from data.text.vocab import Vocab
from trainer.scoring.alignment import Edit, align_characters

Fate = Literal["dropped", "split", "joined", "mapped"]
MEANING: dict[Fate, str] = {
    "dropped": "gone from the edge of a word",
    "split": "a space inside a word",
    "joined": "gone from inside a word",
    "mapped": "another character",
}
RARE = 5
"""A unit seen less often is hardly learned."""
MOST_SHOWN = 8
"""Characters and units that a line names."""
MOST_OF_A_TRANSCRIPT = 200
"""Characters of it that are shown."""
MARKUP = re.compile(r"<[^<>\s][^<>]{0,39}>|\[[^\[\]\s][^\[\]]{0,39}\]|&#?\w{2,8};")
"""Tags of noises and speakers, entities of HTML: a normaliser takes their words for speech."""
UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
"""Scripts that put no spaces between words, as the names of their letters in Unicode begin."""
LONGEST_WORD = 6
"""Characters that a word of such a script has on the average at most, where spaces were put between words."""
APOSTROPHES = "'ʼʻꞌ"
"""Units that are hard to tell apart, and stand for each other in many texts."""


class Change(NamedTuple):
    """What became of a character; `after` is what it was mapped to, else empty."""

    fate: Fate
    before: str
    after: str = ""


@dataclass
class Changes:
    """What normalising changed in some transcripts."""

    counts: Counter[Change] = field(default_factory=Counter)
    words: dict[Change, tuple[str, str]] = field(default_factory=dict)
    """A word in which it happened, as written and as learned."""
    num_case: int = 0
    """Characters of which the case alone changed."""
    num_composed: int = 0
    """Words that were not in Unicode's composed form (NFC), and are now."""
    of_word: dict[str, int] = field(default_factory=dict)
    """How many characters of a word as written changed, case aside; words without a change are not held."""


def find_changes(texts: Sequence[str], normalize: Callable[[str], str]) -> Changes:
    """What `normalize` did to each character of `texts`, white space aside."""
    words: Counter[str] = Counter()
    for text in texts:
        words.update(text.split())
    changes = Changes()
    for as_written, count in words.items():
        learned, written = normalize(as_written).strip(), as_written
        if unicodedata.is_normalized("NFC", learned):
            written = unicodedata.normalize("NFC", as_written)
            changes.num_composed += count * (written != as_written)
        if written == learned:
            continue
        for change, is_case in _compare(written, learned):
            if is_case:
                changes.num_case += count
                continue
            changes.counts[change] += count
            changes.words.setdefault(change, (written, learned))
            changes.of_word[as_written] = changes.of_word.get(as_written, 0) + 1
    return changes


def _compare(written: str, learned: str) -> Iterator[tuple[Change, bool]]:
    """Every change of a word, and whether it is one of case alone."""
    a, b = _folded(written), _folded(learned)
    start = a.find(b)
    if start >= 0:  # most words lose something at their ends alone
        edits = [Edit("deletion", c, "") for c in written[:start]]
        edits += [Edit("hit", x, y) for x, y in zip(written[start:], learned, strict=False)]
        edits += [Edit("deletion", c, "") for c in written[start + len(b) :]]
    else:
        left, right = iter(written), iter(learned)
        edits = [
            Edit(e.kind, next(left) if e.reference else "", next(right) if e.hypothesis else "")
            for e in align_characters(a, b)
        ]
    block: list[Edit] = []
    at_start = True
    for edit in edits:
        if edit.kind != "hit":
            block.append(edit)
            continue
        if block:
            yield from ((change, False) for change in _fates(block, at_edge=at_start))
            block = []
        at_start = False
        if edit.reference != edit.hypothesis:
            yield Change("mapped", edit.reference, edit.hypothesis), True
    yield from ((change, False) for change in _fates(block, at_edge=True))


def _folded(word: str) -> str:
    """`word` without case, a character for a character."""
    folded = word.casefold()
    if len(folded) == len(word):  # no character folds to none, so each folds to one
        return folded
    return "".join(f if len(f := c.casefold()) == 1 else c for c in word)


def _fates(block: Sequence[Edit], *, at_edge: bool) -> Iterator[Change]:
    """The changes of neighbouring characters, between two that stayed or (`at_edge`) beside one."""
    before, after = "".join(e.reference for e in block), "".join(e.hypothesis for e in block)
    if len(before) == 1 and after.strip():
        yield Change("mapped", before, after)
        return
    for edit in block:
        if not edit.reference:
            continue
        if edit.hypothesis.strip():
            yield Change("mapped", edit.reference, edit.hypothesis)
        elif " " in after:
            yield Change("split", edit.reference)
        else:
            yield Change("dropped" if at_edge else "joined", edit.reference)


def describe_text(examples: Sequence[Example], normalize: Callable[[str], str], vocab: Vocab) -> list[str]:
    """Lines for the terminal: what normalising did, which units are rare, three transcripts before and after."""
    texts = [e.utterance.text for e in examples]
    changes = find_changes(texts, normalize)
    total = sum(map(len, texts))
    facts = [f"{sum(n for c, n in changes.counts.items() if c.fate == fate):,} {fate}" for fate in MEANING]
    facts.append(f"{changes.num_case:,} changed in case")
    if changes.num_composed:
        facts.append(f"{changes.num_composed:,} words composed (NFC)")
    lines = [f"text:      of {total:,} characters {', '.join(facts)}"]
    lines += [_describe_fate(fate, changes) for fate in MEANING if any(c.fate == fate for c in changes.counts)]
    if not vocab.phonemes:  # a unit may be called <sp>
        lines += _describe_markup(texts, normalize)
        lines += _describe_spaces([e.text for e in examples])
    lines += _describe_units(examples, vocab)
    return lines + [line for e in _shown(examples, changes) for line in _before_and_after(e, vocab)]


def _describe_fate(fate: Fate, changes: Changes) -> str:
    ranked = sorted(((c, n) for c, n in changes.counts.items() if c.fate == fate), key=lambda item: (-item[1], item[0]))
    shown = []
    for change, count in ranked[:MOST_SHOWN]:
        became = f" to {_quoted(change.after)}" if change.after else ""
        written, learned = map(_visible, changes.words[change])
        shown.append(f"{_quoted(change.before)}{became} {count:,} ({_cut(written, 24)} -> {_cut(learned, 24)})")
    more = f", {len(ranked) - MOST_SHOWN} more kinds" if len(ranked) > MOST_SHOWN else ""
    return f"{fate + ':':10} {MEANING[fate]}: {', '.join(shown)}{more}"


def _describe_markup(texts: Sequence[str], normalize: Callable[[str], str]) -> list[str]:
    found = Counter(tag for text in texts for tag in MARKUP.findall(text))
    learned = Counter({tag: n for tag, n in found.items() if normalize(tag).strip()})
    if not learned:
        return []
    shown = ", ".join(f"{_visible(tag)} {n:,}" for tag, n in learned.most_common(MOST_SHOWN))
    return [
        f"markup:    {learned.total():,} tags or entities are learned as if they were spoken: {shown}. "
        "Take them out of the transcripts if they are not"
    ]


def _describe_spaces(texts: Sequence[str]) -> list[str]:
    """A line where a "word" is a phrase or a whole transcript, since its script puts no spaces between words."""
    characters: Counter[str] = Counter()
    for text in texts:
        characters.update(text)
    letters = {c: n for c, n in characters.items() if c.isalpha()}
    unspaced = sum(n for c, n in letters.items() if unicodedata.name(c, "").startswith(UNSPACED))
    num_letters, num_words = sum(letters.values()), sum(len(text.split()) for text in texts)
    are_phrases = num_letters > LONGEST_WORD * num_words or 2 * num_words < 3 * len(texts)
    if 2 * unspaced <= num_letters or not are_phrases:
        return []
    return [
        "words:     the transcripts have no spaces between words, so a phrase is taken for one, and WER counts phrases "
        "with an error. Read the CER; or write a space after each character or syllable and give --corpus.units spaced"
    ]


def _describe_units(examples: Sequence[Example], vocab: Vocab) -> list[str]:
    ids: Counter[int] = Counter()
    for example in examples:
        ids.update(example.targets)
    seen = {vocab.tokens[i]: n for i, n in ids.items() if vocab.tokens[i] not in vocab.special.values()}
    rare = sorted(((n, unit) for unit, n in seen.items() if n < RARE))
    line = f"units:     each of {len(seen)} is seen at least {RARE} times in training"
    if rare:
        shown = ", ".join(f"{_quoted(unit)} {n} ({_where(unit, examples, vocab)})" for n, unit in rare[:MOST_SHOWN])
        more = f", {len(rare) - MOST_SHOWN} more" if len(rare) > MOST_SHOWN else ""
        line = f"units:     {len(rare)} of {len(seen)} are seen fewer than {RARE} times in training: {shown}{more}"
    lines = [line]
    alike = [unit for unit in APOSTROPHES if unit in seen]
    if len(alike) > 1:
        shown = ", ".join(f"{_quoted(unit)} (U+{ord(unit):04X}) {seen[unit]:,}" for unit in alike)
        lines.append(f"units:     several apostrophes are learned apart: {shown}. Write one if they are the same sign")
    return lines


def _where(unit: str, examples: Sequence[Example], vocab: Vocab) -> str:
    number = vocab.tokens.index(unit)
    return next(e.utterance.id for e in examples if number in e.targets)


def _shown(examples: Sequence[Example], changes: Changes) -> list[Example]:
    """Up to three: the first, the middle one, and of the others that in which most changed (the first of equals)."""
    chosen = sorted({0, len(examples) // 2})

    def num_changes(i: int) -> int:
        return sum(changes.of_word.get(word, 0) for word in examples[i].utterance.text.split())

    others = [i for i in range(len(examples)) if i not in chosen]
    if others:
        chosen.append(max(others, key=num_changes))
    return [examples[i] for i in chosen]


def _before_and_after(example: Example, vocab: Vocab) -> list[str]:
    written, learned = example.utterance.text, vocab.decode(example.targets)
    return [
        f"written:   {example.utterance.id}: {_cut(_visible(written))}",
        f"learned:   {'as written' if learned == written else _cut(_visible(learned))}",
    ]


def _visible(text: str) -> str:
    """`text` with what leaves no ink, or has nothing to stand on, as <U+XXXX>.

    >>> _visible("co\\u00adop"), _visible("\\u0301")
    ('co<U+00AD>op', '<U+0301>')
    """
    shown = "".join(c if c.isprintable() or c == " " else f"<U+{ord(c):04X}>" for c in text)
    if shown and unicodedata.category(shown[0])[0] == "M":
        shown = f"<U+{ord(shown[0]):04X}>{shown[1:]}"
    return shown


def _quoted(text: str) -> str:
    shown = _visible(text)
    return shown if shown.startswith("<U+") else f"'{shown}'" if "'" not in shown else f'"{shown}"'


def _cut(text: str, most: int = MOST_OF_A_TRANSCRIPT) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
