"""The units a CTC head writes, and both ways between them and text.

A new vocabulary has characters, `|` between words, [UNK], and [PAD], which is CTC's blank. A checkpoint's own may
have anything that transformers' tokenizers have: units of several characters, phonemes, capitals, another delimiter.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from data.text.chunks import chunks_of
from data.text.phones import PhoneScoring
from data.text.spelling import AS_IS, Spelling
from trainer.errors import CorpusError

WORD_DELIMITER, UNKNOWN, BLANK = "|", "[UNK]", "[PAD]"
DEAD = ("<s>", "</s>")
"""What Hugging Face's tokenizer adds to every vocabulary; no text is written with them."""

READING = ("delimiter_text", "lower_case", "phonemes", "clean_up", "units_are")
"""Names of the fields of `Vocab` that say how units are read back to text."""


@dataclass(frozen=True)
class Vocab:
    """Tokens by id. Every column of the logits has exactly one token.

    Text is spelled (`spelling`), cut into units and encoded; units are read back as transformers' tokenizer of the
    same settings reads them. References and hypotheses are compared in one form, the one that reading gives.
    """

    tokens: tuple[str, ...]
    blank: str = BLANK
    unknown: str | None = UNKNOWN
    """None in a checkpoint's own vocabulary that has no such unit: what has no unit then has no place in targets."""
    word_delimiter: str | None = WORD_DELIMITER
    """None for phonemes, which need none, and for characters that are written without spaces."""
    delimiter_text: str = " "
    """What is written for word_delimiter (transformers' replace_word_delimiter_char)."""
    lower_case: bool = False
    """Text is lower-cased when it is read (do_lower_case), whatever case the units have."""
    phonemes: bool = False
    """Units are written with spaces between them (Wav2Vec2PhonemeCTCTokenizer): a word is one phoneme."""
    clean_up: bool = False
    """Spaces before points and English contractions are taken out (clean_up_tokenization_spaces)."""
    spelling: Spelling = AS_IS
    scoring: PhoneScoring | None = None
    """How TIMIT's phones are compared; None where text is compared as it is written."""
    units_are: str = ""
    """What units with spaces between them are, phones or others, where somebody has said it."""

    def __post_init__(self) -> None:
        if len(set(self.tokens)) != len(self.tokens):
            twice = next(token for token, count in Counter(self.tokens).items() if count > 1)
            raise CorpusError(f"Vocabulary: {twice!r} stands for two ids.")
        for role in filter(None, (self.blank, self.unknown, self.word_delimiter)):
            if role not in self.tokens:
                raise CorpusError(f"Vocabulary: {role!r} is missing from its {len(self.tokens)} tokens.")

    @classmethod
    def build(cls, texts: Iterable[str], *, bos_eos: bool = False) -> Vocab:
        """The vocabulary of normalised training `texts`, in code point order: `|` first, then [UNK], [PAD].

        `bos_eos` appends the <s> and </s> that Hugging Face's tokenizer adds and nothing ever uses. The order
        is that of its CTC example, so that ids equal the reference run's.
        """
        characters: set[str] = set()
        for some in chunks_of(texts):
            refuse_delimiter(some, WORD_DELIMITER)
            characters.update("".join(some))
        characters -= {" "}
        specials = [UNKNOWN, BLANK] + (list(DEAD) if bos_eos else [])
        return cls((WORD_DELIMITER, *sorted(characters), *specials))

    @classmethod
    def build_phones(cls, texts: Iterable[str]) -> Vocab:
        """The vocabulary of training `texts` of phones (or other units) with spaces between them: all of them, then
        [UNK], [PAD].

        There is no word delimiter: transformers' Wav2Vec2PhonemeCTCTokenizer needs none.
        """
        phones = {phone for some in chunks_of(texts) for text in some for phone in text.split()}
        return cls((*sorted(phones), UNKNOWN, BLANK), word_delimiter=None, phonemes=True)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def ids(self) -> Mapping[str, int]:
        return {token: i for i, token in enumerate(self.tokens)}

    @property
    def blank_id(self) -> int:
        return self.tokens.index(self.blank)

    @property
    def special(self) -> dict[str, str | None]:
        """The tokens of blank, unknown and word_delimiter, by role."""
        return {"blank": self.blank, "unknown": self.unknown, "word_delimiter": self.word_delimiter}

    @property
    def reading(self) -> dict[str, Any]:
        """How units are read, as far as it is not as in a new vocabulary: for a tokenizer of the same settings."""
        settings = ((f.name, getattr(self, f.name), f.default) for f in fields(self) if f.name in READING)
        return {name: value for name, value, default in settings if value != default}

    @cached_property
    def writable(self) -> frozenset[str]:
        """Tokens that text can be written with: not the blank, nor the unknown unit, nor the dead ones."""
        return frozenset(self.tokens) - {self.blank, self.unknown, *DEAD}

    def split(self, text: str) -> list[str]:
        """Normalised `text`, spelled and cut into units; what has no unit stands there too, a space for a delimiter.
        Without a delimiter there are no spaces.

        Of units of several characters the longest that begins at a place is taken, from left to right.
        """
        spelled = self.spelling.spell(text, self.writable)
        if self.phonemes:
            return spelled.split()
        if self.word_delimiter is None:
            spelled = spelled.replace(" ", "")
        return self._long_units.findall(spelled) if self._long_units else list(spelled)

    @cached_property
    def _long_units(self) -> re.Pattern[str] | None:
        long = sorted((token for token in self.writable if len(token) > 1), key=len, reverse=True)
        return re.compile("|".join([*map(re.escape, long), "."]), re.DOTALL) if long else None

    def encoder(self) -> TextEncoder:
        return TextEncoder(self)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of collapsed, blank-free `ids` exactly as transformers' tokenizer writes it, specials printed."""
        return self._read(ids, self.delimiter_text)

    def decode_to_compare(self, ids: Iterable[int]) -> str:
        """The same in the form of `to_compare`."""
        return self._in_one_form(self._read(ids, self._space))

    def to_compare(self, text: str) -> str:
        """Normalised `text` in the form in which it is scored: spelled as the units are, and read back.

        Words are separated by spaces, unless the checkpoint writes nothing between them: a visible delimiter would
        make one word of a sentence. What has no unit stays in it.
        """
        text = self.spelling.spell(text, self.writable)
        if self.phonemes:
            text = " ".join(phoneme for phoneme in text.split() if phoneme != self.word_delimiter)
        elif self._space != " ":
            text = text.replace(" ", self._space)
        return self._in_one_form(self._finish(text))

    def _read(self, ids: Iterable[int], delimiter_text: str) -> str:
        tokens = [self.tokens[i] for i in ids]
        if self.phonemes:
            return self._finish(" ".join(token for token in tokens if token != self.word_delimiter).strip())
        return self._finish("".join(delimiter_text if t == self.word_delimiter else t for t in tokens).strip())

    def _finish(self, text: str) -> str:
        text = text.lower() if self.lower_case and not self.phonemes else text
        return clean_up_spaces(text) if self.clean_up else text

    def _in_one_form(self, text: str) -> str:
        """A vocabulary that has a letter composed and decomposed may write it both ways. Phones are folded."""
        if self.scoring is not None:
            return self.scoring(text)
        return unicodedata.normalize("NFC", text) if self._has_marks and not self.spelling.form else text

    @property
    def _space(self) -> str:
        """What stands between words when they are scored."""
        if self.word_delimiter is None and not self.phonemes:
            return ""
        return " " if self.delimiter_text.strip() else self.delimiter_text

    @cached_property
    def _has_marks(self) -> bool:
        return any(unicodedata.combining(c) or "\u1160" <= c <= "\u11ff" for c in "".join(self.writable))

    def is_boundary(self, unit: int) -> bool:
        """Whether the unit stands between words."""
        return self.tokens[unit] == self.word_delimiter or not self.tokens[unit].strip()

    def unseen(self, text: str) -> Counter[str]:
        """How often each character (or phoneme) of normalised `text` has no unit of its own."""
        return Counter(piece for piece in self.split(text) if piece not in self.writable and piece != " ")

    def fits(self, texts: Sequence[str]) -> bool:
        """Whether every character of every text has a unit of its own."""
        return not any(map(self.unseen, texts))

    def refuse_delimiter(self, texts: Iterable[str]) -> None:
        """CorpusError over a text that holds the word delimiter as a character of its own."""
        if self.word_delimiter and not self.phonemes:  # phonemes have spaces around them, and so may a delimiter
            refuse_delimiter(texts, self.word_delimiter)


class TextEncoder:
    """Text to ids; keeps the table that `Vocab.ids` builds."""

    def __init__(self, vocab: Vocab) -> None:
        self._ids = {token: i for token, i in vocab.ids.items() if token in vocab.writable}
        if vocab.word_delimiter is not None:
            self._ids[" "] = vocab.ids[vocab.word_delimiter]
        self._split = vocab.split
        self._unknown = None if vocab.unknown is None else vocab.ids[vocab.unknown]

    def __call__(self, text: str) -> list[int]:
        """What has no unit becomes the unknown one, or is left out where there is none (`Vocab.unseen` counts it)."""
        ids = (self._ids.get(piece, self._unknown) for piece in self._split(text))
        return [unit for unit in ids if unit is not None]


def merges(vocab: Vocab, units: Iterable[str]) -> bool:
    """Whether the spelling of `vocab` makes one of two units, as capitals do of X-SAMPA's `s` and `S`."""
    different = {unicodedata.normalize("NFC", unit) for unit in units}
    return len({tuple(vocab.split(unit)) for unit in different}) < len(different)


def refuse_delimiter(texts: Iterable[str], delimiter: str, where: str = "A transcript") -> None:
    """CorpusError over the first of `texts` that contains `delimiter`, unless that is a space."""
    for text in texts:
        if delimiter in text and delimiter.strip():
            raise CorpusError(
                f"{where} contains {delimiter!r}, which marks word boundaries: {text[:60]!r}. "
                "Take it out, or let --corpus.normalizer plain do so."
            )


_CLEAN_UP = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


def clean_up_spaces(text: str) -> str:
    """What transformers' tokenizers do with clean_up_tokenization_spaces, in their order.

    >>> clean_up_spaces("i do n't . it 's")
    "i don't. it's"
    """
    for spaced in _CLEAN_UP:
        text = text.replace(spaced, spaced.strip())
    return text
