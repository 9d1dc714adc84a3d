"""A checkpoint's tokenizer: which unit each output of its CTC head is, and how units are read, for every language.

Read from vocab.json and tokenizer_config.json as transformers' Wav2Vec2CTCTokenizer and Wav2Vec2PhonemeCTCTokenizer
read them. Multilingual checkpoints (MMS) have a vocabulary for each language in one file, and for each language an
adapter: see models.checkpoints.adapter.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2PhonemeCTCTokenizer

from models.checkpoints.trust import read_json

PHONEMES = "Wav2Vec2PhonemeCTCTokenizer"
UNITS_ARE = "units_are"
"""What tokenizer_config.json calls the kind of units that are no phonemes, although they have a phonemes' tokenizer.
transformers keeps it and makes nothing of it."""
SPECIAL_ROLES = ("pad_token", "unk_token", "bos_token", "eos_token")
"""What tokenizer_config.json and special_tokens_map.json call the tokens that are no text."""
DEAD = ("<s>", "</s>")
"""Tokens that transformers adds to a tokenizer, and that a head need not have: no text is written with them."""


@dataclass(frozen=True)
class Tokenizer:
    """What a checkpoint's tokenizer says, before it is compared with the head."""

    by_id: dict[int, str] = field(default_factory=dict)
    special: dict[str, str | None] = field(default_factory=dict)
    """Its tokens for blank, unknown and word_delimiter; the delimiter is None where phonemes need none."""
    reading: dict[str, Any] = field(default_factory=dict)
    """How units are read, by the names of data.text.vocab.Vocab's fields, where it is not as by default."""
    language: str | None = None
    """Whose vocabulary this is."""
    languages: tuple[str, ...] = ()
    """All that the checkpoint has a vocabulary for; empty where there is one vocabulary for all."""
    own_language: str | None = None
    """What the checkpoint's main weights are for, as its tokenizer is configured."""
    problem: str = ""
    """Why there are no tokens although there is a vocabulary."""
    added: frozenset[str] = frozenset()
    """Tokens that are not in vocab.json: added to it, by somebody or by transformers."""

    def tokens_of(self, num_outputs: int) -> tuple[tuple[str, ...] | None, str, bool]:
        """(Tokens of the head's outputs or None, why there are none, whether they are more than outputs).

        What transformers adds behind the last output is left out: <s>, </s>, and an unknown token or a delimiter
        that vocab.json does not have. So is a delimiter when the vocabulary has a space in its place.
        """
        if not self.by_id:
            return None, self.problem, False
        unwritten = {*DEAD, *({self.special["unknown"], self.special["word_delimiter"]} & self.added)}
        beyond = [token for i, token in sorted(self.by_id.items()) if i >= num_outputs]
        within = {i: token for i, token in self.by_id.items() if i < num_outputs}
        beyond = [t for t in beyond if t not in unwritten and not _is_dead_object(t) and t not in within.values()]
        missing = [i for i in range(num_outputs) if i not in within]
        if beyond:
            what = ", ".join(map(repr, beyond[:5])) + (", ..." if len(beyond) > 5 else "")
            num_tokens = len(within) + len(beyond)
            why = f"its tokenizer has {num_tokens} tokens and its CTC head {num_outputs} outputs: none writes {what}"
            return None, why, num_tokens > num_outputs
        if missing:
            why = f"its CTC head has {num_outputs} outputs and its tokenizer no token for {len(missing)} of them"
            return None, f"{why} (the first is {missing[0]})", False
        tokens = tuple(within[i] for i in range(num_outputs))
        if self.special["blank"] not in tokens:
            return None, f"no output of its CTC head is {self.special['blank']!r}, its tokenizer's blank", False
        if twice := next((t for i, t in enumerate(tokens) if t in tokens[:i]), None):
            return None, f"its tokenizer has {twice!r} for two outputs of its CTC head", False
        return tokens, "", False

    def special_of(self, tokens: Sequence[str]) -> dict[str, str | None]:
        """The tokens for blank, unknown and word_delimiter; None where no output writes them, or it is the blank's."""
        found = {role: token if token in tokens else None for role, token in self.special.items()}
        return found if found["unknown"] != found["blank"] else {**found, "unknown": None}


def read_tokenizer(source: str, revision: str | None, language: str | None) -> Tokenizer:
    """The tokenizer of a folder or hub id; without one, or with one that cannot be read, an empty one.

    `language` chooses among the vocabularies of a multilingual checkpoint, else its configuration does.
    """
    vocabulary, config = read_json(source, "vocab.json", revision), _read_config(source, revision)
    if vocabulary is None:
        return Tokenizer(problem=_without_vocabulary(source, revision))
    if not isinstance(vocabulary, dict) or not vocabulary:
        return Tokenizer(problem="its vocab.json is damaged: it is no JSON object in UTF-8, or an empty one")
    kind = config.get("tokenizer_class")
    if isinstance(kind, str) and "CTC" not in kind and not kind.startswith("Wav2Vec2"):
        return Tokenizer(problem=f"its tokenizer is a {kind}; Wav2Vec2CTCTokenizer and {PHONEMES} are read")
    languages: tuple[str, ...] = ()
    own_language = config.get("target_lang") if isinstance(config.get("target_lang"), str) else None
    if all(isinstance(value, dict) for value in vocabulary.values()):
        languages = tuple(vocabulary)
        own_language = own_language or (languages[0] if len(languages) == 1 else None)
    language = language or own_language
    found = Tokenizer(language=language, languages=languages, own_language=own_language)
    if languages and language not in languages:
        return replace(found, problem=no_such_language(language, languages))
    tokenizer_class: Any = Wav2Vec2CTCTokenizer
    # transformers 5 does not read special_tokens_map.json, where older versions wrote them as well
    options: dict[str, Any] = {role: token for role in SPECIAL_ROLES if (token := _token(config.get(role)))}
    if config.get("tokenizer_class") == PHONEMES:
        tokenizer_class = Wav2Vec2PhonemeCTCTokenizer
    else:
        options["target_lang"] = language if languages else None
    try:
        loaded = tokenizer_class.from_pretrained(source, revision=revision, **options)
        by_id = {**{i: token for token, i in loaded.added_tokens_encoder.items()}, **loaded.decoder}
        if not all(isinstance(i, int) and i >= 0 for i in by_id):
            return replace(found, problem="its vocab.json has ids that are no numbers from 0 on")
        if len(loaded.decoder) < len(loaded.encoder):
            return replace(found, problem="its vocab.json has one id for two tokens")
    except (OSError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        return replace(found, problem=f"its tokenizer does not load ({error})")
    reading = {"clean_up": True} if loaded.clean_up_tokenization_spaces else {}
    if tokenizer_class is Wav2Vec2PhonemeCTCTokenizer:
        reading["phonemes"] = True
        if config.get(UNITS_ARE) in ("phones", "spaced"):
            reading["units_are"] = config[UNITS_ARE]
        delimiter = _token(config.get("word_delimiter_token"))
        delimiter = delimiter if delimiter in by_id.values() else None
    else:
        if loaded.do_lower_case:
            reading["lower_case"] = True
        if (replacement := loaded.replace_word_delimiter_char) != " ":
            reading["delimiter_text"] = replacement
        delimiter = _delimiter(config, loaded.encoder)
    special = dict(blank=loaded.pad_token, unknown=loaded.unk_token, word_delimiter=delimiter)
    if delimiter == " ":  # transformers adds the default, which no output writes
        by_id = {i: token for i, token in by_id.items() if token != "|" or token in loaded.encoder}
    added = frozenset(by_id.values()) - loaded.encoder.keys()
    return replace(found, by_id=by_id, special=special, reading=reading, added=added)


def _without_vocabulary(source: str, revision: str | None) -> str:
    """What to say of a checkpoint without a vocab.json: where its tokenizer is, if that is known."""
    parent = Path(source).absolute().parent
    if Path(source).is_dir() and (parent / "vocab.json").is_file():  # as checkpoint-500 of transformers' Trainer
        return f"it has no tokenizer, but {parent} has: copy vocab.json and tokenizer_config.json from there"
    if read_json(source, "tokenizer.json", revision):
        return "its tokenizer is a tokenizer.json without a vocab.json, which is not read here"
    return ""


def no_such_language(language: str | None, languages: Sequence[str]) -> str:
    """What to say when none of `languages` is chosen; the few that are spelled alike, or the first."""
    close = difflib.get_close_matches(language or "", languages, 5) or list(languages[:5])
    shown = ", ".join(close) + (", ..." if len(languages) > len(close) else "")
    what = f"it has no vocabulary for {language!r}, but" if language else "it has vocabularies"
    return f"{what} for {len(languages)} languages ({shown}): choose one as the target language"


def is_safe_name(language: str) -> bool:
    """Whether a language's name can be part of a file's name."""
    return language.replace("-", "").replace("_", "").isalnum()


def _delimiter(config: Mapping[str, Any], vocabulary: Mapping[str, int]) -> str:
    """The token between words: as configured, or a space where the vocabulary has that instead.

    From the configuration itself: transformers 5 forgets any other than `|` when it loads a tokenizer.
    """
    delimiter = _token(config.get("word_delimiter_token")) or "|"
    return " " if delimiter not in vocabulary and " " in vocabulary else delimiter


def _token(content: Any) -> str | None:
    """A token as configurations write it: a string, or an object with its content."""
    content = content.get("content") if isinstance(content, dict) else content
    return content if isinstance(content, str) else None


def _is_dead_object(token: str) -> bool:
    """Whether `token` is <s> or </s> as transformers of 2021 wrote it into lists of additional tokens."""
    return any(token.startswith(f"{{'content': '{dead}'") for dead in DEAD)


def _read_config(source: str, revision: str | None) -> dict[str, Any]:
    """tokenizer_config.json over special_tokens_map.json."""
    found: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        content = read_json(source, name, revision)
        found |= content if isinstance(content, dict) else {}
    return found
