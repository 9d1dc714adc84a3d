"""The units a CTC head writes: characters, `|` between words, [UNK], and [PAD], which is CTC's blank."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from trainer.errors import CorpusError

WORD_DELIMITER, UNKNOWN, BLANK = "|", "[UNK]", "[PAD]"


@dataclass(frozen=True)
class Vocab:
    """Tokens by id. Every column of the logits has exactly one token."""

    tokens: tuple[str, ...]
    blank: str = BLANK
    unknown: str = UNKNOWN
    word_delimiter: str = WORD_DELIMITER

    def __post_init__(self) -> None:
        if len(set(self.tokens)) != len(self.tokens):
            twice = next(token for token, count in Counter(self.tokens).items() if count > 1)
            raise CorpusError(f"Vocabulary: {twice!r} stands for two ids.")
        for role in (self.blank, self.unknown, self.word_delimiter):
            if role not in self.tokens:
                raise CorpusError(f"Vocabulary: {role!r} is missing from its {len(self.tokens)} tokens.")

    @classmethod
    def build(cls, texts: Iterable[str], *, bos_eos: bool = False) -> Vocab:
        """The vocabulary of normalised training `texts`, in code point order: `|` first, then [UNK], [PAD].

        `bos_eos` appends the <s> and </s> that Hugging Face's tokenizer adds and nothing ever uses. The order
        is that of its CTC example, so that ids equal the reference run's.
        """
        texts = list(texts)
        characters = set().union(*map(set, texts)) - {" "}
        if WORD_DELIMITER in characters:
            text = next(text for text in texts if WORD_DELIMITER in text)
            raise CorpusError(
                f"A training transcript contains {WORD_DELIMITER!r}, which marks word boundaries: {text[:60]!r}. "
                "Take it out, or let --corpus.normalizer plain do so."
            )
        specials = [UNKNOWN, BLANK] + (["<s>", "</s>"] if bos_eos else [])
        return cls((WORD_DELIMITER, *sorted(characters), *specials))

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def ids(self) -> Mapping[str, int]:
        return {token: i for i, token in enumerate(self.tokens)}

    @property
    def blank_id(self) -> int:
        return self.tokens.index(self.blank)

    @property
    def special(self) -> dict[str, str]:
        """The tokens of blank, unknown and word_delimiter, by role."""
        return {"blank": self.blank, "unknown": self.unknown, "word_delimiter": self.word_delimiter}

    def encoder(self) -> TextEncoder:
        return TextEncoder(self)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of collapsed, blank-free `ids`; specials are printed as Hugging Face prints them."""
        return "".join(" " if (t := self.tokens[i]) == self.word_delimiter else t for i in ids)

    def unseen(self, text: str) -> Counter[str]:
        """How often each character of normalised `text` has no unit of its own."""
        known = set(self.tokens)
        return Counter(c for c in text if c != " " and c not in known)

    def fits(self, texts: Sequence[str]) -> bool:
        """Whether every character of every text has a unit of its own."""
        return not set().union(*map(set, texts)) - set(self.tokens) - {" "}


class TextEncoder:
    """Text to ids; keeps the table that `Vocab.ids` builds."""

    def __init__(self, vocab: Vocab) -> None:
        self._ids = {**vocab.ids, " ": vocab.ids[vocab.word_delimiter]}
        self._unknown = vocab.ids[vocab.unknown]

    def __call__(self, text: str) -> list[int]:
        return [self._ids.get(character, self._unknown) for character in text]
