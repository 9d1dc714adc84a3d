"""Data sets of the `datasets` library. That library is heavy, so nothing here needs it before a corpus is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data.config import CorpusConfig, option
from data.utterance import Corpus


@dataclass(frozen=True, kw_only=True)
class HubConfig(CorpusConfig):
    """a data set of `datasets`: --corpus.dataset HUB_ID_OR_FOLDER"""

    preset = "hub"

    dataset: str = option("", common=True, place=True)
    """Hub id, a local clone of one, or a folder written by save_to_disk."""

    subset: str | None = option(None, common=True)
    """The hub data set's configuration name; none: it has one only."""

    revision: str | None = option(None, free=True)
    """Branch, tag or commit of the hub data set; none: main."""

    train_split: str = "train"
    """Split to train on; slices and sums such as train[:1000] and train+validation work."""

    eval_split: str = "test"
    """Split to evaluate on."""

    test_split: str | None = option(None, common=True)
    """A split of its own to report; the evaluation split then selects the weights; none: that one is
    reported."""

    text_field: str = option("text", common=True)
    """Column that holds the transcript; if there is no "text": sentence, transcription or the like."""

    audio_field: str = "audio"
    """Column that holds the audio: bytes, paths, or arrays with their sampling_rate."""

    id_field: str | None = None
    """Column that holds a unique id; auto: split name and row number."""

    streaming: bool = option(False, common=True, free=True)
    """Read it as a stream, once, into shards under --cache-dir; docs/howto-hub.md has how it resumes."""

    speaker_field: str | None = None
    """Column that holds the speaker; auto: one named speaker, client_id or the like, if there is one."""

    def __post_init__(self) -> None:
        if self.streaming:  # its shards are the copy on this machine: another one, decoded, would be ten times as large
            object.__setattr__(self, "store", False)

    def required(self, training: bool) -> list[tuple[str, str]]:
        return [("--corpus.dataset, a hub id or a folder written by save_to_disk", self.dataset)]

    def open(self, cache_dir: Path, progress: Callable[[int, int], None]) -> Corpus:
        from data.corpora.hub.corpus import HubCorpus  # datasets, pandas and pyarrow: a third of a second

        return HubCorpus(self, cache_dir, progress)
