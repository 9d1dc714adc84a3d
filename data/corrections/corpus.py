"""A corpus with its corrections: some utterances are left out, others have a new transcript.

It stands around any corpus, so no reader knows of corrections. Training is what a line corrects; an evaluation split is
corrected only by lines that name it, since figures on other references do not compare with those on the published ones.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.config import CorpusConfig
from data.corpora import reading_notes
from data.corrections.file import Correction, Corrections, join_sources, read_corrections
from data.examples.drops import name_some
from data.faults import Faults
from data.utterance import Corpus, Splits, Utterance
from data.utterance_table import UtteranceTable, texts_of
from trainer.errors import CorpusError

TRAIN = "train"
"""What a line may call the training split, whatever its name is."""


def corrected(corpus: Corpus, config: CorpusConfig, met: set[str] | None = None) -> CorrectedCorpus | None:
    """`corpus` with the corrections that `config` names; None without any. CorpusError names file and line.

    `met`: see CorrectedCorpus.
    """
    corrections = read_corrections(config.exclude, config.patch)
    return CorrectedCorpus(corpus, corrections, bool(config.phone_scoring()), met) if corrections else None


@dataclass
class _Applied:
    """What became of one split when it was last read."""

    num_left_out: int = 0
    num_replaced: int = 0
    sources: dict[str, None] = field(default_factory=dict)
    """The files that did it, in order."""
    example_id: str = ""
    """An id of the split, to show what ids look like."""


class CorrectedCorpus:
    """`corpus` as `corrections` mend it."""

    def __init__(
        self, corpus: Corpus, corrections: Corrections, are_phones: bool = False, met: set[str] | None = None
    ) -> None:
        """`are_phones`: transcripts consist of phones, and a new one may hold only those of the corpus.

        `met` collects "file:line" of each line that has met its utterance; corpora that are read as one share it.
        """
        self.corpus, self.corrections, self.are_phones = corpus, corrections, are_phones
        self._met = set() if met is None else met
        self._applied: dict[str, _Applied] = {}
        self._elsewhere: dict[str, str] = {}  # id of a line without a split -> an evaluation split that has it
        # By the address of an utterance, which is kept so that it stays alone there: itself and what replaces it, the
        # same object in every split
        self._replaced: dict[int, tuple[Utterance, Utterance]] = {}

    @property
    def title(self) -> str:
        return self.corpus.title

    @property
    def splits(self) -> Splits:
        return self.corpus.splits

    @property
    def notes(self) -> list[str]:
        return reading_notes(self.corpus)

    def checksum(self, words_per_split: dict[str, int]) -> tuple[str, bool] | None:
        return self.corpus.checksum(words_per_split)

    def utterances(self, split: str, faults: Faults | None = None) -> Iterable[Utterance]:
        """Those of the corpus, in its order; a table stays one. CorpusError where a correction does not fit."""
        found = self.corpus.utterances(split, faults)
        if self.are_phones:
            found = found if isinstance(found, UtteranceTable) else list(found)
            self._refuse_what_is_no_phone(found, split)
        self._applied[split] = _Applied()
        if isinstance(found, UtteranceTable):
            return self._table(found, split)
        return self._one_by_one(found, split)

    def describe(self, split: str) -> str:
        """`7 utterances left out and 12 transcripts replaced by fixes.jsonl (sha256 ...)`; empty where nothing was."""
        applied = self._applied.get(split, _Applied())
        done = [
            f"{number} {what if number == 1 else f'{what}s'} {verb}"
            for number, what, verb in (
                (applied.num_left_out, "utterance", "left out"),
                (applied.num_replaced, "transcript", "replaced"),
            )
            if number
        ]
        return f"{' and '.join(done)} by {join_sources(applied.sources)}" if done else ""

    def refuse_misplaced(self) -> None:
        """CorpusError over lines that would change an evaluation split and do not name it, and over files that have
        nothing to do with this corpus. To be asked when all splits are read."""
        entries = self.corrections.entries
        for entry in entries:
            if not self._is_named(entry) and entry.where not in self._met and entry.id in self._elsewhere:
                split = self._elsewhere[entry.id]
                raise CorpusError(
                    f"{entry.where}: utterance {entry.id} is in {split}, which is scored, and a line that names no "
                    f'split is of {self.splits.train}. Take the line out; or write {{"id": ..., "split": "{split}", '
                    "...} into a file of JSON lines, and the figures on it will say that it was changed."
                )
        if not self._met:
            train = self._applied.get(self.splits.train, _Applied())
            raise CorpusError(
                f"{entries[0].where}: utterance {entries[0].id} is not in this corpus, nor is any other of the "
                f"{len(entries)} that {self.corrections.sources} names. Write ids as the corpus has them: "
                f"{train.example_id!r} is one."
            )

    def describe_unmet(self, *, training: bool) -> str:
        """Which lines met no utterance; empty where all did. Without `training` those of its split are not asked."""
        unmet = [e for e in self.corrections.entries if e.where not in self._met and (training or self._is_named(e))]
        if not unmet:
            return ""
        named, number = name_some([f"{entry.where}: {entry.id}" for entry in unmet]), len(self.corrections.entries)
        return f"{len(unmet)} of {number} corrections meet no utterance that is read here ({named})"

    def _is_named(self, entry: Correction) -> bool:
        """Whether the line names a split other than training's."""
        return bool(entry.split) and not self._is_train(entry.split)

    def _is_train(self, split: str) -> bool:
        train = self.splits.train
        is_scored = split in (self.splits.monitor, *self.splits.closing, *self.splits.unselected)
        return split == train or (split == TRAIN and not is_scored)

    def _of(self, split: str) -> dict[str, Correction]:
        """By id, the corrections of a split. What holds in one split holds in those that share its utterances."""
        if split == self.splits.train:
            return {e.id: e for e in self.corrections.entries if not self._is_named(e)}
        same = {split, *self.splits.around(split)}
        return {
            e.id: e
            for e in self.corrections.entries
            if self._is_named(e) and (e.split in same or split in self.splits.around(e.split))
        }

    def _one_by_one(self, utterances: Iterable[Utterance], split: str) -> Iterator[Utterance]:
        corrections, applied = self._of(split), self._applied[split]
        for_training = self._of(self.splits.train)
        for utterance in utterances:
            applied.example_id = utterance.id
            if utterance.id in for_training and split != self.splits.train:
                self._elsewhere.setdefault(utterance.id, split)
            correction = corrections.get(utterance.id)
            text = utterance.text if correction is None else self._apply(correction, utterance.text, applied)
            if text is not None:
                yield utterance if text == utterance.text else self._replace(utterance, text)

    def _table(self, table: UtteranceTable, split: str) -> UtteranceTable:
        """The table with the rows that stay. Batches that no correction meets are not copied."""
        corrections, applied = self._of(split), self._applied[split]
        applied.example_id = table.rows["id"][0].as_py() if len(table) else ""
        if split != self.splits.train:
            for _, name in _find(table, self._of(self.splits.train)):
                self._elsewhere.setdefault(name, split)
        found = _find(table, corrections)
        texts = table.rows["text"].take(pa.array([row for row, _ in found], pa.int64())).to_pylist()
        new: dict[int, str | None] = {}
        for (row, name), text in zip(found, texts, strict=True):
            if (now := self._apply(corrections[name], text, applied)) != text:
                new[row] = now
        if not new:
            return table
        batches, first = [], 0
        rows = sorted(new)
        for batch in table.rows.to_batches():
            here = rows[bisect.bisect_left(rows, first) : bisect.bisect_left(rows, first + len(batch))]
            batches.append(_correct(batch, {row - first: new[row] for row in here}))
            first += len(batch)
        return table.with_rows(
            pa.Table.from_batches(batches, table.rows.schema), repr([(row, new[row]) for row in rows])
        )

    def _apply(self, correction: Correction, text: str, applied: _Applied) -> str | None:
        """The transcript of an utterance that has `text` in the corpus; None where it is left out."""
        self._met.add(correction.where)
        if text == correction.text:
            return text
        if correction.was not in (None, text):
            raise CorpusError(
                f"{correction.where}: the transcript of utterance {correction.id} is {text!r}, and was "
                f'{correction.was!r} when it was corrected. Take the line out, or "was" to correct what is there.'
            )
        applied.sources[correction.source] = None
        if correction.text is None:
            applied.num_left_out += 1
        else:
            applied.num_replaced += 1
        return correction.text

    def _replace(self, utterance: Utterance, text: str) -> Utterance:
        """With `text`, and without the times of words and phones, which were those of another text."""
        known = self._replaced.get(id(utterance))
        if known is None:
            known = utterance, replace(utterance, text=text, words=(), phones=())
            self._replaced[id(utterance)] = known
        return known[1]

    def _refuse_what_is_no_phone(self, utterances: Sequence[Utterance], split: str) -> None:
        known = {phone for text in texts_of(utterances) for phone in text.split()}
        for correction in self._of(split).values():
            for phone in (correction.text or "").split():
                if phone not in known:
                    raise CorpusError(
                        f"{correction.where}: utterance {correction.id}: {phone!r} is no phone of {split}. Here a text "
                        "is the phones, with spaces between them, as the corpus has them. Write those, or take it out."
                    )


def _find(table: UtteranceTable, ids: Iterable[str]) -> list[tuple[int, str]]:
    """(Row, id) of each of these ids that the table has."""
    # Arrow holds no lone surrogates, so an id with one is in no table
    wanted = [name for name in ids if not any("\ud800" <= c <= "\udfff" for c in name)]
    if not wanted:
        return []
    which = pc.index_in(table.rows["id"], value_set=pa.array(wanted, pa.string())).fill_null(-1).to_numpy()
    return [(int(row), wanted[which[row]]) for row in np.flatnonzero(which >= 0)]


def _correct(batch: pa.RecordBatch, new: dict[int, str | None]) -> pa.RecordBatch:
    """Rows of `new` with another text, or left out where that is None."""
    replaced = sorted(row for row, text in new.items() if text is not None)
    if replaced:
        mask = np.zeros(len(batch), bool)
        mask[replaced] = True
        texts = pc.replace_with_mask(batch["text"], pa.array(mask), pa.array([new[row] for row in replaced]))
        batch = batch.set_column(batch.schema.get_field_index("text"), "text", texts)
    if len(replaced) < len(new):
        stays = np.ones(len(batch), bool)
        stays[[row for row, text in new.items() if text is None]] = False
        batch = batch.filter(pa.array(stays))
    return batch
