"""Examples by the million: lengths in an array, all else made when an example is asked for.

What a list of examples costs for each, about three kB, is here eight bytes for its length and eight for its row; ids,
texts and places stay in the memory-mapped index.
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.chain import Chain
from data.example import Example
from data.lazy import Lazy
from data.text.chunks import chunks_of
from data.text.normalised import ArrowTexts
from data.text.spelling import AS_IS
from data.text.vocab import TextEncoder, Vocab
from data.utterance_table import UtteranceTable


class ExampleTable(Lazy[Example]):
    """Some rows of a table of utterances, encoded with a vocabulary."""

    def __init__(
        self, utterances: UtteranceTable, texts: Sequence[str], vocab: Vocab, lengths: np.ndarray, rows: np.ndarray
    ) -> None:
        """`lengths` and `rows`, int64 (n,): samples at 16 kHz of each example, and its row in `utterances`."""
        self.utterances, self.normalised, self.vocab = utterances, texts, vocab
        self.lengths, self.row_numbers = lengths, rows

    def __len__(self) -> int:
        return len(self.row_numbers)

    def some(self, positions: range) -> ExampleTable:
        lengths, rows = self.lengths[positions], self.row_numbers[positions]
        return ExampleTable(self.utterances, self.normalised, self.vocab, lengths, rows)

    def at(self, i: int) -> Example:
        row = int(self.row_numbers[i])
        utterance, text = self.utterances[row], self.normalised[row]
        return Example(
            utterance,
            self.vocab.to_compare(text),
            tuple(self._encoder(text)),
            int(self.lengths[i]),
            utterance.audio.load,
            self.utterances.source_digest(row),
        )

    @functools.cached_property
    def _encoder(self) -> TextEncoder:
        return self.vocab.encoder()

    @property
    def is_remote(self) -> bool:
        """Whether a load waits for a network, so that several are worth doing at once."""
        return self.utterances.is_remote

    @property
    def ids(self) -> ArrowTexts:
        return ArrowTexts(self._taken("id"))

    @property
    def digest(self) -> str:
        """A hash of ids, transcripts as they are scored, lengths and audio; empty where the audio's is not known."""
        if not self.utterances.digest or not isinstance(self.normalised, ArrowTexts):
            return ""
        # the transcripts follow from those of the corpus, the normaliser and the vocabulary
        how = f"{self.utterances.digest} {self.normalised.name} {self.vocab.spelling} {self.vocab.reading}"
        digest = hashlib.blake2b(how.encode(), digest_size=16)
        digest.update(np.ascontiguousarray(self.row_numbers, np.int64).tobytes())
        return digest.hexdigest()

    def texts(self) -> Iterator[str]:
        """Each transcript in the form in which it is scored."""
        return map(self.vocab.to_compare, self.units_text())

    def units_text(self) -> Sequence[str]:
        """Each normalised transcript."""
        if isinstance(self.normalised, ArrowTexts):
            whole = len(self) == len(self.normalised)
            return self.normalised if whole else ArrowTexts(_take(self.normalised.column, self.row_numbers))
        return [self.normalised[int(row)] for row in self.row_numbers]

    def speakers(self) -> set[str | None]:
        return set(self._taken("speaker").unique().to_pylist())

    def of_sources(self, digests: set[str]) -> Iterator[Example]:
        """Those that were made from a file with one of these digests."""
        if not self.has_digests:
            return iter(())
        wanted = pa.array([bytes.fromhex(d) for d in digests if len(d) == 32], pa.binary(16))
        found = np.flatnonzero(pc.is_in(self._taken("source"), wanted).to_numpy())
        return (self[int(i)] for i in found)

    @property
    def has_digests(self) -> bool:
        """Whether every recording has a digest."""
        return "source" in self.utterances.rows.column_names

    def unit_counts(self) -> Counter[int]:
        """How often each unit is a target."""
        counts: Counter[int] = Counter()
        if writes_characters(self.vocab):
            characters: Counter[str] = Counter()
            for some in chunks_of(self.units_text()):
                characters.update("".join(some))
            for character, count in characters.items():
                for unit in self._encoder(character):
                    counts[unit] += count
            return counts
        for text in self.units_text():
            counts.update(self._encoder(text))
        return counts

    def _taken(self, name: str) -> pa.ChunkedArray:
        column = self.utterances.rows[name]
        return column if len(self) == len(column) else _take(column, self.row_numbers)


def writes_characters(vocab: Vocab) -> bool:
    """Whether each character of a normalised text is a unit, whatever stands beside it."""
    return vocab.spelling == AS_IS and not vocab.phonemes and all(len(token) == 1 for token in vocab.writable)


def _take(column: pa.ChunkedArray, rows: np.ndarray) -> pa.ChunkedArray:
    return column.take(pa.array(rows))


def lengths_of(examples: Sequence[Example]) -> np.ndarray:
    """int64 (n,): samples at 16 kHz of each example."""
    if isinstance(examples, ExampleTable):
        return examples.lengths
    if isinstance(examples, Chain):
        return np.concatenate([lengths_of(part) for part in examples.parts])
    return np.fromiter((example.num_samples for example in examples), np.int64, len(examples))


def ids_of(examples: Sequence[Example]) -> Sequence[str]:
    """The id of each example."""
    if isinstance(examples, ExampleTable):
        return examples.ids
    return [example.utterance.id for example in examples]


def speakers_in(examples: Sequence[Example]) -> set[str]:
    """Every speaker that is named."""
    if isinstance(examples, ExampleTable):
        return {speaker for speaker in examples.speakers() if speaker is not None}
    return {e.utterance.speaker for e in examples if e.utterance.speaker is not None}


def texts_in(examples: Sequence[Example]) -> Iterator[str]:
    """The transcript of each example, in the form in which it is scored."""
    if isinstance(examples, ExampleTable):
        return examples.texts()
    return (example.text for example in examples)


def named_by_all(examples: Sequence[Example]) -> bool:
    """Whether every utterance names its speaker."""
    if isinstance(examples, ExampleTable):
        return None not in examples.speakers()
    return all(e.utterance.speaker is not None for e in examples)


def waits_for_network(examples: Sequence[Example]) -> bool:
    """Whether loading audio waits for a network."""
    return isinstance(examples, ExampleTable) and examples.is_remote


def unit_counts(examples: Sequence[Example]) -> Counter[int]:
    """How often each unit is a target."""
    if isinstance(examples, ExampleTable):
        return examples.unit_counts()
    return Counter(unit for example in examples for unit in example.targets)
