"""Examples by the million: lengths in an array, all else made when an example is asked for.

What a list of examples costs for each, about three kB, is here eight bytes for its length and eight for its row; ids,
texts and places stay in the memory-mapped index.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.audio.segments import FILE_BYTES
from data.audio.store import AudioStore
from data.chain import Chain
from data.examples.example import Example
from data.lazy import Lazy
from data.text.chunks import chunks_of
from data.text.normalised import ArrowTexts
from data.text.spelling import AS_IS
from data.text.vocab import TextEncoder, Vocab
from data.utterance import AudioSource
from data.utterance_table import UtteranceTable


@dataclass(frozen=True)
class Stored:
    """Where a store has the audio of some examples."""

    store: AudioStore
    numbers: np.ndarray
    """int64 (n,): position in the store; -1 for an example without audio."""

    def load(self, i: int) -> tuple[Callable[[], np.ndarray], str] | None:
        """What loads the audio of example `i`, and its digest; None for one without audio."""
        number = int(self.numbers[i])
        return (partial(self.store.load, number), self.store.digest(number)) if number >= 0 else None


class ExampleTable(Lazy[Example]):
    """Some rows of a table of utterances, encoded with a vocabulary."""

    def __init__(
        self, utterances: UtteranceTable, texts: Sequence[str], vocab: Vocab, lengths: np.ndarray, rows: np.ndarray,
        stored: Stored | None = None,
    ) -> None:  # fmt: skip
        """`lengths` and `rows`, int64 (n,): samples at 16 kHz of each example, and its row in `utterances`.

        `stored`: where its decoded audio is; None: it is decoded when it is loaded.
        """
        self.utterances, self.normalised, self.vocab = utterances, texts, vocab
        self.lengths, self.row_numbers, self.stored = lengths, rows, stored

    def __len__(self) -> int:
        return len(self.row_numbers)

    def some(self, positions: range | np.ndarray) -> ExampleTable:
        lengths, rows = self.lengths[positions], self.row_numbers[positions]
        stored = self.stored and Stored(self.stored.store, self.stored.numbers[positions])
        return ExampleTable(self.utterances, self.normalised, self.vocab, lengths, rows, stored)

    def at(self, i: int) -> Example:
        row = int(self.row_numbers[i])
        utterance, text = self.utterances[row], self.normalised[row]
        kept = self.stored.load(i) if self.stored is not None else None
        load, digest = kept or (utterance.audio.load, self.utterances.source_digest(row))
        return Example(
            utterance, self.vocab.to_compare(text), tuple(self._encoder(text)), int(self.lengths[i]), load, digest
        )

    def audio(self, i: int) -> AudioSource:
        """The audio of example `i` as the corpus has it."""
        return self.utterances.audio(int(self.row_numbers[i]))

    def from_store(self, store: AudioStore, numbers: np.ndarray) -> ExampleTable:
        """The same with their audio from `store`; `numbers` as in Stored. Those without audio have 0 samples."""
        lengths = np.where(numbers < 0, 0, self.lengths)
        stored = Stored(store, numbers)
        return ExampleTable(self.utterances, self.normalised, self.vocab, lengths, self.row_numbers, stored)

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
        reading = {key: value for key, value in self.vocab.reading.items() if key != "units_are"}  # a name, no text
        how = f"{self.utterances.digest} {self.normalised.name} {self.vocab.spelling} {reading}"
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

    def of_sources(self, files: set[str]) -> Iterator[Example]:
        """Those that were made from a file whose digest begins with one of these, of FILE_BYTES in hexadecimal."""
        if self.stored is not None:
            begin = pc.utf8_slice_codeunits(self.stored.store.digests, 0, 2 * FILE_BYTES)
            is_wanted = pc.is_in(begin, pa.array(sorted(files), pa.string())).to_numpy()
            numbers = self.stored.numbers
            found = np.flatnonzero((numbers >= 0) & is_wanted[numbers]) if len(is_wanted) else np.zeros(0, np.int64)
        elif self.has_digests:
            wanted = pa.array([bytes.fromhex(f) for f in files if len(f) == 2 * FILE_BYTES], pa.binary())
            begin = pc.binary_slice(self._taken("source").cast(pa.binary()), 0, FILE_BYTES)
            found = np.flatnonzero(pc.is_in(begin, wanted).to_numpy())
        else:
            found = np.zeros(0, np.int64)
        return (self[int(i)] for i in found)

    @property
    def has_digests(self) -> bool:
        """Whether every recording has a digest."""
        return self.stored is not None or "source" in self.utterances.rows.column_names

    def digests(self) -> Iterator[str]:
        """The digest of each example's encoded audio; empty where none is known."""
        if self.stored is None:
            return (self.utterances.source_digest(int(row)) for row in self.row_numbers)
        numbers = self.stored.numbers
        return iter(ArrowTexts(_take(self.stored.store.digests, numbers, is_there=numbers >= 0)))

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


def _take(column: pa.ChunkedArray, rows: np.ndarray, is_there: np.ndarray | None = None) -> pa.ChunkedArray:
    """The values of `rows`; empty strings where `is_there` says no."""
    if is_there is None or is_there.all():
        return column.take(pa.array(rows))
    return pc.fill_null(column.take(pa.array(rows, mask=~is_there)), "")


def lengths_of(examples: Sequence[Example]) -> np.ndarray:
    """int64 (n,): samples at 16 kHz of each example."""
    if isinstance(examples, ExampleTable):
        return examples.lengths
    if isinstance(examples, Chain):
        return np.concatenate([lengths_of(part) for part in examples.parts])
    return np.fromiter((example.num_samples for example in examples), np.int64, len(examples))


def audio_of(examples: Sequence[Example], i: int) -> AudioSource:
    """The audio of example `i` as the corpus has it."""
    return examples.audio(i) if isinstance(examples, ExampleTable) else examples[i].utterance.audio


def ids_of(examples: Sequence[Example]) -> Sequence[str]:
    """The id of each example."""
    if isinstance(examples, ExampleTable):
        return examples.ids
    return [example.utterance.id for example in examples]


def digests_of(examples: Sequence[Example]) -> Iterator[str]:
    """The digest of each example's encoded audio; empty where none is known."""
    if isinstance(examples, ExampleTable):
        return examples.digests()
    if isinstance(examples, Chain):
        return itertools.chain.from_iterable(map(digests_of, examples.parts))
    return (example.digest for example in examples)


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
