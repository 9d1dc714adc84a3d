"""Data sets of the `datasets` library: two splits with audio and text. libsndfile decodes, never torchcodec.

How a split is loaded is in data.corpora.hub.loading, what audio a row can hold in data.corpora.hub.audio.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import datasets

from data.corpora.hub import HubConfig
from data.corpora.hub.audio import row_sources
from data.corpora.hub.fields import Fields
from data.corpora.hub.loading import load_split
from data.corpora.hub.streaming import streamed
from data.faults import Faults
from data.utterance import Splits, Utterance
from trainer.errors import CorpusError


class HubCorpus:
    """Two splits of a data set with an audio and a text column; a third one, if given, is the test split."""

    def __init__(
        self, config: HubConfig, cache_dir: Path = Path("cache"), progress: Callable[[int, int], None] | None = None
    ) -> None:
        """`cache_dir` is where a stream is packed; `progress` is told of it."""
        self.config, self.cache_dir, self.progress = config, cache_dir, progress
        self.notes: list[str] = []
        train, evaluation, test = config.train_split, config.eval_split, config.test_split
        named = {"train": train, "eval": evaluation, **({"test": test} if test else {})}
        for (one, first), (other, second) in itertools.combinations(named.items(), 2):
            if first == second:
                raise CorpusError(
                    f"--corpus.{one}-split and --corpus.{other}-split are both {first!r}. "
                    "Name two splits, or parts of one: 'train[:90%]' and 'train[90%:]'."
                )
        self.splits = Splits(train=train, monitor=evaluation, headline=evaluation, closing=(evaluation,))
        if test:
            self.splits = self.splits.with_test(test)

    @property
    def title(self) -> str:
        path = Path(self.config.dataset)
        return f"the data set {path.name if path.exists() else self.config.dataset}"

    def utterances(self, split: str, faults: Faults | None = None) -> Iterable[Utterance]:
        """The rows of a split, ids SPLIT-ROW unless a column gives them."""
        config, faults = self.config, faults or Faults()
        if config.streaming:
            table, notes = streamed(self.config, split, split == self.splits.train, self.cache_dir)
            self.notes += [note for note in notes if note not in self.notes]
            return table
        return self._rows(split, faults)

    def _rows(self, split: str, faults: Faults) -> Iterator[Utterance]:
        config = self.config
        dataset, notes = load_split(config, split)
        fields = Fields.of(config, split, dataset.column_names, dataset.features)
        notes += [note for note in fields.notes if note not in notes]
        self.notes += [note for note in notes if note not in self.notes]
        where = [f"{config.dataset}, split {split}, row {row}" for row in range(len(dataset))]
        values = dataset.select_columns(fields.columns)
        sources = self._sources(dataset, fields.audio.column, where)
        for row, (value, source) in enumerate(zip(values, sources, strict=True)):
            found: tuple[str, str, str | None] | None = None
            with faults.noted("malformed row", split):
                found = fields.read(value, where[row], f"{split}-{row:06d}")
            if found is not None:
                id, text, speaker = found
                yield Utterance(id=id, audio=source, text=text, speaker=speaker, origin=where[row])

    def checksum(self, words_per_split: dict[str, int]) -> None:
        """None: this library keeps no counts of hub data sets."""

    def _sources(self, dataset: datasets.Dataset, column: str, where: list[str]) -> list:
        folder = Path(self.config.dataset)
        try:
            return row_sources(dataset, column, where, folder if folder.is_dir() else None)
        except (TypeError, ValueError, NotImplementedError, ImportError) as error:  # as pyarrow and datasets please
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise CorpusError(
                f"{self.config.dataset}: column {column!r} holds no audio ({reason}). "
                "Name the one that does with --corpus.audio-field."
            ) from None
