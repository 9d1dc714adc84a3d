"""Data sets of the `datasets` library: two splits with audio and text. libsndfile decodes, never torchcodec.

How a split is loaded is in data.corpora.hub.loading, what audio a row can hold in data.corpora.hub.audio.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets

from data.corpora.columns import AUDIO, TEXT, find_speaker, known_as
from data.corpora.hub import HubConfig
from data.corpora.hub.audio import row_sources
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
            table, notes = streamed(self.config, split, split == self.splits.train, self.cache_dir, self._column)
            self.notes += [note for note in notes if note not in self.notes]
            return table
        return self._rows(split, faults)

    def _rows(self, split: str, faults: Faults) -> Iterator[Utterance]:
        config = self.config
        dataset, notes = load_split(config, split)
        audio = self._column(dataset, split, "audio", config.audio_field, AUDIO)
        text = self._column(dataset, split, "text", config.text_field, TEXT)
        name = self._column(dataset, split, "id", config.id_field) if config.id_field else None
        speaker = config.speaker_field and self._column(dataset, split, "speaker", config.speaker_field)
        if speaker is None and (speaker := find_speaker(dataset.column_names)):
            notes.append(f'{config.dataset}: speaker from column "{speaker}"; another: --corpus.speaker-field')
        for what, found, usual in (("audio", audio, config.audio_field), ("text", text, config.text_field)):
            if found != usual:
                notes.append(f'{config.dataset}: {what} from column "{found}"; another: --corpus.{what}-field')
        self.notes += [note for note in notes if note not in self.notes]
        where = [f"{config.dataset}, split {split}, row {row}" for row in range(len(dataset))]
        values = dataset.select_columns([column for column in (text, name, speaker) if column])
        for row, (value, source) in enumerate(zip(values, self._sources(dataset, audio, where), strict=True)):
            is_sound = False
            with faults.noted("malformed row", split):
                if not isinstance(value[text], str):
                    raise CorpusError(f"{where[row]}: {text!r} must be a string, found {value[text]!r}.")
                if name and value[name] is None:
                    raise CorpusError(f"{where[row]}: {name!r} is empty. It is to be a unique id.")
                is_sound = True
            if not is_sound:
                continue
            yield Utterance(
                id=str(value[name]) if name else f"{split}-{row:06d}",
                audio=source,
                text=value[text],
                speaker=str(value[speaker]) or None if speaker and value[speaker] is not None else None,
                origin=where[row],
            )

    def checksum(self, words_per_split: dict[str, int]) -> None:
        """None: this library keeps no counts of hub data sets."""

    def _column(self, dataset: Any, split: str, what: str, wanted: str, names: Sequence[str] = ()) -> str:
        """The column `wanted`; where that is the default and not there, the only one of `names`."""
        columns = dataset.column_names
        if wanted in columns:
            return wanted
        default = getattr(HubConfig, f"{what}_field")
        others = known_as(names, columns) if wanted == default else []
        if len(others) == 1:
            return others[0]
        listed = f" {' and '.join(map(repr, others))} may be it." if others else ""
        raise CorpusError(
            f"{self.config.dataset}, split {split}: no column {wanted!r} (columns: {', '.join(columns)}).{listed} "
            f"Name it with --corpus.{what}-field."
        )

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
