"""A decoder for a vocabulary: its units, the words of a model as units, and the beam search over both."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from data.text.spelling import AS_IS, CANDIDATES
from data.text.vocab import Vocab
from trainer.decoding import hotwords
from trainer.decoding.arpa import read_arpa
from trainer.decoding.beam import BeamSearch
from trainer.decoding.fusion import Fusion, Weights
from trainer.decoding.hashing import HashTable, hash_all
from trainer.decoding.hypotheses import Found
from trainer.decoding.ngram import BEGIN, END, UNKNOWN, NgramModel
from trainer.decoding.settings import LM_WORDS, Decoding, read_lines
from trainer.decoding.single import SingleSearch
from trainer.errors import ConfigError, CorpusError, ModelError

MARKS = (BEGIN, END, UNKNOWN)
FEWEST = 0.1
"""A model of which a smaller share of words can be written is one of another spelling or language."""
MOST_AT_ONCE = 8_000_000
"""Log posteriors (utterances, frames, units) that are searched together."""
MOST_FRAMES = 65_536
"""Frames (utterances, frames) that are searched together: the search notes 8 bytes for each beam of each."""

FEW = 48
"""Fewer utterances than this are searched one by one."""


@dataclass(frozen=True)
class Decoder:
    """Ready to decode. `search` takes a batch, on the device that it was built for."""

    decoding: Decoding
    search: BeamSearch
    notes: tuple[str, ...]
    """What the user should know of model and lexicon."""

    def with_weights(self, weights: Weights) -> Decoder:
        """The same with other weights; tables are shared."""
        fusion = replace(self.search.fusion, weights=weights)
        decoding = replace(self.decoding, weights=weights)
        return Decoder(decoding, BeamSearch(fusion, self.search.options), self.notes)

    def decode(
        self,
        log_probs: Sequence[np.ndarray],
        num_best: int = 1,
        progress: Callable[[Iterable[list[int]], int], Iterable[list[int]]] = lambda batches, total: batches,
    ) -> list[list[Found]]:
        """The hypotheses of each utterance from its log posteriors (T, V), the best first."""
        batches = _batches([len(one) for one in log_probs], self.num_units)
        found: list[list[Found]] = [[] for _ in log_probs]
        for batch in progress(batches, len(batches)):
            if len(batch) < FEW:
                for i in batch:
                    found[i] = self.single(torch.from_numpy(log_probs[i]), num_best)
                continue
            lengths = torch.tensor([len(log_probs[i]) for i in batch])
            padded = torch.zeros(len(batch), int(lengths.max()), self.num_units)
            for row, i in zip(padded, batch, strict=True):
                row[: len(log_probs[i])] = torch.from_numpy(log_probs[i])
            for i, hypotheses in zip(batch, self.search(padded, lengths, num_best), strict=True):
                found[i] = hypotheses
        return found

    @cached_property
    def single(self) -> SingleSearch:
        """The same search for one utterance, on the CPU."""
        return SingleSearch(self.search.fusion, self.search.options)

    @property
    def num_units(self) -> int:
        return self.search.fusion.num_units


def _batches(lengths: Sequence[int], num_units: int) -> list[list[int]]:
    """Positions of utterances that are searched together, of similar length."""
    most = min(MOST_FRAMES, MOST_AT_ONCE // num_units)
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i], reverse=True):
        if not batches or (len(batches[-1]) + 1) * lengths[batches[-1][0]] > most:
            batches.append([])
        batches[-1].append(i)
    return batches


def build_decoder(vocab: Vocab, decoding: Decoding, device: torch.device) -> Decoder:
    """The decoder that `decoding` asks for. ModelError over a model, CorpusError over a lexicon that does not fit."""
    notes: list[str] = []
    is_boundary = torch.tensor([vocab.is_boundary(i) for i in range(len(vocab))])
    fusion = Fusion(len(vocab), vocab.blank_id, is_boundary.to(device), decoding.weights, device)
    if decoding.lm is not None:
        model = read_arpa(decoding.lm)
        if not model.has_unknown:
            notes.append(f"{decoding.lm}: has no <unk>, so words that it does not know are all but impossible")
        if model.end is None:
            notes.append(f"{decoding.lm}: has no </s>, so the ends of sentences are not scored")
        _refuse_words_without_boundary(vocab, "--lm", decoding.of_units)
        if vocab.phonemes or decoding.of_units:
            unit_words = _unit_words(vocab, model, decoding.lm, notes)
            fusion = replace(fusion, model=model.to(device), unit_words=unit_words.to(device))
        else:
            vocab = _spelled_for(vocab, model.words)
            table = _word_table(vocab, model, decoding.lm, notes)
            fusion = replace(fusion, model=model.to(device), words=table.to(device))
    if decoding.lexicon:
        fusion = _with_lexicon(fusion, vocab, decoding, notes)
    if decoding.hot_words:
        _refuse_words_without_boundary(vocab, "--hot-word", False)
        phrases = _phrases(vocab, decoding.hot_words)
        delimiter = None if vocab.phonemes else vocab.ids[str(vocab.word_delimiter)]
        fusion = replace(fusion, hot_words=hotwords.build(phrases, len(vocab), delimiter).to(device))
    return Decoder(decoding, BeamSearch(fusion, decoding.beam), tuple(notes))


def _refuse_words_without_boundary(vocab: Vocab, option: str, of_units: bool) -> None:
    """ConfigError where `option` is about words, and the model writes characters with nothing between words."""
    if vocab.word_delimiter is None and not (vocab.phonemes or of_units):
        units = ", or score its units: --units" if option == "--lm" else ""
        raise ConfigError(f"{option}: this model has no unit that stands between words. Leave it out{units}.")


def units_of(vocab: Vocab, word: str) -> list[int] | None:
    """The units that write `word`; None where a character has none."""
    pieces, ids = vocab.split(word), vocab.ids
    return [ids[piece] for piece in pieces] if pieces and all(p in vocab.writable for p in pieces) else None


class _Speller:
    """`units_of` for many words: the vocabulary's tables are made once."""

    def __init__(self, vocab: Vocab) -> None:
        self.split, self.ids = vocab.split, {token: vocab.ids[token] for token in vocab.writable}

    def __call__(self, word: str) -> list[int] | None:
        try:
            return [self.ids[piece] for piece in self.split(word)] or None
        except KeyError:
            return None


def _spelled_for(vocab: Vocab, words: Iterable[str]) -> Vocab:
    """`vocab` in the spelling in which most of the first `words` can be written, if none was chosen yet."""
    if vocab.spelling != AS_IS:
        return vocab
    some = list(itertools.islice((word for word in words if word not in MARKS), 2000))
    vocabularies = [replace(vocab, spelling=spelling) for spelling in CANDIDATES]
    return max(vocabularies, key=lambda v: sum(map(bool, map(_Speller(v), some))))  # the first of equal ones: as it is


def _word_table(vocab: Vocab, model: NgramModel, path: Path, notes: list[str]) -> HashTable:
    """From the units of the model's words to their numbers."""
    spell = _Speller(vocab)
    words = [(i, word, spell(word)) for i, word in enumerate(model.words) if word not in MARKS]
    lacking = [word for _, word, units in words if units is None]
    _refuse_strange(path, lacking, len(words), "words", vocab)
    if lacking:
        notes.append(
            f"{path}: {len(lacking):,} of {len(words):,} words cannot be written with the model's units "
            f"({', '.join(lacking[:4])}{', ...' if len(lacking) > 4 else ''})"
        )
    written = [(i, units) for i, _, units in words if units is not None]
    if all(len(units) == 1 for _, units in written):
        notes.append(f"{path}: each of its words is a single unit. If it is a model of characters, give --units")
    hashes = hash_all([units for _, units in written], len(vocab))[:, -1]
    return HashTable.of(hashes, torch.tensor([i for i, _ in written], dtype=torch.int64))


def _unit_words(vocab: Vocab, model: NgramModel, path: Path, notes: list[str]) -> torch.Tensor:
    """The number in the model of each unit, -1 for a delimiter that it does not know."""
    ids = model.ids
    lacking = [word for word in model.words if word not in MARKS and word not in vocab.writable]
    _refuse_strange(path, lacking, len(model.words) - len(set(model.words) & set(MARKS)), "units", vocab)
    if lacking:
        notes.append(f"{path}: {len(lacking)} of its units are none of the model's ({', '.join(lacking[:4])})")
    missing = {unit: -1 if vocab.is_boundary(unit) else model.unknown for unit in range(len(vocab))}
    return torch.tensor([ids.get(token, missing[unit]) for unit, token in enumerate(vocab.tokens)])


def _refuse_strange(path: Path, lacking: Sequence[str], total: int, what: str, vocab: Vocab) -> None:
    if total == 0:
        raise ModelError(f"{path}: a model without any {what}. Build it again: python -m scripts.ngram.")
    if total - len(lacking) < FEWEST * total:
        units = " ".join(sorted(vocab.writable)[:30])
        raise ModelError(
            f"{path}: {len(lacking):,} of its {total:,} {what} cannot be written with the model's units, such as "
            f"{lacking[0]!r}. The units are {units}. Build it from text as the model was trained on: python -m "
            "scripts.ngram."
        )


def _phrases(vocab: Vocab, hot_words: Mapping[str, float]) -> dict[tuple[int, ...], float]:
    """The units of all hot words, with their weights; ConfigError where two are written alike, as Kiel and KIEL."""
    written: dict[tuple[int, ...], str] = {}
    for phrase in hot_words:
        other = written.setdefault(_phrase(vocab, phrase), phrase)
        if other != phrase:
            raise ConfigError(f"--hot-word: the model writes {other} and {phrase} alike. Give one of them.")
    return {units: hot_words[phrase] for units, phrase in written.items()}


def _phrase(vocab: Vocab, phrase: str) -> tuple[int, ...]:
    """The units of a hot word or phrase; ConfigError where it cannot be written."""
    candidates = CANDIDATES if vocab.spelling == AS_IS else (vocab.spelling,)
    for spelling in candidates:
        spelled = replace(vocab, spelling=spelling)
        if vocab.phonemes:
            units = units_of(spelled, phrase)
            if units is not None:
                return tuple(units)
            continue
        words = [units_of(spelled, word) for word in phrase.split()]
        if words and all(words):
            delimiter = vocab.ids[str(vocab.word_delimiter)]
            joined = [u for word in words for u in (delimiter, *(word or ()))]
            return tuple(joined[1:])
    lacking = min((replace(vocab, spelling=spelling).unseen(phrase) for spelling in candidates), key=Counter.total)
    what = f", which lack {', '.join(map(repr, lacking))}" if lacking else ""
    raise ConfigError(f"--hot-word {phrase}: cannot be written with the model's units{what}. Spell it as it is spoken.")


def _with_lexicon(fusion: Fusion, vocab: Vocab, decoding: Decoding, notes: list[str]) -> Fusion:
    """`fusion` with only the words of the lexicon, those of hot words besides."""
    if vocab.phonemes or decoding.of_units:
        raise ConfigError("--lexicon: a lexicon is of words, and here a model's units are scored. Leave it out.")
    _refuse_words_without_boundary(vocab, "--lexicon", False)
    spell = _Speller(vocab)
    if decoding.lexicon == LM_WORDS:
        if fusion.model is None:
            raise ConfigError("--lexicon lm: these are the words of the model. Give --lm too, or a file.")
        spelled = [units for word in fusion.model.words if word not in MARKS and (units := spell(word)) is not None]
    else:
        spelled = read_lexicon(Path(decoding.lexicon), vocab, notes)
    delimiter = vocab.ids[str(vocab.word_delimiter)]
    for phrase in decoding.hot_words:
        word: list[int] = []
        for unit in (*_phrase(vocab, phrase), delimiter):
            if unit == delimiter:
                spelled.append(word)
                word = []
            else:
                word.append(unit)
    hashes = hash_all(spelled, len(vocab))
    whole, beginnings = HashTable.of(hashes[:, -1]), HashTable.of(hashes[:, 1:].flatten())
    return replace(fusion, lexicon=whole.to(fusion.device), beginnings=beginnings.to(fusion.device))


def read_lexicon(path: Path, vocab: Vocab, notes: list[str]) -> list[list[int]]:
    """The units of each word of a lexicon: one word a line, or the word, white space and its units as flashlight has
    them (`hello h e l l o |`). CorpusError names file and line."""
    lines = read_lines(path, "--lexicon")
    rows = [(number, fields) for number, line in enumerate(lines, 1) if (fields := line.split())]
    spell = _Speller(_spelled_for(vocab, (fields[0] for _, fields in rows)))
    found, lacking = list[list[int]](), list[str]()
    for number, fields in rows:
        units = spell(fields[0])
        if units is None:
            lacking.append(fields[0])
            continue
        given = fields[1:-1] if fields[-1] == vocab.word_delimiter else fields[1:]
        if given and [spell(unit) for unit in given] != [[u] for u in units]:
            raise CorpusError(
                f"{path}:{number}: {fields[0]} is spelled {' '.join(given)}, but the units of the word are "
                f"{' '.join(vocab.tokens[u] for u in units)}. A word is written as it is spelled: give the word alone."
            )
        found.append(units)
    if not found:
        raise CorpusError(f"{path}: holds no word that can be written with the model's units. Give one word a line.")
    if lacking:
        notes.append(
            f"{path}: {len(lacking):,} of {len(rows):,} words cannot be written with the model's units "
            f"({', '.join(lacking[:4])}{', ...' if len(lacking) > 4 else ''})"
        )
    return found
