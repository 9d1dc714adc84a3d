"""A corpus that a Python program hands over, such as torch data sets (docs/use-from-python.md)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, Protocol

from data.audio.sampled import SampledAudio, digest_of, to_mono, whole_rate
from data.config import CorpusConfig
from data.corpora.columns import known_name
from data.faults import Faults
from data.utterance import SAMPLE_RATE, Corpus, Splits, Utterance
from trainer.errors import CorpusError

WAVEFORM, TEXT = "waveform", "text"
KNOWN = {WAVEFORM, TEXT, "rate", "id", "speaker"}
"""Keys of an item that is a dict; the first two must be there."""


@dataclass(frozen=True, kw_only=True)
class GivenConfig(CorpusConfig):
    """The options of a corpus that is handed over: how its text is read and which utterances are kept.

    It has no preset, since no command line can name such a corpus.
    """

    def open(self, cache_dir: Path, progress: Callable[[int, int], None]) -> Corpus:
        raise CorpusError(
            "this corpus was handed over by a Python program, which alone can open it again: "
            "train(config, corpus=...) or score_model(config, corpus=...) of docs/use-from-python.md."
        )


class MapDataset(Protocol):
    """What a torch.utils.data.Dataset with a length is."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class DatasetCorpus:
    """Torch data sets as a corpus: `train` to train on, `eval` to score during training and at its end.

    With `test`, the weights with the lowest word error rate on `eval` are kept, and `test` is reported. For scoring
    alone, `eval` is enough. An item is `(waveform, text)`, or a dict with `waveform` and `text` and, where they are
    known, `rate` (samples per second, 16,000 if missing), `id` (unique in its data set) and `speaker`. A waveform is a
    tensor or an array, (n,) or (channels, n); full scale is 1, or the integer type's. An item must be the same whenever
    it is asked for. Each is read once at the start for its length and text, and once more to be stored; never by two
    threads at once.
    """

    def __init__(
        self,
        eval: MapDataset,
        train: MapDataset | None = None,
        test: MapDataset | None = None,
        *,
        title: str = "data sets of a Python program",
    ) -> None:
        self.title = title
        self._one_at_a_time = threading.Lock()
        self.datasets = {"train": train, "eval": eval, "test": test}
        self.splits = Splits(train="train", monitor="eval", headline="eval", closing=("eval",))
        if test is not None:
            self.splits = self.splits.with_test("test") if train is not None else replace(
                self.splits, headline="test", closing=("test", "eval")
            )  # fmt: skip

    def utterances(self, split: str, faults: Faults | None = None) -> Iterable[Utterance]:
        """The items of a data set, in its order; CorpusError where one is none of the forms above."""
        faults, dataset = faults or Faults(), self.datasets[split]
        if dataset is None:
            raise CorpusError(f"{self.title}: there is no data set {split!r}. Give DatasetCorpus({split}=...).")
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise CorpusError(
                f"{self.title}: {split} is a {type(dataset).__name__}, without a length or items by number. Give a "
                "map-style Dataset; read an iterable one into a list first."
            )
        for number in range(len(dataset)):
            with faults.noted("an item that is no utterance", split):
                yield self._utterance(dataset, number, split)

    def _utterance(self, dataset: MapDataset, number: int, split: str) -> Utterance:
        origin = f"{split} data set, item {number}"

        def get() -> Mapping[str, Any]:
            with self._one_at_a_time:
                return _read(dataset[number], origin)

        item = get()
        rate, speaker = item.get("rate", SAMPLE_RATE), item.get("speaker")
        if not isinstance(item[TEXT], str):
            _refuse(origin, f"its text is a {type(item[TEXT]).__name__}")
        samples, rate = to_mono(item[WAVEFORM], origin), whole_rate(rate, origin)
        return Utterance(
            id=str(item.get("id", f"{split}-{number}")),
            audio=SampledAudio(
                origin, lambda: to_mono(get()[WAVEFORM], origin), len(samples), digest_of(samples), rate
            ),
            text=item[TEXT],
            speaker=known_name(speaker),
            origin=origin,
        )

    def checksum(self, words_per_split: dict[str, int]) -> None:
        """None: nobody published this corpus' counts."""


def _read(item: Any, origin: str) -> Mapping[str, Any]:
    """An item as a dict."""
    if isinstance(item, tuple | list) and len(item) == 2:
        return {WAVEFORM: item[0], TEXT: item[1]}
    if not isinstance(item, Mapping):
        length = f" of {len(item)}" if isinstance(item, tuple | list) else ""
        _refuse(origin, f"a {type(item).__name__}{length}")
    if missing := [key for key in (WAVEFORM, TEXT) if key not in item]:
        _refuse(origin, f"a dict without {missing[0]!r} (it has {', '.join(map(str, item)) or 'nothing'})")
    if unknown := item.keys() - KNOWN:
        _refuse(origin, f"a dict with {min(map(str, unknown))!r}, which is not known")
    return item


def _refuse(origin: str, found: str) -> NoReturn:
    raise CorpusError(
        f"{origin}: {found}. An item is (waveform, text), or a dict with waveform and text and, if known, rate, id and "
        "speaker. Wrap the data set in one that returns that."
    )
